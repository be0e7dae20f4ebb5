"""What one look at a resource shows: the growth on its straightest clock, and what speaks against a leak."""

import math
from typing import Final

from msgspec import Struct

from handlers.leak.blocks import CALLS, Grid
from handlers.leak.growth import Look, examine
from handlers.leak.lines import Line, interval, likeness, line, smooth
from handlers.leak.sawtooth import Troughs, troughs
from handlers.leak.series import Series, on_clock
from schemas.leak import MEMORY, Interval

#: Fewest blocks of a growth and of a clock; a counter must make a growth so much straighter than time does.
_GROWTH: Final = 6
_CLOCK: Final = 10
_STRAIGHTER: Final = 0.8
#: Counters that are tried as clocks.
_CLOCKS: Final = 6
#: One that leaves so many times what time does is not straighter after all.
_HOPELESS: Final = 3.0
#: Of so many blocks the shortest growth is as good as a long one.
_ENOUGH: Final = 24
#: A first call that brings this share of the growth at once has started a pool.
_POOL: Final = 0.2
#: What is within this share of the growth is calm, unless it rises by itself, at this share of the growth's pace.
_BAND: Final = 0.15
_CALM: Final = 0.5


class Signs(Struct, frozen=True, kw_only=True):
    """All that a judgement rests on; shares are of the growth's amount or of its length."""

    look: Look
    #: `time`, or the counter that is the clock
    clock: str
    #: index in the series of the block in which the growth began, and how many blocks there are
    first: int
    blocks: int
    #: samples since the growth began, and since the process (or the watch) did
    samples: int
    age: int
    #: how long the level had been calm, in relation to how long it has grown
    quiet: float
    #: what came before, in relation to the growth
    before: float
    #: the second half's slope in relation to the first, in time
    lasting: float
    #: the deepest fall within
    inside: float
    #: the likeness of the load that rises most as the level does
    alike: float
    #: the likeness of memory to the threads, where those explain it better than the clock
    follows: float
    #: whether the clock is a counter whose first call was seen, and the level jumped then
    pooled: bool
    teeth: Troughs | None
    #: the level in time since the growth began, and its slope with a 95 % interval; None where that is unknown
    pace: Line
    rate: Interval | None


def read(grid: Grid, resource: str, series: Series, age: int, floor: float, *, clocks: bool) -> Signs | None:
    """The signs of a growth by at least `floor`; None where there is none. Without `clocks` only time is one."""
    times, lows = series.times, series.lows
    look = _grown(times, lows, series.highs, floor)
    found = [("time", look, list(range(len(times))), 0)] if look is not None else []
    if clocks:
        found += _on_counters(grid, series, floor, 0 if look is None else look.first)
    teeth = troughs(times, lows, series.highs)
    if found:
        clock, look, at, called = min(found, key=lambda each: _crookedness(each[0], each[1]))
        first = at[look.first]
    elif teeth is not None and teeth.amount >= floor:
        clock, called, first = "time", 0, teeth.points[0]
        look = _of_troughs(teeth, len(lows))
    else:
        return None
    n = len(times)
    length = n - first
    half = first + length // 2
    one, two = line(times[first:half], lows[first:half]), line(times[half:], lows[half:])
    top, inside = -math.inf, 0.0
    for low in lows[first:]:
        top = max(top, low)
        inside = max(inside, top - low)
    samples = length * grid.size
    pace = line(times[first:], lows[first:])
    quiet = _quiet(times, lows, first, look.amount)
    return Signs(
        look=look, clock=clock, first=first, blocks=n, samples=samples, age=max(age, samples),
        quiet=min(quiet / length, _active(grid, resource, series, clock, first, quiet)),
        before=max(0.0, (lows[first] - min(lows[: first + 1])) / look.amount),
        lasting=max(-1.0, min(3.0, two.slope / one.slope)) if one.slope > 0 else 3.0,
        inside=inside / look.amount,
        alike=_alike(series, first),
        follows=_follows(grid, resource, series, first, clock),
        pooled=called > 0 and _jumped(series, look, called),
        teeth=teeth if teeth is not None and teeth.amount >= floor else None,
        pace=pace, rate=interval(times[first:], lows[first:], pace.slope, pace.error),
    )  # fmt: skip


def _grown(xs: list[float], lows: list[float], highs: list[float], floor: float) -> Look | None:
    look = examine(xs, lows, highs, floor)
    return look if look is not None and look.length >= _GROWTH else None


def _on_counters(grid: Grid, series: Series, floor: float, first: int) -> list[tuple[str, Look, list[int], int]]:
    """Looks in the own time of each counter from its first call on; with the block of each point, and of that call."""
    found = []
    for name, clock in _clocks(grid, series, first):
        called = next((i for i, x in enumerate(clock) if x > 0), 0)
        since = called + 1 if called >= 3 else 0
        if len(clock) - since < _CLOCK:
            continue
        xs, lows, highs, at = on_clock(clock[since:], series.lows[since:], series.highs[since:])
        if len(xs) >= _CLOCK and (look := _grown(xs, lows, highs, floor)) is not None:
            found.append((name, look, [since + i for i in at], since))
    return found


def _clocks(grid: Grid, series: Series, first: int) -> list[tuple[str, list[float]]]:
    """Counters on which the level since block `first` might be straighter than in time: a look takes a millisecond."""
    counters = [(name, series.on(grid, name)) for name in grid.columns if name.startswith(CALLS)]
    lows = series.lows[first:]
    left = [
        (line(clock[first:], lows).squares, name, clock)
        for name, clock in counters
        if clock and clock[-1] > clock[first]
    ]
    most = _HOPELESS * line(series.times[first:], lows).squares if first else math.inf
    left.sort(key=lambda each: each[0])
    return [(name, clock) for squares, name, clock in left[:_CLOCKS] if squares <= most]


def _crookedness(clock: str, look: Look) -> float:
    """How far off the line, the shorter the worse."""
    return look.crooked / (1.0 if clock == "time" else _STRAIGHTER) / math.sqrt(min(1.0, look.length / _ENOUGH))


def _of_troughs(teeth: Troughs, end: int) -> Look:
    """A growth of which nothing is known but its troughs."""
    return Look(
        first=teeth.points[0], end=end, slope=teeth.slope, amount=teeth.amount, significance=0.0, crooked=1.0,
        lasting=0.0, beyond=0.0, fallen=9.0, faster=0.0, troughs=len(teeth.points), jumps=(),
    )  # fmt: skip


def _quiet(times: list[float], lows: list[float], first: int, amount: float) -> int:
    """Blocks right before the growth in which the level stayed about where it began, and did not rise as well."""
    near = sorted(lows[max(0, first - 4) : first + 1])
    level, band = near[len(near) // 2], _BAND * amount
    i = first
    while i and abs(lows[i - 1] - level) <= band:
        i -= 1
    pace = amount / (times[-1] - times[first]) if times[-1] > times[first] else math.inf
    return first - i if first - i < 2 or line(times[i:first], lows[i:first]).slope <= _CALM * pace else 0


def _active(grid: Grid, resource: str, series: Series, clock: str, first: int, quiet: int) -> float:
    """What the clock counted in the calm, in relation to what it counted in the growth: idleness is no calm of memory.

    Threads and handles that a first call brings are judged by what came at once.
    """
    if clock == "time" or resource in ("threads", "handles"):
        return math.inf
    on = series.on(grid, clock)
    return (on[first] - on[first - quiet]) / (on[-1] - on[first]) if on[-1] > on[first] else 0.0


def _alike(series: Series, first: int) -> float:
    """How much the load moves as the level does, both in the growth and together with as long a time before it."""
    n = len(series.times)
    reach = max(2, n // 12)
    level = smooth(series.means, reach)
    window = max(0, first - (n - first))
    most = 0.0
    for load in series.loads.values():
        smoothed = smooth(load, reach)
        inside = likeness(level[first:], smoothed[first:])
        if inside > most:
            most = max(most, min(inside, likeness(level[window:], smoothed[window:])))
    return most


def _follows(grid: Grid, resource: str, series: Series, first: int, clock: str) -> float:
    """Memory beside the threads: their likeness, where it is closer than that to the clock."""
    if resource not in MEMORY:
        return 0.0
    threads = series.on(grid, "threads")
    if not threads or threads[-1] - threads[first] < 2:
        return 0.0
    level = series.means[first:]
    closely = likeness(level, threads[first:])
    xs = series.times if clock == "time" else series.on(grid, clock)
    return max(0.0, closely) if closely >= likeness(level, xs[first:]) else 0.0


def _jumped(series: Series, look: Look, called: int) -> bool:
    """Whether the level rose at once where the growth began, or at the counter's first call, by a share of it."""
    matters = _POOL * look.amount
    if any(place == look.first and jump > matters for place, jump in look.jumps):
        return True
    after = min(called + 1, len(series.lows) - 1)
    return series.lows[after] - series.highs[max(0, called - 3)] > matters
