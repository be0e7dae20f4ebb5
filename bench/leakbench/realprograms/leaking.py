"""Real programs that leak once `leaking` is true."""
# ruff: noqa: D102 -- what a call does is what its class is about

import asyncio
import logging
import mmap
import socket
import sqlite3
import subprocess
import tempfile
import threading
import time
import weakref
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.leakbench.realprograms.work import KB, MB, Work


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
