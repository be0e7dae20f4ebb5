"""`flyball trace` as a process, the rows that it writes, and small programs to be traced."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest

from tests.cli.conftest import ROOT, Flyball

T = TypeVar("T")
#: Before every program; `say(add=3)` is a performance line.
_PRELUDE: Final = """
import json, os, signal, sys, threading, time
def say(**calls):
    print(json.dumps({"type": "performance", "method_calls": calls}), file=sys.stderr, flush=True)
"""


def program(code: str) -> list[str]:
    """A Python program as a command."""
    return [sys.executable, "-c", _PRELUDE + code]


class Trace:
    """`flyball trace` in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        """Write into `directory`."""
        self.directory = directory
        self.file = directory / "t.csv"
        self._flyball = Flyball({"HOME": str(directory), "PYTHONPATH": str(ROOT)})
        self.environ = self._flyball.environ

    def words(self, words: Sequence[str]) -> list[str]:
        """The whole command line."""
        return self._flyball.words(["trace", *words])

    def run(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        return subprocess.run(
            self.words(words), env=self.environ, cwd=self.directory, capture_output=True, text=True,
            timeout=50, check=False, **options,
        )  # fmt: skip

    def start(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        """Start it."""
        piped: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
        return subprocess.Popen(self.words(words), env=self.environ, cwd=self.directory, **piped)

    def json(self, *words: str) -> Any:
        """What it prints with --json, the last line of standard output."""
        return json.loads(self.run("--output", str(self.file), "--json", *words).stdout.splitlines()[-1])

    def rows(self) -> list[dict[str, str]]:
        """The rows that are in the file now; each of them must be whole."""
        text = self.file.read_text("utf-8")
        assert not text or text.endswith("\n")
        rows = list(csv.DictReader(text.splitlines()))
        assert all(None not in row and None not in row.values() for row in rows)
        return rows

    def wait_for(self, enough: Callable[[list[dict[str, str]]], bool]) -> list[dict[str, str]]:
        """The rows, once they are `enough`."""
        return until(lambda: rows if self.file.exists() and enough(rows := self.rows()) else None)


def until(found: Callable[[], T | None], within_s: float = 30.0) -> T:
    """What `found` returns, once it is not None."""
    ends = time.monotonic() + within_s
    while (result := found()) is None:
        assert time.monotonic() < ends, "it did not come in time"
        time.sleep(0.01)
    return result


@pytest.fixture
def trace(tmp_path: Path) -> Trace:
    """The command."""
    return Trace(tmp_path)


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[str]]:
    """A program that is no child of the trace's, and lives until it is killed."""
    code = "threads = [threading.Thread(target=time.sleep, args=(60,), daemon=True) for _ in range(4)]\n"
    code += "for each in threads: each.start()\nprint('ready', flush=True)\nsignal.pause()"
    with subprocess.Popen(program(code), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            os.kill(process.pid, signal.SIGKILL) if process.poll() is None else None
