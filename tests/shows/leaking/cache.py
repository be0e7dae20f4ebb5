"""Looks users up through a cache of 64; the bug: a deploy forgets the bound. A status page says how often.

It counts nothing through the SDK, which only answers what is asked of its inside.
"""

import json
import sys
import threading
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import flyball
from tests.shows.leaking.life import Life

#: A third of all lookups are for these.
REGULARS = 40
ROW = 20_000


class Status(BaseHTTPRequestHandler):
    """Says how much was done."""

    lookups = 0

    def do_GET(self) -> None:
        """The status page."""
        body = json.dumps({"status": "ok", "served": {"lookup": Status.lookups}}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def row_of(user: int) -> bytes:
    """What the data base would answer."""
    return user.to_bytes(8, "big") * (ROW // 8)


def main() -> None:
    """Work until stdin ends."""
    life, calls = Life(), 0
    lookup = lru_cache(maxsize=64)(row_of)
    for user in range(64):
        lookup(user)
    server = ThreadingHTTPServer(("127.0.0.1", life.port), Status)
    threading.Thread(target=server.serve_forever, name="status", daemon=True).start()
    bug = False
    with flyball.Workload(life.name):
        for _ in life.calls(10.0):
            if not bug and life.has_bug():
                bug, lookup = True, lru_cache(maxsize=None)(row_of)
            regular = life.chance.random() < 1 / 3
            lookup(life.chance.randrange(REGULARS) if regular else life.chance.getrandbits(40))
            Status.lookups += 1
            calls += bug
    kept = lookup.cache_info().currsize if bug else 0
    life.tell(leaked=kept * sys.getsizeof(row_of(1)), calls=calls)
    server.shutdown()


if __name__ == "__main__":
    main()
