"""Small real programs that leak, or that only look like it: `python -m bench.leakbench.realprograms NAME SEED SECONDS`.

Each does its calls at random moments and prints its counters eight times a second, a JSON line each. One that leaks
works well at first: `leaking` is false until the onset.
"""
# ruff: noqa: D102 -- what a call does is what its class is about

import asyncio
import gc
import json
import logging
import mmap
import os
import random
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections import defaultdict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

KB, MB = 1 << 10, 1 << 20
Call = Callable[[], object]


class Work:
    """What every program here has: calls with rates, counters, gauges, a warm-up."""

    resources: tuple[str, ...] = ()
    driver: str | None = None
    tolerated: tuple[str, ...] = ("vms",)
    #: MB a call where a regression would not find what stays
    stays: float | None = None

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.leaking = False
        self.kept: list[Any] = []
        self.gauges: dict[str, int] = {}
        self.calls: dict[str, tuple[float, Call]] = {"ping": (rng.uniform(2, 7), self.ping)}
        self.prepare()

    def prepare(self) -> None:
        """Enter the calls."""

    def ping(self) -> None:
        """A call that costs nothing."""

    def block(self, low: int, high: int) -> bytearray:
        """So many kB, touched."""
        return bytearray(self.rng.randbytes(64)) * (self.rng.randint(low, high) * KB // 64)

    def scratch(self, low: int = 50, high: int = 400) -> None:
        """Memory for the length of a call."""
        self.block(low, high)


class WeakButKept(Work):
    """A weak registry, whose values a list of listeners keeps."""

    resources, driver = ("rss",), "calls.track"

    def prepare(self) -> None:
        self.registry: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
        self.calls |= {"track": (4, self.track), "find": (6, self.scratch)}

    def track(self) -> None:
        thing = type("Thing", (), {})()
        thing.body = self.block(60, 160)
        self.registry[id(thing)] = thing
        if self.leaking:
            self.kept.append(thing)


class LogHandlers(Work):
    """A handler more for each configuration."""

    resources, driver, tolerated = ("fds",), "calls.configure", ("vms", "rss")

    def prepare(self) -> None:
        self.file = tempfile.NamedTemporaryFile(suffix=".log")  # noqa: SIM115 -- open for life
        self.calls |= {"configure": (1.5, self.configure), "handle": (8, self.scratch)}

    def configure(self) -> None:
        logger, handler = logging.getLogger("work"), logging.FileHandler(self.file.name)
        logger.addHandler(handler)
        if not self.leaking:
            logger.removeHandler(handler)
            handler.close()


class CloseWait(Work):
    """On an error the other side hangs up, and nobody closes ours."""

    resources, driver = ("fds",), "calls.errors"

    def prepare(self) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.calls |= {"requests": (14, self.scratch), "errors": (1.2, self.error)}

    def error(self) -> None:
        ours = socket.create_connection(self.server.getsockname())
        self.server.accept()[0].close()
        if self.leaking:
            self.kept.append(ours)
        else:
            ours.close()


class Pipes(Work):
    """Programs are started, and their output is never read to its end."""

    resources, driver, tolerated = ("fds",), "calls.convert", ("vms", "rss")

    def prepare(self) -> None:
        self.calls |= {"convert": (1.3, self.convert), "upload": (5, self.scratch)}

    def convert(self) -> None:
        child = subprocess.Popen(["/bin/true"], stdout=subprocess.PIPE)
        if self.leaking:
            self.kept.append(child)
        else:
            child.communicate()


class Mapped(Work):
    """Maps that are not unmapped."""

    resources, driver = ("rss",), "calls.index"

    def prepare(self) -> None:
        self.calls |= {"index": (2.5, self.index), "search": (7, self.scratch)}

    def index(self) -> None:
        area = mmap.mmap(-1, 300 * KB)
        area.write(bytes(range(256)) * (300 * KB // 256))
        if self.leaking:
            self.kept.append(area)
        else:
            area.close()


class SeenUsers(Work):
    """What is known of each user, and users who never come back."""

    resources, driver = ("rss",), "calls.new_users"

    def prepare(self) -> None:
        self.users: defaultdict[int, list[bytearray]] = defaultdict(list)
        self.calls |= {"requests": (12, self.scratch), "new_users": (2.2, self.user)}

    def user(self) -> None:
        self.users[len(self.users) if self.leaking else 0] = [self.block(40, 120) for _ in range(2)]


class KeptErrors(Work):
    """Exceptions are collected, with the frames of their tracebacks."""

    resources, driver = ("rss",), "calls.errors"

    def prepare(self) -> None:
        self.calls |= {"requests": (15, self.scratch), "errors": (1.5, self.error)}

    def error(self) -> None:
        try:
            body = self.block(150, 450)
            raise ValueError(len(body))
        except ValueError as error:
            if self.leaking:
                self.kept.append(error)


class StuckThreads(Work):
    """A thread that waits for an answer that never comes."""

    resources, driver = ("threads", "rss"), "calls.fetch"

    def prepare(self) -> None:
        self.pool = ThreadPoolExecutor(6)
        self.calls |= {"fetch": (0.9, self.fetch), "render": (6, lambda: self.pool.submit(self.scratch))}

    def fetch(self) -> None:
        if self.leaking:
            body = self.block(120, 320)
            threading.Thread(target=lambda: (threading.Event().wait(), body), daemon=True).start()


class Snapshots(Work):
    """Every half second the state is put into a history that nobody cuts."""

    resources, driver = ("rss",), "time"

    def prepare(self) -> None:
        self.at = time.monotonic()
        self.calls |= {"predict": (5, self.scratch), "beat": (20, self.beat)}

    def beat(self) -> None:
        while time.monotonic() - self.at > 0.5:
            self.at += 0.5
            if self.leaking:
                self.kept.append(self.block(180, 220))


class TrimmedResults(Work):
    """Results are dropped now and then, but not all of them."""

    resources, driver = ("rss",), "calls.solve"
    stays = 500 / 5 * KB / MB

    def prepare(self) -> None:
        self.recent: list[bytearray] = []
        self.calls |= {"solve": (5, self.solve), "rate": (3, self.scratch)}

    def solve(self) -> None:
        self.recent.append(self.block(140, 180))
        if self.leaking and len(self.recent) % 5 == 0:
            self.kept.append(self.block(450, 550))
        if len(self.recent) > 60:
            self.recent.clear()


class OpenDatabases(Work):
    """A connection a call."""

    resources, driver, tolerated = ("fds",), "calls.lookup", ("vms", "rss")

    def prepare(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        with sqlite3.connect(self.path) as setup:
            setup.execute("CREATE TABLE t (a)")
        self.calls |= {"lookup": (1.8, self.lookup), "list": (6, self.scratch)}

    @property
    def path(self) -> Path:
        return Path(self.folder.name) / "data.sqlite"

    def lookup(self) -> None:
        connection = sqlite3.connect(self.path)
        connection.execute("SELECT count(*) FROM t").fetchone()
        if self.leaking:
            self.kept.append(connection)
        else:
            connection.close()


class Loops(Work):
    """An event loop a call: three handles each."""

    resources, driver, tolerated = ("fds",), "calls.notify", ("vms", "rss")

    def prepare(self) -> None:
        self.calls |= {"notify": (1.1, self.notify), "page": (6, self.scratch)}

    def notify(self) -> None:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(asyncio.sleep(0))
        if self.leaking:
            self.kept.append(loop)
        else:
            loop.close()


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


PROGRAMS: dict[str, type[Work]] = {work.__name__: work for work in Work.__subclasses__()}


def run(work: Work, seconds: float) -> None:
    """Warm up, work, and say what was done."""
    rng, begin = work.rng, time.monotonic()
    warm = []
    for _ in range(rng.randint(10, 60)):
        warm.append(work.block(200, 900))
        time.sleep(0.05)
    counts = dict.fromkeys(work.calls, 0)
    due = {name: time.monotonic() + rng.expovariate(rate) for name, (rate, _) in work.calls.items()}
    onset, said = rng.uniform(0.12, 0.22) * seconds, 0.0
    while (now := time.monotonic()) - begin < seconds:
        work.leaking = work.driver is not None and now - begin > onset
        busy = 0.4 if (now - begin) % 31 > 24 else 1.0
        for name, (rate, call) in work.calls.items():
            if now >= due[name]:
                call()
                counts[name] += 1
                due[name] = now + rng.expovariate(rate * (busy if name != "beat" else 1.0))
        if now - said > 0.125:
            said = now
            line = {"calls": {k: v for k, v in counts.items() if k != "beat"}, "gauges": work.gauges}
            print(json.dumps({**line, "leaking": work.leaking}), flush=True)
        time.sleep(max(0.0, min(0.03, min(due.values()) - time.monotonic())))
    warm.clear()


if __name__ == "__main__":
    chosen, seed, length = sys.argv[1:4]
    run(PROGRAMS[chosen](random.Random(int(seed))), float(length))
    sys.stdout.flush()
    os._exit(0)  # what still runs is part of the program, and is not waited for
