"""The file of a trace: a row is written whole or not at all, and a counter that appears late gets its column."""

import csv
import errno
import io
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from supervisor.command import FlyballError

#: As the thread study wrote them; what it counted follows, and then ours.
LEADING: Final = ("Time(s)", "Threads", "RSS(MB)", "VMS(MB)")
OURS: Final = ("Handles", "RSSAnon(MB)", "CPU(s)", "Children", "VRAM(MB)")
#: There in every trace.
ALWAYS: Final = (*LEADING, *OURS[:-1])
_REQUESTS: Final = ("Requests(completed)", "Requests(processing)", "Requests(pending)")
#: A program that gives each request a name of its own must not have the file written anew for ever; `flyball correlate`
#: reads as many.
MOST_COLUMNS: Final = 200
#: Columns of these kinds stand in this order.
_KINDS: Final = ("MethodCalls(", "Requests(", "", "Gauge(")


def counted_column(name: str) -> str:
    """The column of a cumulative count."""
    return f"Requests({name.removeprefix('requests.')})" if name.startswith("requests.") else f"MethodCalls({name})"


def gauge_column(name: str) -> str:
    """The column of a level."""
    return f"Requests({name.removeprefix('requests.')})" if name.startswith("requests.") else f"Gauge({name})"


def header(columns: Iterable[str]) -> list[str]:
    """The columns in the order of the file; where nothing else tells, they stay as they come."""
    return sorted(dict.fromkeys((*ALWAYS, *columns)), key=_place)


def _place(column: str) -> tuple[int, int]:
    if column in LEADING:
        return 0, LEADING.index(column)
    kind = next((kind for kind in _KINDS if kind and column.startswith(kind)), "")
    order = _REQUESTS if kind == "Requests(" else OURS
    return 1 + _KINDS.index(kind), order.index(column) if column in order else len(order)


class TraceFile:
    """Rows of a trace, each of which is in the file as soon as it is added.

    A column that comes later is put in by writing the file anew beside itself and renaming it. What cannot be written
    anew (standard output, a pipe) keeps its first columns; rows may be held back for a moment until they are known.
    """

    def __init__(self, path: Path | None, columns: Iterable[str] = ()) -> None:
        """Open `path`, or standard output where it is None; `columns` are those that are known to come.

        :raises FlyballError: it cannot be written, or holds something already.
        """
        #: rows that are safely written
        self.rows = 0
        #: one sentence on why no more is written; empty while all is well
        self.trouble = ""
        #: whether who read the rows has seen enough (`| head`)
        self.deserted = False
        #: columns that came too late
        self.left_out: list[str] = []
        #: whether there were more than `MOST_COLUMNS`, which are left out, too
        self.crowded = False
        self.path = None if path is None else path.resolve()
        self._columns = header(columns)
        self._held: list[Mapping[str, str]] = []
        self._begun = False
        self._safe_bytes = 0
        self._created = path is not None and not path.exists()
        try:
            # not O_TRUNC: what somebody has measured is not thrown away for a name that was typed again
            self._descriptor = 1 if path is None else os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        except OSError as error:
            raise FlyballError(
                f"{path} cannot be written", why=_why(error), hint="Name another file with --output"
            ) from error
        found = os.fstat(self._descriptor)
        #: whether it can be written anew
        self.renewable = path is not None and stat.S_ISREG(found.st_mode)
        if self.renewable and found.st_size:
            self.close()
            raise FlyballError(
                f"{path} is not empty",
                why="a trace does not overwrite what is there",
                hint="Name another with --output",
            )

    def add(self, row: Mapping[str, str], *, more_to_come: bool = False) -> None:
        """Write a row, column → cell; `more_to_come`: further columns may be known in a moment.

        Never raises: what is wrong stands in `trouble`, and from then on nothing is written.
        """
        if self.trouble:
            return
        if not self.renewable and not self._begun and more_to_come:
            self._held.append(row)
            return
        held, self._held = [*self._held, row], []
        new = list(dict.fromkeys(column for each in held for column in each if column not in self._columns))
        room = max(0, MOST_COLUMNS - len(self._columns))
        new, self.crowded = new[:room], self.crowded or len(new) > room
        try:
            if new and not self._begun:
                self._columns = header((*self._columns, *new))
            elif new:
                self._widen(new)
            if not self._begun:
                self._write(_line(self._columns))
                self._begun = True
            for each in held:
                self._write(_line([each.get(column, "") for column in self._columns]))
                self.rows += 1
        except OSError as error:
            self.deserted = isinstance(error, BrokenPipeError)
            self.trouble = f"{self.shown} cannot be written any more: {_why(error)}. {_rows(self.rows)} safe in it"

    def finish(self) -> None:
        """Write what was held back, and close."""
        if self._held:
            last = self._held.pop()
            self.add(last)
        self.close()

    def discard(self) -> None:
        """Close, and remove the file if there was none before."""
        self.close()
        if self._created and self.path is not None and self.renewable:
            self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file; standard output stays open."""
        if self._descriptor > 1:
            os.close(self._descriptor)
            self._descriptor = -1

    @property
    def shown(self) -> str:
        """What people call it."""
        return "standard output" if self.path is None else str(self.path)

    def _write(self, line: bytes) -> None:
        """Append, and take back what was written of the line where it does not fit.

        :raises OSError: it does not.
        """
        written = 0
        try:
            while written < len(line):
                written += os.write(self._descriptor, line[written:])
        except OSError:
            if self.renewable:
                with suppress(OSError):  # the error to tell is the first one
                    os.ftruncate(self._descriptor, self._safe_bytes)
            raise
        self._safe_bytes += len(line)

    def _widen(self, new: Iterable[str]) -> None:
        """Give the file further columns; where it cannot be done, their cells are left out and the rows go on."""
        new = [column for column in new if column not in self.left_out]
        if not new:
            return
        if self.path is None or not self.renewable:
            self.left_out += new
            return
        wide = header((*self._columns, *new))
        beside = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            beside.unlink(missing_ok=True)
            self._renew(beside, self.path, wide)
        except OSError:
            beside.unlink(missing_ok=True)
            self.left_out += new

    def _renew(self, beside: Path, path: Path, wide: Sequence[str]) -> None:
        with beside.open("x", encoding="utf-8", newline="") as file:  # never through a link that somebody left there
            os.fchmod(file.fileno(), stat.S_IMODE(os.fstat(self._descriptor).st_mode))
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            with open(self._descriptor, encoding="utf-8", newline="", closefd=False) as old:
                writer = csv.DictWriter(file, wide, restval="", lineterminator="\n")
                writer.writeheader()
                writer.writerows(csv.DictReader(old))
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        descriptor = os.open(beside, os.O_RDWR | os.O_APPEND)
        try:
            beside.replace(path)
        except OSError:
            os.close(descriptor)
            raise
        os.close(self._descriptor)
        self._descriptor, self._columns, self._safe_bytes = descriptor, list(wide), size


def _line(cells: Sequence[str]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode()


def _rows(count: int) -> str:
    return "1 row is" if count == 1 else f"{count} rows are"


def _why(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "the disk is full"
    return error.strerror or str(error)
