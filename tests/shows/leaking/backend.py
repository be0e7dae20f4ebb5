"""A server that answers a line and closes the connection; one answer in five, by chance, is an error."""

import random
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

ERRORS: Final = 0.2
_chance = random.Random(11)


class Answer(socketserver.StreamRequestHandler):
    """One request."""

    def handle(self) -> None:
        """Answer it."""
        if self.rfile.readline():
            self.wfile.write(b"500 try again\n" if _chance.random() < ERRORS else b"200 here it is\n")


class Server(socketserver.ThreadingTCPServer):
    """Threads of it end with the program."""

    daemon_threads = True


@contextmanager
def backend() -> Iterator[int]:
    """Inside it answers; its port."""
    with Server(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, name="backend")
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
