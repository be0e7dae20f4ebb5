"""`programs/leaker.py` as a process, and the supervisor's questions to it."""

import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

from flyball.wire import InnerEvidence, Join
from tests.sdk.supervision import HOST, PATIENCE_S, Supervisor

ROOT: Final = Path(__file__).parents[2]
SOURCE: Final = ROOT / "tests" / "programs" / "leaker.py"
NAME: Final = "leaker"


class Told(NamedTuple):
    """What the program says of itself."""

    longest_gap_s: float
    traces: bool
    kept: int


class Leaker:
    """A context manager that ends it; it has joined, and hears what it is asked."""

    def __init__(self, supervisor: Supervisor, *options: str, name: str = NAME) -> None:
        self._supervisor = supervisor
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.programs.leaker", name, *options], cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONFAULTHANDLER": "1"},
        )  # fmt: skip
        assert self._line() == "began"
        joined = supervisor.until(Join, workload=name, pid=self._process.pid).decode(Join)
        self.name, self.pid, self.start_time_s = name, joined.pid, joined.start_time_s

    def ask(
        self, id: str, *, within_s: float = 1.0, pid: int | None = None, start_time_s: float | None = None,
        host: str = HOST,
    ) -> None:  # fmt: skip
        """Ask it once it listens; or another process of its workload."""
        self._supervisor.ask(
            self.name, self.pid if pid is None else pid, self.start_time_s if start_time_s is None else start_time_s,
            id=id, within_s=within_s, host=host,
        )  # fmt: skip

    def answer(self, id: str) -> InnerEvidence:
        """What it found."""
        return self._supervisor.until(InnerEvidence, ask=id).decode(InnerEvidence)

    def told(self) -> Told:
        """Since it was last asked."""
        assert self._process.stdin is not None
        self._process.stdin.write("?\n")
        self._process.stdin.flush()
        gap_s, traces, kept = self._line().split()
        return Told(float(gap_s), traces == "True", int(kept))

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._process.kill()
        assert self._process.stdin is not None
        self._process.stdin.close()
        code = self._process.wait(PATIENCE_S)
        if self._process.stdout is not None:
            self._process.stdout.close()
        assert kind is not None or code == 0, f"it ended with {code}"


def line_of(text: str) -> int:
    """The number of the line in the program's source that holds `text`."""
    (number,) = [number for number, line in enumerate(SOURCE.read_text().splitlines(), 1) if text in line]
    return number
