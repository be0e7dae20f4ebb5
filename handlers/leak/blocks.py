"""Observations of one subject in a bounded number of blocks that grow with its age: what every verdict is made from."""

import math
from array import array
from collections.abc import Mapping
from itertools import pairwise
from typing import Final

from msgspec import Struct

from schemas.leak import RESOURCES
from schemas.workload import MOST_WATCHED

#: Blocks are merged two by two when there are so many, so that a life of any length has half of it to all of it.
CAPACITY: Final = 64
#: What is larger than any memory or count is not measured but made up.
LARGEST: Final = 1e18
#: How the names of counters and of gauges begin; all else is a level.
CALLS: Final = "calls."
GAUGE: Final = "gauge."
#: Series of one subject: its resources, and as many counters and gauges as a workload has. What is beyond is left out.
SERIES: Final = len(RESOURCES) + 2 * MOST_WATCHED
_NOTHING: Final = array("d", [math.nan])
#: Highs say only how high it has been, so half the memory is exact enough for them: 1 of 16 million.
_COARSE: Final = "f"
_NOTHING_HIGH: Final = array(_COARSE, [math.nan])


class PackedColumn(Struct, frozen=True, array_like=True):
    """A column in a snapshot: arrays as bytes, and the block that is being filled."""

    means: bytes
    lows: bytes
    highs: bytes
    lasts: bytes
    last: float
    total: float
    count: int
    low: float
    high: float


class PackedGrid(Struct, frozen=True, array_like=True):
    """A grid in a snapshot."""

    most: int
    size: int
    times: bytes
    ends: bytes
    filled: int
    time: float
    columns: dict[str, PackedColumn]


class Column:
    """One series in blocks: mean, and lowest and highest (of a level) or latest value (of a counter) of each.

    NaN where nothing was measured; what is not kept is empty.
    """

    __slots__ = (
        "count", "high", "highs", "is_counter", "is_level", "last", "lasts", "low", "lows", "means", "total",
    )  # fmt: skip

    def __init__(self, name: str, blocks: int) -> None:
        """A series that was first measured after so many blocks; its name tells what it is."""
        is_counter = name.startswith(CALLS)
        is_level = not is_counter and not name.startswith(GAUGE)
        self.means = _NOTHING * blocks
        self.lows = _NOTHING * (blocks * is_level)
        self.highs = _NOTHING_HIGH * (blocks * is_level)
        #: what was counted in a block is the difference
        self.lasts = _NOTHING * (blocks * is_counter)
        self.is_level, self.is_counter = is_level, is_counter
        self.last = math.nan
        self.total, self.count, self.low, self.high = 0.0, 0, math.inf, -math.inf

    def add(self, value: float) -> None:
        """Take a value into the block that is being filled."""
        self.total += value
        self.count += 1
        self.last = value
        if value < self.low:
            self.low = value
        if value > self.high:
            self.high = value

    def close(self) -> None:
        """End the block."""
        known = self.count > 0
        self.means.append(self.total / self.count if known else math.nan)
        if self.is_counter:
            self.lasts.append(self.last)
        elif self.is_level:
            self.lows.append(self.low if known else math.nan)
            self.highs.append(self.high if known else math.nan)
        if known:
            self.drop()

    def drop(self) -> None:
        """Begin the block anew."""
        self.total, self.count, self.low, self.high = 0.0, 0, math.inf, -math.inf

    @property
    def latest_low(self) -> float:
        """Of the last block in which anything was measured; 0 where nothing was."""
        return next((low for low in reversed(self.lows) if low == low), 0.0)

    def halve(self) -> None:
        """Merge blocks two by two."""
        self.means = array("d", map(_mean, self.means[::2], self.means[1::2]))
        self.lows = array("d", map(_least, self.lows[::2], self.lows[1::2]))
        self.highs = array(_COARSE, map(_most, self.highs[::2], self.highs[1::2]))
        self.lasts = self.lasts[1::2]

    def pack(self) -> PackedColumn:
        """For a snapshot."""
        return PackedColumn(
            self.means.tobytes(), self.lows.tobytes(), self.highs.tobytes(), self.lasts.tobytes(), self.last,
            self.total, self.count, self.low, self.high,
        )  # fmt: skip

    @classmethod
    def unpack(cls, name: str, packed: PackedColumn, blocks: int) -> "Column":
        """From a snapshot.

        :raises ValueError: it has another number of blocks.
        """
        column = cls(name, blocks)
        for part in ("means", "lows", "highs", "lasts"):
            values = array(getattr(column, part).typecode)
            values.frombytes(getattr(packed, part))
            if len(values) != len(getattr(column, part)):
                raise ValueError(f"the series {name!r} has {len(values)} blocks, not {blocks}")
            setattr(column, part, values)
        if not all(low != low or abs(low) <= LARGEST for values in (column.means, column.lasts) for low in values):
            raise ValueError("a series has values that cannot be")
        column.last, column.total, column.count = packed.last, packed.total, packed.count
        column.low, column.high = packed.low, packed.high
        return column


def _mean(a: float, b: float) -> float:
    if a != a:
        return b
    return a if b != b else (a + b) / 2


def _least(a: float, b: float) -> float:
    if a != a:
        return b
    return a if b != b or a < b else b


def _most(a: float, b: float) -> float:
    if a != a:
        return b
    return a if b != b or a > b else b


def _doubles(packed: bytes) -> "array[float]":
    values = array("d")
    values.frombytes(packed)
    return values


class Grid:
    """All series of a subject on one grid of blocks, each of `size` observations.

    Blocks grow to `most` observations; then the older half is forgotten when there is no more room. 0: never.
    """

    __slots__ = ("_filled", "_time", "columns", "ends", "most", "size", "times")

    def __init__(self, most: int = 0) -> None:
        self.most = most
        self.size = 1
        self.times = array("d")
        #: when each block ended
        self.ends = array("d")
        self.columns: dict[str, Column] = {}
        self._filled = 0
        self._time = 0.0

    @property
    def forgets(self) -> bool:
        """Whether the next observation makes it forget."""
        return len(self.times) == CAPACITY - 1 and self._filled == self.size - 1 and 0 < self.most <= self.size

    @property
    def observed(self) -> int:
        """How many observations are in it, about."""
        return len(self.times) * self.size + self._filled

    @property
    def interval_s(self) -> float:
        """Mean time between two observations."""
        times = self.times
        return (times[-1] - times[0]) / ((len(times) - 1) * self.size) if len(times) > 1 else 0.0

    def add(self, t_s: float, values: Mapping[str, float]) -> bool:
        """Take in an observation; whether a block was completed by it."""
        columns = self.columns
        for name, value in values.items():
            column = columns.get(name)
            if column is None:
                if len(columns) >= SERIES:
                    continue
                column = columns[name] = Column(name, len(self.times))
            column.add(value)
        self._filled += 1
        self._time += t_s
        if self._filled < self.size:
            return False
        self.times.append(self._time / self._filled)
        self.ends.append(t_s)
        self._filled, self._time = 0, 0.0
        for column in columns.values():
            column.close()
        if len(self.times) >= CAPACITY:
            if 0 < self.most <= self.size:
                self._forget(CAPACITY // 2)
                return True
            self.times = array("d", map(_mean, self.times[::2], self.times[1::2]))
            self.ends = self.ends[1::2]
            for column in columns.values():
                column.halve()
            self.size *= 2
        return True

    def _forget(self, blocks: int) -> None:
        """Drop so many of the oldest blocks."""
        self.times, self.ends = self.times[blocks:], self.ends[blocks:]
        for column in self.columns.values():
            column.means, column.lows = column.means[blocks:], column.lows[blocks:]
            column.highs, column.lasts = column.highs[blocks:], column.lasts[blocks:]

    def longer(self, most: int) -> "Grid":
        """A copy that forgets later."""
        grid = Grid.unpack(self.pack())
        grid.most = most
        return grid

    def interrupt(self) -> None:
        """Begin the block anew: what is in it lies before a gap."""
        self._filled, self._time = 0, 0.0
        for column in self.columns.values():
            column.drop()

    def pack(self) -> PackedGrid:
        """For a snapshot."""
        columns = {name: column.pack() for name, column in self.columns.items()}
        return PackedGrid(
            self.most, self.size, self.times.tobytes(), self.ends.tobytes(), self._filled, self._time, columns
        )

    @classmethod
    def unpack(cls, packed: PackedGrid) -> "Grid":
        """From a snapshot.

        :raises ValueError: its parts do not fit.
        """
        grid = cls(packed.most)
        grid.size, grid.times, grid.ends = packed.size, _doubles(packed.times), _doubles(packed.ends)
        if packed.size < 1 or len(grid.ends) != len(grid.times) or len(grid.times) >= CAPACITY:
            raise ValueError("the blocks do not fit each other")
        for moments in (grid.times, grid.ends):
            if not all(map(math.isfinite, moments)) or any(a >= b for a, b in pairwise(moments)):
                raise ValueError("the times of the blocks do not grow")
        grid._filled, grid._time = packed.filled, packed.time
        grid.columns = {name: Column.unpack(name, column, len(grid.times)) for name, column in packed.columns.items()}
        return grid
