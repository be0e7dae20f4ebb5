"""One resource as it stands in the blocks, without what follows the load."""

from typing import Final

from msgspec import Struct

from handlers.leak.blocks import CALLS, GAUGE, Grid
from handlers.leak.load import filled, follows, rates, steps

#: Loads that are taken out at most, and how closely the level must follow one.
_LOADS: Final = 2
_CLOSELY: Final = 0.5


class Series(Struct, kw_only=True):
    """Blocks in which the resource was measured; `means`, `lows` and `highs` are without the loads `removed`."""

    rows: list[int]
    times: list[float]
    means: list[float]
    lows: list[float]
    highs: list[float]
    #: rates of calls, and gauges
    loads: dict[str, list[float]]
    #: those that were taken out
    removed: tuple[str, ...] = ()

    def on(self, grid: Grid, name: str) -> list[float]:
        """Another series of the grid in the same blocks, filled up; empty where it was never measured in them."""
        column = grid.columns.get(name)
        return [] if column is None else filled([column.means[i] for i in self.rows])


def level(grid: Grid, name: str, floor: float, fewest: int) -> Series | None:
    """The series of a resource; None where it has fewer blocks, or has not grown by `floor`."""
    column = grid.columns[name]
    rows = [i for i, low in enumerate(column.lows) if low == low]
    if len(rows) < fewest:
        return None
    lows, highs = [column.lows[i] for i in rows], [column.highs[i] for i in rows]
    if min(lows[-2:]) - min(lows[: len(lows) // 2]) < floor:
        return None
    series = Series(
        rows=rows, times=[grid.times[i] for i in rows], means=[column.means[i] for i in rows],
        lows=lows, highs=highs, loads=_loads(grid, rows),
    )  # fmt: skip
    _take_out_loads(series)
    return series


def _loads(grid: Grid, rows: list[int]) -> dict[str, list[float]]:
    ends = [grid.ends[i] for i in rows]
    loads = {}
    for name, column in grid.columns.items():
        if name.startswith(CALLS):
            loads["rate." + name] = filled(rates(ends, [column.lasts[i] for i in rows]))
        elif name.startswith(GAUGE):
            loads[name] = filled([column.means[i] for i in rows])
    return {name: load for name, load in loads.items() if load}


def _take_out_loads(series: Series) -> None:
    """Remove what follows the loads, the one that is followed most closely first."""
    loads = {name: steps(load) for name, load in series.loads.items()}
    for _ in range(min(_LOADS, len(loads))):
        level = steps(series.means)
        found = {name: follows(level, load) for name, load in loads.items()}
        closest = max(found, key=lambda name: found[name].closeness)
        if found[closest].closeness <= _CLOSELY:
            return
        _take_out(series, closest, found[closest].amount)
        del loads[closest]


def _take_out(series: Series, name: str, amount: float) -> None:
    load = series.loads[name]
    least = min(load)
    parts = [amount * (x - least) for x in load]
    series.means = [value - part for value, part in zip(series.means, parts, strict=True)]
    series.lows = [value - part for value, part in zip(series.lows, parts, strict=True)]
    series.highs = [value - part for value, part in zip(series.highs, parts, strict=True)]
    series.removed = (*series.removed, name)


def on_clock(
    clock: list[float], lows: list[float], highs: list[float]
) -> tuple[list[float], list[float], list[float], list[int]]:
    """The points in a counter's own time: blocks in which it did not count are one; the last tells which each was."""
    least = (clock[-1] - clock[0]) * 1e-6
    xs: list[float] = []
    ls: list[float] = []
    hs: list[float] = []
    at: list[int] = []
    for i, (x, low, high) in enumerate(zip(clock, lows, highs, strict=True)):
        if xs and x - xs[-1] <= least:
            ls[-1], hs[-1] = min(ls[-1], low), max(hs[-1], high)
        else:
            xs.append(x)
            ls.append(low)
            hs.append(high)
            at.append(i)
    return xs, ls, hs, at
