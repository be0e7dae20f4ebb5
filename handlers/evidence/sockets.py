"""The sockets of a process by kind: the kernel's tables of its network, joined by inode."""

from collections.abc import Callable, Set
from typing import Final

from handlers.evidence.process import Process

#: A table of some 200,000 sockets.
MOST_BYTES: Final = 32 << 20
#: include/net/tcp_states.h
_TCP: Final = {
    b"01": "ESTABLISHED", b"02": "SYN_SENT", b"03": "SYN_RECV", b"04": "FIN_WAIT1", b"05": "FIN_WAIT2",
    b"06": "TIME_WAIT", b"07": "CLOSE", b"08": "CLOSE_WAIT", b"09": "LAST_ACK", b"0A": "LISTEN", b"0B": "CLOSING",
    b"0C": "NEW_SYN_RECV",
}  # fmt: skip
_UNIX: Final = {b"0001": "stream", b"0002": "datagram", b"0005": "seqpacket"}


def kinds(process: Process, inodes: Set[str], in_time: Callable[[], bool]) -> tuple[dict[str, str], list[str]]:
    """Inode → kind, such as `tcp CLOSE_WAIT`, of these inodes; and the names of the tables not read to their end."""
    found: dict[str, str] = {}
    unread = []
    for name, (place, kind) in _TABLES.items():
        try:
            for words in process.rows(f"net/{name}", MOST_BYTES, in_time):
                if len(words) > place and (inode := words[place].decode()) in inodes:
                    found[inode] = kind(name, words)
        except FileNotFoundError:
            continue  # a kernel without that family
        except (OSError, ValueError, IndexError):
            unread.append(name)
    return found, unread


def _tcp(name: str, words: list[bytes]) -> str:
    # sl local_address rem_address st queues timer retransmits uid timeout inode
    return f"{name} {_TCP.get(words[3], words[3].decode())}"


def _unix(name: str, words: list[bytes]) -> str:
    # num refcount protocol flags type st inode path
    return f"{name} {_UNIX.get(words[4], words[4].decode())}"


#: Where the inode stands in a line, and what the line says of its socket.
_TABLES: Final[dict[str, tuple[int, Callable[[str, list[bytes]], str]]]] = {
    "tcp": (9, _tcp), "tcp6": (9, _tcp), "udp": (9, lambda name, _: name), "udp6": (9, lambda name, _: name),
    "unix": (6, _unix),
}  # fmt: skip
