"""Real programs that only look like it."""
# ruff: noqa: D102 -- what a call does is what its class is about

import gc
import json
import socket
import sqlite3
import tempfile
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

from bench.leakbench.realprograms.work import Work


class LastMessages(Work):
    """The last messages only."""

    def prepare(self) -> None:
        self.last: deque[bytearray] = deque(maxlen=160)
        self.calls |= {"message": (7, lambda: self.last.append(self.block(150, 250))), "read": (5, self.scratch)}


class Batches(Work):
    """Rows are collected, and written together."""

    def prepare(self) -> None:
        self.limit = self.rng.randint(150, 260)
        self.calls |= {"row": (9, self.row), "status": (2, self.scratch)}

    def row(self) -> None:
        self.kept.append(self.block(150, 250))
        if len(self.kept) > self.limit:
            self.kept.clear()


class BoundedKeys(Work):
    """A cache without a limit on keys that have one."""

    def prepare(self) -> None:
        self.page = cache(lambda key: self.block(200, 400))
        self.calls |= {"page": (9, lambda: self.page(int(self.rng.triangular(0, 120, 0)))), "edit": (3, self.scratch)}


class Arenas(Work):
    """Each thread of a pool grows its arena, and no more."""

    def prepare(self) -> None:
        self.pool = ThreadPoolExecutor(10)
        self.calls |= {"task": (5, lambda: self.pool.submit(self.pieces)), "poll": (5, self.ping)}

    def pieces(self) -> int:
        return len([bytes(self.rng.randint(100, 6000)) for _ in range(600)])


class JsonChurn(Work):
    """Documents are parsed and thrown away."""

    def prepare(self) -> None:
        self.text = json.dumps([{"id": n, "name": f"item {n}", "tags": list(range(n % 9))} for n in range(3000)])
        self.calls |= {"parse": (5, lambda: json.loads(self.text[: self.text.rindex("}, ", 0, self.cut()) + 1] + "]"))}

    def cut(self) -> int:
        return self.rng.randint(2000, len(self.text))


class FileWaves(Work):
    """Temporary files are kept for a while and closed together."""

    def prepare(self) -> None:
        self.calls |= {"part": (4, self.part), "merge": (0.09, self.kept.clear), "look": (4, self.scratch)}

    def part(self) -> None:
        self.kept.append(tempfile.TemporaryFile())  # noqa: SIM115 -- closed with the others


class Cycles(Work):
    """Cycles that only the collector frees."""

    def prepare(self) -> None:
        gc.set_threshold(200_000, 50, 50)
        self.calls |= {"parse": (7, self.parse), "collect": (0.13, gc.collect)}

    def parse(self) -> None:
        one: dict[str, Any] = {"body": self.block(150, 350)}
        one["self"] = one


class LoadPool(Work):
    """Connections and memory follow the sessions, which come and go."""

    def prepare(self) -> None:
        self.sessions: list[tuple[socket.socket, socket.socket, bytearray]] = []
        self.calls |= {"request": (8, self.scratch), "sessions": (6, self.change)}

    def change(self) -> None:
        wanted = 25 + 18 * abs((time.monotonic() / 45) % 2 - 1) + self.rng.randint(-3, 3)
        if len(self.sessions) < wanted:
            self.sessions.append((*socket.socketpair(), self.block(300, 500)))
        elif self.sessions:
            for end in self.sessions.pop(0)[:2]:
                end.close()
        self.gauges["sessions"] = len(self.sessions)


class SlowPool(Work):
    """A pool that grows with its first tasks, to its limit."""

    def prepare(self) -> None:
        self.pool = ThreadPoolExecutor(24)
        self.calls |= {"job": (2.5, lambda: self.pool.submit(time.sleep, 15)), "health": (4, self.scratch)}


class Window(Work):
    """A table in memory of which the oldest rows are deleted."""

    def prepare(self) -> None:
        self.table = sqlite3.connect(":memory:")
        self.table.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, body BLOB)")
        self.calls |= {"insert": (9, self.insert), "select": (5, self.scratch)}

    def insert(self) -> None:
        n = self.table.execute("INSERT INTO t (body) VALUES (?)", (self.block(80, 160),)).lastrowid or 0
        self.table.execute("DELETE FROM t WHERE n < ?", (n - 200,))


class LiveSessions(Work):
    """More and more is open, and a gauge says so."""

    def prepare(self) -> None:
        self.calls |= {"open": (3.2, self.open), "close": (1.8, self.close), "draw": (4, self.scratch)}

    def open(self) -> None:
        self.kept.append(self.block(250, 350))
        self.gauges["open_documents"] = len(self.kept)

    def close(self) -> None:
        if self.kept:
            self.kept.pop(self.rng.randrange(len(self.kept)))
        self.gauges["open_documents"] = len(self.kept)
