"""Follows a performance log by its name, as `tail -F` does: across rotation, truncation, and while it is missing."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from supervisor.sampling.counters.aside import Aside
from supervisor.sampling.counters.lines import MARK, Performance, performance_of_line
from supervisor.sampling.counters.regular import open_regular
from supervisor.sampling.counters.source import Told, Untold

#: No line of a performance log is longer; a longer one is told, or passed over where it is longer than a whole read.
LONGEST_LINE: Final = 1 << 16
#: So much of a file is read at one poll: of what was written meanwhile the end is what counts.
MOST_AT_ONCE: Final = 1 << 20
#: So many lines are decoded in search of the last performance line.
_MOST_CANDIDATES: Final = 200


class LinesReader:
    """The `Reader` of the kind lines: the last whole performance line that was written since the last look."""

    def __init__(self, file: str, *, timeout_s: float, wall: Callable[[], float] = time.time) -> None:
        """`wall` tells Unix time: how old a line is follows from when its file was written."""
        self.name = f"lines {file}"
        self._file = file
        self._wall = wall
        self._aside = Aside(timeout_s)
        #: What a look that was left behind has read is lost, so the next one begins anew.
        self._anew = False
        self._descriptor = -1
        self._position = 0
        #: In the middle of a line whose begin was passed over.
        self._inside = False
        #: Of the last line, once it has been told; until then, that there was none.
        self._trouble = f'{self.name}: there is no line of type "performance" in it yet'

    async def open(self) -> None:
        """Nothing to get ready: the file may come later."""

    async def read(self) -> Told | None:
        """What the last new line says; None where there is none, and the one before was well.

        :raises Untold: the file cannot be read, the line is broken, or there was never one.
        """
        try:
            found = await self._aside.look(self._look)
        except Untold as error:
            self._anew = True
            raise Untold(f"{self.name}: {error}") from None
        except OSError as error:
            raise Untold(
                f"{self.name}: it cannot be read: {error.strerror}; is the program running that writes it?"
            ) from None
        except ValueError as error:
            self._trouble = f"{self.name}: {error}"
        else:
            if found is not None:
                self._trouble = ""
                return found
        if self._trouble:
            raise Untold(self._trouble)
        return None

    async def close(self) -> None:
        """Close the file, unless a look at it is under way; what follows begins anew."""
        self._anew = True
        with suppress(Untold):
            await self._aside.look(self._release)

    def _release(self) -> None:
        descriptor = self._descriptor
        self._descriptor, self._position, self._inside = -1, 0, False
        if descriptor >= 0:
            os.close(descriptor)

    def _look(self) -> Told | None:
        """The last of what is new in the file that is open and, where another one bears its name now, in that."""
        last: Told | None = None
        if self._anew:
            self._anew = False
            self._release()
        if self._descriptor >= 0:
            try:
                there = Path(self._file).stat()
            except FileNotFoundError:
                # stay: the program may go on with the file that it has, whatever its name is now
                last = self._new()
                if last is None:
                    raise
                return last
            last = self._new()
            if os.path.samestat(there, os.fstat(self._descriptor)):
                return last
            self._release()
        self._descriptor = open_regular(self._file)
        return self._new() or last

    def _new(self) -> Told | None:
        """The last performance line among those that are whole and new.

        :raises ValueError: it is broken; the text is a sentence.
        """
        status = os.fstat(self._descriptor)
        if status.st_size < self._position:  # truncated: it begins anew
            self._position, self._inside = 0, False
        if status.st_size - self._position > MOST_AT_ONCE:
            self._position, self._inside = status.st_size - MOST_AT_ONCE, True
        os.lseek(self._descriptor, self._position, os.SEEK_SET)
        lines = self._whole(os.read(self._descriptor, MOST_AT_ONCE))
        said = _last(lines)
        if said is None:
            return None
        missing = f"{self.name}: {said.missing}" if said.missing else ""
        return Told(tally=said.tally, age_s=max(0.0, self._wall() - status.st_mtime), missing=missing)

    def _whole(self, content: bytes) -> bytes:
        """The whole lines of `content`, which begins at `_position`; what follows them is read again the next time."""
        whole, end, _ = content.rpartition(b"\n")
        self._position += len(whole) + len(end)
        if self._inside and end:
            whole, self._inside = whole.partition(b"\n")[2], False
        return whole


def _last(lines: bytes) -> Performance | None:
    end = len(lines)
    for _ in range(_MOST_CANDIDATES):
        at = lines.rfind(MARK, 0, end)
        if at < 0:
            return None
        start = lines.rfind(b"\n", 0, at) + 1
        stop = lines.find(b"\n", at)
        line = lines[start : stop if stop >= 0 else len(lines)]
        if len(line) > LONGEST_LINE:
            raise ValueError(f"a performance line is longer than {LONGEST_LINE >> 10} KiB")
        said = performance_of_line(line)
        if said is not None:
            return said
        end = start
    return None
