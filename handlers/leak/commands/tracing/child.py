"""Runs the command that is traced: its performance lines are counted, all else that it says passes unchanged."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import ClassVar, Final

from supervisor.command import FlyballError, Tally, performance_of_line

#: A line that is longer is none of ours.
_LONGEST_LINE: Final = 65_536
_CHUNK: Final = 65_536
#: How long after its end we wait for what is still in the pipe; what it left in the background may hold it open.
_LAST_WORDS_S: Final = 0.5


class NoSuchCommand(FlyballError):
    """There is no such program; the exit code is a shell's."""

    exit_code: ClassVar[int] = 127


class CannotRun(FlyballError):
    """The program is there and cannot be run."""

    exit_code: ClassVar[int] = 126


class Child:
    """The command as our child, in our process group; a `CounterSource` of its performance lines."""

    def __init__(self, words: Sequence[str], aside: Callable[[], AbstractContextManager[None]]) -> None:
        """Start it. What it says on standard error is written within `aside()`.

        :raises FlyballError: it cannot be started.
        """
        self.name = f"lines of {words[0]}"
        self.latest: tuple[float, Tally] | None = None
        self.trouble = ""
        self._aside = aside
        try:
            self._process = subprocess.Popen(words, stderr=subprocess.PIPE, bufsize=0)
        except FileNotFoundError as error:
            raise NoSuchCommand(
                f"{words[0]} cannot be started", why="there is no such program, or none that its first line names",
                hint="Check the spelling, or give the whole path",
            ) from error  # fmt: skip
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise CannotRun(f"{words[0]} cannot be started", why=why, hint="Check that it is a program") from error
        self.pid = self._process.pid
        assert self._process.stderr is not None, "it is a pipe"
        self._pipe = self._process.stderr
        self._reader = threading.Thread(target=self._read, name="standard error of the command", daemon=True)
        self._reader.start()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal; nothing where it has ended."""
        self._process.send_signal(number)

    def wait(self, timeout_s: float | None = None) -> int:
        """Its exit code, or minus the number of the signal that ended it, after its last words.

        :raises subprocess.TimeoutExpired: it goes on.
        """
        code = self._process.wait(timeout_s)
        self._reader.join(_LAST_WORDS_S)
        return code

    def _read(self) -> None:
        """Pass standard error through, in lines where a line may be ours, else as it comes."""
        line = b""
        passing = False  # in the middle of a line that is not ours
        while chunk := self._pipe.read(_CHUNK):
            foreign: list[bytes] = []
            for piece in _lines(chunk):
                line += piece
                ends = line.endswith(b"\n")
                if passing or not line.lstrip().startswith(b"{") or len(line) > _LONGEST_LINE:
                    foreign.append(line)
                    passing, line = not ends, b""
                elif ends:
                    if not self._counted(line):
                        foreign.append(line)
                    line = b""
            self._pass_on(b"".join(foreign))
        if line and not self._counted(line):
            self._pass_on(line)

    def _counted(self, line: bytes) -> bool:
        """Whether it is a performance line; one that is broken is not, and passes through."""
        try:
            said = performance_of_line(line)
        except ValueError as error:
            self.trouble = str(error)
            return False
        if said is None:
            return False
        self.latest = (time.monotonic(), said.tally)
        self.trouble = said.missing
        return True

    def _pass_on(self, said: bytes) -> None:
        if not said:
            return
        with self._aside():
            while said:
                try:
                    said = said[os.write(2, said) :]
                except OSError:
                    return  # nobody hears us either; the command is not held up for that


def _lines(chunk: bytes) -> list[bytes]:
    r"""Split behind `\n` alone: progress bars go back with `\r` within a line."""
    parts = chunk.split(b"\n")
    return [part + b"\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])
