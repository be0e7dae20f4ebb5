"""The sockets of a process by kind: the kernel's tables of its network, joined by inode."""

from collections.abc import Callable
from typing import Final

from handlers.evidence.process import Process, lines

#: A table of some 200,000 sockets.
MOST_BYTES: Final = 32 << 20
#: include/net/tcp_states.h
_TCP: Final = {
    b"01": "ESTABLISHED", b"02": "SYN_SENT", b"03": "SYN_RECV", b"04": "FIN_WAIT1", b"05": "FIN_WAIT2",
    b"06": "TIME_WAIT", b"07": "CLOSE", b"08": "CLOSE_WAIT", b"09": "LAST_ACK", b"0A": "LISTEN", b"0B": "CLOSING",
    b"0C": "NEW_SYN_RECV",
}  # fmt: skip
_UNIX: Final = {b"0001": "stream", b"0002": "datagram", b"0005": "seqpacket"}


def kinds(process: Process, in_time: Callable[[], bool]) -> tuple[dict[str, str], list[str]]:
    """Inode → kind, such as `tcp CLOSE_WAIT`; and the names of the tables that could not be read whole."""
    found: dict[str, str] = {}
    unread = []
    for name, read in _TABLES.items():
        try:
            if not in_time():
                unread.append(name)
                continue
            read(process, name, found)
        except FileNotFoundError:
            continue  # a kernel without that family
        except (OSError, ValueError, IndexError):
            unread.append(name)
    return found, unread


def _tcp(process: Process, name: str, found: dict[str, str]) -> None:
    # sl local_address rem_address st queues timer retransmits uid timeout inode
    for words in lines(f"net/{name}", process, MOST_BYTES):
        if len(words) > 9:
            found[words[9].decode()] = f"{name} {_TCP.get(words[3], words[3].decode())}"


def _plain(process: Process, name: str, found: dict[str, str]) -> None:
    for words in lines(f"net/{name}", process, MOST_BYTES):
        if len(words) > 9:
            found[words[9].decode()] = name


def _unix(process: Process, name: str, found: dict[str, str]) -> None:
    # num refcount protocol flags type st inode path
    for words in lines(f"net/{name}", process, MOST_BYTES):
        if len(words) > 6:
            found[words[6].decode()] = f"unix {_UNIX.get(words[4], words[4].decode())}"


_TABLES: Final[dict[str, Callable[[Process, str, dict[str, str]], None]]] = {
    "tcp": _tcp, "tcp6": _tcp, "udp": _plain, "udp6": _plain, "unix": _unix,
}  # fmt: skip
