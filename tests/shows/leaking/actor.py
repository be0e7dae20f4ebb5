"""A program of the show as it runs: what was said of it, what was undecided, and the truth that it told."""

import json
import re
import subprocess
import sys
import threading
import time
from datetime import datetime
from typing import NamedTuple

from handlers.leak.routes import LeakGrowth, Leaks
from schemas.envelope import Event
from schemas.leak import LeakReport, Resource
from tests.daemon import ROOT, Daemon


class Cast(NamedTuple):
    """A program of `tests/shows/leaking`, what it leaks, and which drivers are right for what."""

    name: str
    resource: Resource | None = None
    #: of the resource, and of others that leak with it
    drivers: dict[str, tuple[str, ...]] = {}  # noqa: RUF012 - never changed
    calm_s: float = 60.0
    more: tuple[str, ...] = ()

    @property
    def module(self) -> str:
        """The part of the name before any `-`."""
        return self.name.partition("-")[0]


class Actor:
    """A program that runs, what was said of it, and the truth that it told."""

    def __init__(self, cast: Cast, daemon: Daemon, port: int, seed: int = 1) -> None:
        self.cast = cast
        words = [
            sys.executable, "-m", f"tests.shows.leaking.{cast.module}", cast.name, "--calm", str(cast.calm_s),
            "--seed", str(seed), "--port", str(port), *cast.more,
        ]  # fmt: skip
        self.began_s = time.time()
        self._process = subprocess.Popen(
            words, cwd=ROOT, env=daemon.workload_environ, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.truth: dict[str, float] = {}
        self._said: list[tuple[float, str, LeakReport]] = []
        #: seconds since the begin, and what the API said of what is undecided, whenever that changed
        self.undecided: list[tuple[float, str]] = []
        self.latest = "not seen"
        self._reader = threading.Thread(target=self._read, name=f"output of {cast.name}")
        self._reader.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def zero_s(self) -> float:
        """Unix time of the switch-on, or else of the begin."""
        return self.truth.get("on", self.began_s)

    @property
    def said(self) -> list[tuple[float, str, LeakReport]]:
        """All events about it, in order: seconds from the switch-on or else the begin, stage, report."""
        return [(at - self.zero_s, stage, report) for at, stage, report in self._said]

    def confirmed_s(self, resource: str) -> float | None:
        """From the switch-on to the confirmation."""
        return next((at for at, stage, one in self.said if (stage, one.resource) == ("confirmed", resource)), None)

    def hear(self, event: Event) -> None:
        """An event about it."""
        at = datetime.fromisoformat(event.time).timestamp()
        self._said.append((at, event.type.rpartition(".")[2], event.decode(LeakReport)))

    def look(self, leaks: Leaks) -> None:
        """What the API says of it."""
        # address space warms up with every arena, and is never more than suspected
        rows = [
            growth
            for one in leaks.subjects
            if one.pid == self.pid
            for growth in one.growths
            if growth.verdict.resource != "vms" or growth.verdict.stage == "suspected"
        ]
        rows.sort(key=lambda row: row.verdict.resource)
        self.latest = text = "; ".join(_undecided(row) for row in rows) or "steady"
        if not self.undecided or _without_time(self.undecided[-1][1]) != _without_time(text):
            self.undecided.append((time.time() - self.began_s, text))

    def end(self) -> None:
        """End its stdin, and wait for the truth."""
        assert self._process.stdin is not None, "it is a pipe"
        self._process.stdin.close()
        try:
            self._process.wait(20)
        finally:
            self._process.kill()
            self._process.wait()
            self._reader.join()

    def _read(self) -> None:
        assert self._process.stdout is not None, "it is a pipe"
        with self._process.stdout as lines:
            for line in lines:
                self.truth |= json.loads(line)


def _undecided(row: LeakGrowth) -> str:
    until = f" (undecided until {row.undecided_until[11:19]})" if row.undecided_until else ""
    return f"{row.verdict.resource} {row.verdict.stage}: {row.verdict.reason}{until}"


def _without_time(text: str) -> str:
    return re.sub(r" \(undecided until [^)]*\)", "", text)
