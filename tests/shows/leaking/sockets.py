"""Asks another server again and again, which now and then answers with an error; the bug: errors are kept for later.

Each keeps its connection, which the server has closed: a socket in CLOSE_WAIT.
"""

import socket

import flyball
from tests.shows.leaking.life import Life


class Failure(Exception):
    """An answer that was an error, and the connection it came on."""

    def __init__(self, answer: bytes, connection: socket.socket) -> None:
        super().__init__(answer.decode())
        self.connection = connection


def ask(port: int) -> bytes:
    """One request.

    :raises Failure: the answer is an error.
    """
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    connection.sendall(b"GET /item\n")
    answer = connection.recv(4096)
    if answer.startswith(b"500"):
        raise Failure(answer, connection)
    connection.close()
    return answer


def main() -> None:
    """Work until stdin ends."""
    life = Life()
    failures: list[Failure] = []
    with flyball.Workload(life.name) as workload:
        workload.count("requests", 0)
        workload.count("errors", 0)
        for _ in life.calls(4.0):
            workload.count("requests")
            try:
                ask(life.port)
            except Failure as failure:
                workload.count("errors")
                if life.has_bug():
                    failures.append(failure)
                else:
                    failure.connection.close()
    life.tell(leaked=len(failures), calls=len(failures))


if __name__ == "__main__":
    main()
