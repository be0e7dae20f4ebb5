"""Asks an HTTP server at a fixed rate, whether or not it keeps up, and prints the seconds of each answer as JSON.

A request goes out when its time has come, on one of several connections that stand; where all of them wait, it waits as
well, and that counts. One thread on plain sockets, so that little of what is measured is this program.

    python -m bench.openloop PORT PATH RATE SECONDS [CORE]
"""

import json
import os
import select
import socket
import sys
import time
from typing import Final

CONNECTIONS: Final = 16
#: Before what counts: the server's caches, and this program's own.
WARM_UP_S: Final = 0.2
_ANSWERS_WITHIN_S: Final = 10.0


class _Asker:
    """A connection on which one request at a time is under way."""

    def __init__(self, port: int, request: bytes) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.begun_s = self.free_s = 0.0
        self._request = request
        self._got = b""

    def fileno(self) -> int:
        """For select."""
        return self.socket.fileno()

    def ask(self, begun_s: float) -> None:
        """Send the request; its time counts from `begun_s`."""
        self.begun_s = begun_s
        self.socket.sendall(self._request)

    def is_answered(self) -> bool:
        """Read what is there: whether it is all.

        :raises ConnectionError: the server hung up, or refuses.
        """
        part = self.socket.recv(1 << 18)
        self._got += part
        head, separator, body = self._got.partition(b"\r\n\r\n")
        if not part or (separator and not head.startswith(b"HTTP/1.1 200 ")):
            raise ConnectionError(f"no answer, but {self._got[:200]!r}")
        if not separator or len(body) < _length(head):
            return False
        self._got = b""
        return True


def _length(head: bytes) -> int:
    before, _, after = head.lower().partition(b"\r\ncontent-length:")
    return int(after.partition(b"\r\n")[0]) if after else len(before)


def ask(port: int, path: str, rate: float, seconds: float) -> list[float]:
    """The seconds of each request, in the order of the answers.

    :raises TimeoutError: an answer does not come. :raises ConnectionError: the server hangs up, or refuses.
    """
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    askers = [_Asker(port, request) for _ in range(CONNECTIONS)]
    idle, waiting = list(askers), set[_Asker]()
    warm_up = int(rate * WARM_UP_S)
    count = int(rate * seconds) + warm_up
    took: list[float] = []
    begun_s, sent = time.perf_counter(), 0
    while len(took) < count:
        now_s = time.perf_counter()
        due_s = begun_s + sent / rate
        if sent < count and idle and now_s >= due_s:
            asker = idle.pop()
            waiting.add(asker)
            # A timer that woke us late is none of the server's doing; that no connection was free is.
            asker.ask(due_s if asker.free_s > due_s else now_s)
            sent += 1
            continue
        wait_s = max(0.0, due_s - now_s) if sent < count and idle else _ANSWERS_WITHIN_S
        ready, _, _ = select.select(waiting, (), (), wait_s)
        if not ready and wait_s == _ANSWERS_WITHIN_S:
            raise TimeoutError(f"{len(waiting)} requests were not answered within {_ANSWERS_WITHIN_S:g} s")
        for asker in ready:
            if asker.is_answered():
                asker.free_s = time.perf_counter()
                took.append(asker.free_s - asker.begun_s)
                waiting.remove(asker)
                idle.append(asker)
    for asker in askers:
        asker.socket.close()
    return took[warm_up:]


if __name__ == "__main__":
    _, to, what, how_often, how_long, *core = sys.argv
    if core:
        os.sched_setaffinity(0, {int(core[0])})
    print(json.dumps(ask(int(to), what, float(how_often), float(how_long))))
