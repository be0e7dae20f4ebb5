"""Rows of numbers by time, the newest so many of them, packed tightly: a day of eight cards must stay small."""

import math
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

#: What stands for a number that is not known.
HOLE: Final = math.nan
#: Rows beyond the size may pile up to this, because cutting them off moves all others.
_SLACK: Final = 1.25
#: Higher levels take three times as long for 7 % less.
_LEVEL: Final = 1


class Table:
    """The newest `size` rows, oldest first; the first column is `time_s`, Unix time, which never falls."""

    def __init__(self, columns: Mapping[str, str], size: int) -> None:
        """`columns` maps the name of each further column to a type code of `array`."""
        self.size = size
        self._columns: dict[str, array[Any]] = {"time_s": array("d")}
        self._columns |= {name: array(code) for name, code in columns.items()}

    def __len__(self) -> int:
        return min(self.size, len(self._columns["time_s"]))

    def append(self, time_s: float, figures: Sequence[float]) -> None:
        """Add a row, its figures in the order of the columns; rows of a later time are none any more.

        They were written before the clock was set back, and would be told as what is to come.
        """
        times = self._columns["time_s"]
        if times and times[-1] > time_s:
            left = bisect_left(times, time_s)
            for column in self._columns.values():
                del column[left:]
        for column, figure in zip(self._columns.values(), (time_s, *figures), strict=True):
            column.append(figure)
        if len(times) > self.size * _SLACK:
            for column in self._columns.values():
                del column[: -self.size]

    def first_s(self) -> float:
        """The time of the oldest row; infinity where there is none."""
        return self._columns["time_s"][self._start(-math.inf)] if len(self) else math.inf

    def last_s(self) -> float:
        """The time of the newest row; minus infinity where there is none."""
        return self._columns["time_s"][-1] if len(self) else -math.inf

    def column(self, name: str, since_s: float = -math.inf) -> Sequence[Any]:
        """A column, of the rows that are not older than `since_s`."""
        return self._columns[name][self._start(since_s) :]

    def rows(self, since_s: float = -math.inf, most: int | None = None) -> Iterator[tuple[Any, ...]]:
        """The rows that are not older than `since_s`, of these the newest `most`: time and figures in order."""
        start = self._start(since_s)
        if most is not None:
            start = max(start, len(self._columns["time_s"]) - most)
        return zip(*(column[start:] for column in self._columns.values()), strict=True)

    def pack(self) -> bytes:
        """All rows, for `unpack`."""
        start = self._start(-math.inf)
        return zlib.compress(b"".join(column[start:].tobytes() for column in self._columns.values()), _LEVEL)

    def unpack(self, packed: bytes) -> None:
        """Take up the rows of `pack`.

        :raises ValueError: they are damaged, or have other columns.
        """
        try:
            raw = zlib.decompress(packed)
        except zlib.error as error:
            raise ValueError(f"rows that cannot be unpacked: {error}") from error
        count, rest = divmod(len(raw), sum(column.itemsize for column in self._columns.values()))
        if rest:
            raise ValueError(f"{len(raw)} bytes are no whole number of rows")
        start = 0
        for name, column in self._columns.items():
            end = start + count * column.itemsize
            self._columns[name] = array(column.typecode, raw[start:end])
            start = end

    def _start(self, since_s: float) -> int:
        """Where the rows begin that count."""
        times = self._columns["time_s"]
        return bisect_left(times, since_s, lo=len(times) - len(self))
