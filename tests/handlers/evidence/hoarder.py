"""`programs/hoarder.py` as a process, to be looked at."""

import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Final, Self

PROGRAM: Final = Path(__file__).parents[2] / "programs" / "hoarder.py"
THREADS: Final = 30
SOCKETS: Final = 40
FILES: Final = 12


class Hoarder:
    """A context manager that ends it."""

    def __init__(self, directory: Path, threads: int = THREADS, sockets: int = SOCKETS, files: int = FILES) -> None:
        words = [sys.executable, str(PROGRAM), *map(str, (threads, sockets, files)), str(directory)]
        self._process = subprocess.Popen(words, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._line() == "ready"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def start_time_s(self) -> float:
        return start_time_s(self.pid)

    def longest_gap_s(self) -> float:
        """For how long it stood still at most, since it was last asked."""
        assert self._process.stdin is not None
        self._process.stdin.write("?\n")
        self._process.stdin.flush()
        return float(self._line())

    def kill(self) -> None:
        """Without waiting for it: it is a zombie."""
        self._process.kill()
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        with self._process:
            pass


def start_time_s(pid: int) -> float:
    """When a process began, in seconds since boot."""
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")
