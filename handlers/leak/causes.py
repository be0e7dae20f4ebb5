"""Why a series grows, and what came at once: attribution over the blocks of one grid."""

import math
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from handlers.leak.attribution import explain
from handlers.leak.blocks import CALLS, Grid
from handlers.leak.judgement import Judgement
from handlers.leak.series import Series
from handlers.leak.signs import Signs
from schemas.leak import MEMORY, Cause, Jump, Resource, Verdict

#: What threads and handles do explains what memory does.
COUNTED: Final[tuple[Resource, ...]] = ("threads", "handles")
#: A counter is new where it had not called in so many blocks; a growth began with it where so few lie between.
_NEW: Final = 4
_NEAR: Final = 2
#: A cut may fall so many blocks late: what the growth itself brings in them is no jump.
_CUT_LATE: Final = 4
#: What comes in the first blocks is the program's own start.
_STARTED: Final = 2


def cause_of(
    grid: Grid,
    resource: Resource,
    series: Series,
    signs: Signs,
    judgement: Judgement,
    verdicts: Mapping[Resource, Verdict],
) -> Cause:
    """The driver of a growth; `verdicts` are those on all resources of the same subject."""
    teeth = signs.teeth if judgement.way == "troughs" else None
    points = range(signs.first, len(series.times)) if teeth is None else teeth.points
    values = series.means if teeth is None else series.lows
    stages = {each: verdicts[each].stage for each in COUNTED if each in verdicts and resource in MEMORY}
    leaking = [each for each, stage in stages.items() if stage in ("suspected", "confirmed")]
    grown = [each for each, stage in stages.items() if stage == "warming"]
    cause, next_best = explain(
        [values[i] for i in points], _candidates(grid, series, points, (*leaking, *grown)), leaking,
        began(grid, series, signs.first), whole=resource in COUNTED,
    )  # fmt: skip
    for each in COUNTED:
        if cause.driver == each:
            behind = verdicts[each].cause
            cause = msgspec.structs.replace(cause, through=next_best if behind is None else behind.driver)
    return cause


def cause_beside(grid: Grid, series: Series, first: int) -> Cause:
    """The driver of threads or handles that grow from block `first` on."""
    points = range(first, len(series.times))
    values = [series.means[i] for i in points]
    cause, _ = explain(values, _candidates(grid, series, points, ()), (), began(grid, series, first), whole=True)
    return cause


def jumps_of(grid: Grid, series: Series, signs: Signs, least: float) -> tuple[Jump, ...]:
    """Where the level rose at once, by at least `least`, with the counter that called for the first time then."""
    if signs.clock != "time":
        return first_calls(grid, series, least)
    times, firsts = series.times, _firsts(grid, series)
    block_s = (times[-1] - times[0]) / len(times)
    near_s, least = 2 * block_s, max(least, _CUT_LATE * signs.pace.slope * block_s)
    return tuple(
        Jump(
            at_s=times[place], amount=amount,
            first_call=next((name for name, at_s in firsts.items() if abs(at_s - times[place]) <= near_s), ""),
        )
        for place, amount in signs.look.jumps
        if amount >= least and place >= _STARTED
    )  # fmt: skip


def first_calls(grid: Grid, series: Series, least: float) -> tuple[Jump, ...]:
    """How the level rose within the blocks around each first call, where it did by at least so much."""
    jumps = []
    for name, at_s in _firsts(grid, series).items():
        place = next((i for i, t in enumerate(series.times) if t >= at_s), 0)
        if _STARTED <= place < len(series.times) - 1:
            amount = series.lows[place + 1] - series.lows[place - 1]
            if amount >= least:
                jumps.append(Jump(at_s=at_s, amount=amount, first_call=name))
    return tuple(jumps)


def began(grid: Grid, series: Series, first: int) -> list[str]:
    """Counters that called for the first time about when the growth began, though they were watched before."""
    found = []
    for name in grid.columns:
        if name.startswith(CALLS) and (on := series.on(grid, name)) and on[0] <= 0:
            called = next((i for i, x in enumerate(on) if x > 0), 0)
            if called >= _NEW and abs(called - first) <= _NEAR:
                found.append(name)
    return found


def _candidates(
    grid: Grid, series: Series, points: Sequence[int], further: Sequence[str]
) -> dict[str, Sequence[float]]:
    candidates: dict[str, Sequence[float]] = {"time": [series.times[i] for i in points]}
    for name in (*(name for name in grid.columns if name.startswith(CALLS)), *further):
        if on := series.on(grid, name):
            candidates[name] = [on[i] for i in points]
    return candidates


def _firsts(grid: Grid, series: Series) -> dict[str, float]:
    """When each counter that was watched from nought on called for the first time."""
    firsts = {}
    for name in grid.columns:
        if name.startswith(CALLS) and (on := series.on(grid, name)) and on[0] <= 0:
            firsts[name] = next((series.times[i] for i, x in enumerate(on) if x > 0), math.inf)
    return firsts
