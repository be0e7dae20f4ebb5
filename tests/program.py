"""A program that obeys through the SDK, as a process, and how fast it went."""

import subprocess
import sys
import threading
from bisect import bisect_left
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

TRAINER: Final = Path(__file__).parent / "programs" / "trainer.py"


class Pace(NamedTuple):
    """Steps a second: as they came, and as they would have come one after the other, without a rest between them.

    The latter is measured at the same time, because a busy machine makes each step longer.
    """

    rate_hz: float
    full_rate_hz: float

    @property
    def share(self) -> float:
        """The share of full speed; 0 where it stood still."""
        return self.rate_hz / self.full_rate_hz if self.full_rate_hz else 0.0


class Program:
    """`trainer.py` under a name of its own, on these cards; a context manager that ends it."""

    def __init__(self, environ: Mapping[str, str], name: str = "trainer", gpus: tuple[int, ...] = (0,)) -> None:
        """`environ` is `Daemon.workload_environ`."""
        self.name = name
        #: when each step was done
        self.steps_s: list[float] = []
        self._works_s: list[float] = []
        self.cleanups: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, TRAINER, name, *map(str, gpus)], env=dict(environ), text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )  # fmt: skip
        self._stepped = threading.Event()
        self._reader = threading.Thread(target=self._read, name=f"output of {name}")
        self._reader.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def next_step(self, within_s: float = 30.0) -> float:
        """When the next step is done, once it is."""
        self._stepped.clear()
        assert self._stepped.wait(within_s), f"{self.name} did no step within {within_s:g} s"
        return self.steps_s[-1]

    def pace(self, from_s: float, to_s: float) -> Pace:
        """How fast it went between two times on CLOCK_MONOTONIC."""
        first, last = bisect_left(self.steps_s, from_s), bisect_left(self.steps_s, to_s) - 1
        if last <= first:
            return Pace(0.0, 0.0)
        worked_s = sum(self._works_s[first + 1 : last + 1])
        steps, passed_s = last - first, self.steps_s[last] - self.steps_s[first]
        return Pace(steps / passed_s, steps / worked_s)

    def end(self) -> int:
        """SIGTERM, and its exit code."""
        self._process.terminate()
        code = self._process.wait(30)
        self._reader.join()
        return code

    def kill(self) -> None:
        """SIGKILL: it says no goodbye."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        """It runs already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave no process behind."""
        self.kill()
        self._reader.join()

    def _read(self) -> None:
        assert self._process.stdout is not None, "it is a pipe"
        with self._process.stdout as lines:
            for line in lines:
                word, _, rest = line.strip().partition(" ")
                if word == "step":
                    began_s, done_s = map(float, rest.split())
                    self._works_s.append(done_s - began_s)
                    self.steps_s.append(done_s)
                    self._stepped.set()
                elif word == "cleanup":
                    self.cleanups.append(rest)
