"""Reads a recording of any size: text to numbers, block by block, and what was left out is counted."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from handlers.leak.commands.correlation import cells
from handlers.leak.commands.correlation.cells import Numbers
from handlers.leak.commands.correlation.columns import (
    Column,
    by_numbers,
    columns,
    unit_by_size,
)
from handlers.leak.commands.correlation.dialect import (
    SEPARATORS,
    Dialect,
    is_silent,
    other_separator,
    recognised,
    shortened,
)
from handlers.leak.commands.correlation.lines import Lines, Unreadable, opened
from handlers.leak.commands.correlation.order import Order
from handlers.leak.commands.correlation.recording import Recording
from handlers.leak.commands.correlation.table import Table
from handlers.leak.commands.correlation.tally import Tally
from schemas.leak import MEMORY, RESOURCES


def read(path: Path, mapping: Mapping[str, str]) -> Recording:
    """Read a file; `mapping` is from columns to roles, as `--map` has them.

    :raises Unreadable: there is no table in it that can be used.
    """
    with opened(path) as lines:
        blocks = lines.blocks()
        sample = next(blocks, [])
        if not sample and lines.damage:
            raise Unreadable(f"{path.name} cannot be read", why=lines.damage, hint="Compress it again")
        dialect = recognised(sample, path.name, any(name.isdecimal() for name in mapping))
        reader = _Reader(path.name, dialect, columns(dialect, mapping))
        number = dialect.skipped + 1
        for block in chain([sample[dialect.skipped :]], blocks):
            reader.take(block, number)
            number += len(block)
        if lines.damage:
            reader.notes.append(f"{lines.damage} after line {number - 1}; what comes before is used")
        return reader.finish(lines)


class _Reader:
    """One pass over one file."""

    def __init__(self, name: str, dialect: Dialect, known: Sequence[Column | None]) -> None:
        self.notes: list[str] = []
        self._name = name
        self._dialect = dialect
        self._known = known
        self._time = next(index for index, column in enumerate(known) if column is not None and column.role == "time")
        self._used = [i for i, c in enumerate(known) if i != self._time and (c is None or c.role != "ignore")]
        self._tally = Tally()
        self._order = Order()
        self._table = Table(1 + len(self._used))
        self._scale = 0.0
        self._base = 0.0
        self._foreign: dict[int, str] = {}
        self._never: list[str] = []
        self._begins: list[float] = []
        self._last = np.full(len(self._used), np.nan)
        self._fell = np.zeros(len(self._used), bool)
        self._rose = np.zeros(len(self._used), bool)
        self.rows = 0

    def take(self, lines: Sequence[str], number: int) -> None:
        """Lines of the file, the first of which is line `number`."""
        width = len(self._dialect.names)
        rows = [self._dialect.cells(line) for line in lines]
        numbers: Sequence[int] = range(number, number + len(rows))
        if set(map(len, rows)) - {width} or any(is_silent(line) for line in lines):
            regular = [(row, at) for row, at in self._regular(lines, rows, number)]
            rows, numbers = [row for row, _ in regular], [at for _, at in regular]
        if rows:
            self._numeric(list(zip(*rows, strict=True)), numbers)

    def _regular(self, lines: Sequence[str], rows: Sequence[list[str]], number: int) -> Iterator[tuple[list[str], int]]:
        """The rows with a cell for each column, with the number of their line."""
        width = len(self._dialect.names)
        for at, (line, row) in enumerate(zip(lines, rows, strict=True), number):
            if is_silent(line):
                continue
            if len(row) == width or (len(row) > width and not any(cell.strip() for cell in row[width:])):
                yield row[:width], at
            elif other := other_separator(line, self._dialect):
                raise Unreadable(
                    f"{self._name} mixes separators: {SEPARATORS[self._dialect.separator]} above, {other} in line {at}",
                    why=repr(shortened(line)),
                    hint="Write the whole file with one separator",
                )
            else:
                kind = "not as many cells as the header" if len(row) > 1 else "no row"
                self._tally.add(kind, at, line)

    def _numeric(self, columns: Sequence[tuple[str, ...]], numbers: Sequence[int]) -> None:
        times = cells.moments(columns[self._time], self._dialect.decimal_comma)
        timed = ~np.isnan(times)
        for index in np.flatnonzero(~timed).tolist():
            text = self._dialect.separator.join(column[index] for column in columns)
            self._tally.add("no time", numbers[index], text)
        if not timed.any():
            return
        ordered = self._order.of(self._relative(times[timed]))
        values = np.empty((len(columns[0]), 1 + len(self._used)))
        for place, index in enumerate(self._used, 1):
            values[:, place], foreign = cells.numbers(columns[index], self._dialect.decimal_comma)
            if foreign is not None:
                self._foreign.setdefault(index, foreign)
        values = values[timed][ordered.kept]
        values[:, 0] = ordered.times
        self.rows += len(values)
        edges = [0, *np.flatnonzero(ordered.begins).tolist(), len(values)]
        for begin, end in pairwise(edges):
            if begin < len(values) and ordered.begins[begin]:
                self._begins.append(float(values[begin, 0]))
                self._last[:] = np.nan
            self._watch(values[begin:end, 1:])
        self._table.add(values)

    def _relative(self, times: Numbers) -> Numbers:
        """In seconds; absolute times from the first one on."""
        if not self._scale:
            column = self._known[self._time]
            assert column is not None
            first = float(times[0])
            self._scale = column.factor or cells.epoch_scale(first)
            if first * self._scale >= cells.EPOCH_S:
                self._base = first
                try:
                    when = datetime.fromtimestamp(first * self._scale, UTC).isoformat(timespec="seconds")
                except (OverflowError, ValueError, OSError):
                    when = f"{first * self._scale:.0f} s after 1970"
                self.notes.append(f"times are absolute; 0 s is {when}")
        return (times - self._base) * self._scale

    def _watch(self, values: Numbers) -> None:
        """Which columns ever fall, and rise."""
        for place in range(values.shape[1]):
            column = values[:, place]
            column = column[~np.isnan(column)]
            if len(column):
                steps = np.diff(np.concatenate((self._last[place : place + 1], column)))
                self._fell[place] |= bool((steps < 0).any())
                self._rose[place] |= bool((steps > 0).any())
                self._last[place] = column[-1]

    def finish(self, lines: Lines) -> Recording:
        """What was read.

        :raises Unreadable: too little of it is of use.
        """
        self.notes = [*self._tally.sentences(), *self._order_notes(), *self.notes]
        if self.rows < 3:
            raise Unreadable(
                f"{self._name} has {self.rows or 'no'} usable row{'s' * (self.rows != 1)}; 3 are the least",
                why="; ".join(self.notes),
                hint="Times are seconds, an epoch or ISO 8601, and grow",
            )
        rows = self._table.rows()
        series: dict[str, Numbers] = {}
        decided: dict[int, Column] = {}
        for place, index in enumerate(self._used):
            column, values = self._decided(index, place, rows[:, place + 1])
            if column.key in series:
                column = replace(column, name=f"{column.name} ({column.number})")
            decided[index] = column
            if column.role != "ignore":
                series[column.key] = values
        if not series:
            raise Unreadable(f"{self._name} has a time, and no other column of numbers")
        if self._never:
            self.notes.append(f"never measured: {shortened(', '.join(self._never), 200)}")
        if not any(key in RESOURCES for key in series):
            other = next(column.header for column in decided.values() if column.role != "ignore")
            self.notes.append(f"no column is known to be memory or threads; name it, such as --map '{other}=threads'")
        return Recording(
            name=self._name, times=rows[:, 0] - 0.0, series=series,
            columns=tuple(decided.get(i) or _certain(c) for i, c in enumerate(self._known)),
            encoding=lines.encoding, separator=self._dialect.separator, rows=self.rows, folded=self._table.stride,
            restarts=tuple(self._begins), notes=tuple(self.notes),
        )  # fmt: skip

    def _decided(self, index: int, place: int, values: Numbers) -> tuple[Column, Numbers]:
        """What a column is, with its values in our unit."""
        header, column = self._dialect.names[index], self._known[index]
        below = values < 0
        if column is None:
            counts = not self._fell[place] and not below.any()
            column = by_numbers(header, index + 1, never_fell=counts, rose=bool(self._rose[place]))
        if column.role != "gauge" and below.any():
            self.notes.append(f"values of {header} below 0 count as not measured: {int(below.sum()):,}")
            values = np.where(below, np.nan, values)
        measured = values[~np.isnan(values)]
        if index in self._foreign:
            some = "some cells of {} are no numbers" if len(measured) else "no cell of {} is a number"
            self.notes.append(f"{some.replace('{}', header)}, such as {shortened(self._foreign[index])!r}")
        if not len(measured):
            self._never += [] if index in self._foreign else [header]
            return Column(header, index + 1, "ignore", because="numbers"), values
        if not column.factor:
            column = unit_by_size(column, float(np.median(measured)))
            other = "MB" if column.unit == "KiB" else "KiB"
            hint = f"--map '{header}={column.role}:{other}' corrects"
            self.notes.append(f"{header} names no unit and is read as {column.unit}; {hint}")
        return column, values * column.factor if column.role in MEMORY else values

    def _order_notes(self) -> Iterator[str]:
        for count, what in ((self._order.repeated, "the time repeats"), (self._order.backward, "the time steps back")):
            if count:
                yield f"{count:,} row{'s' * (count != 1)} left out: {what}"
        for before, after in self._order.restarts[:3]:
            yield f"time falls from {before:g} s to {after:g} s: a restart? What follows is joined on as a new begin"
        if len(self._order.restarts) > 3:
            yield f"time falls {len(self._order.restarts) - 3:,} more times"


def _certain(column: Column | None) -> Column:
    assert column is not None
    return column
