"""Where a figure is heading: its slope, what that is to be called, and when it reaches a threshold; pure.

The interval decides, not the slope: what could as well fall as rise is `unknown`, and so is what was read too seldom.
Where it is no straight line (a load that began, a model that was loaded), what it does now decides.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import isnan
from typing import Final, NamedTuple

from handlers.history.fit import Slope, fit
from handlers.history.forecast import Arrival, arrival
from handlers.history.policy import GAP_POINTS
from handlers.history.series import MEAN_AT, MINUTE_S, Series
from handlers.history.settings import Settings
from schemas.history import Verdict

#: Fewer readings than this say nothing.
FEWEST: Final = 10


class Stretch(NamedTuple):
    """Readings of one figure without a gap, oldest first; `cut` says that there were others, before a gap."""

    times_s: list[float]
    values: list[float]
    resolution_s: float
    cut: bool


class Trend(NamedTuple):
    """A figure's slope over the whole stretch and now, whether the latter decided, and when it reaches thresholds.

    `arrivals` holds what lies ahead, the nearest threshold first, each with the index that it was given at.
    """

    verdict: Verdict
    line: Slope
    now: Slope
    by_now: bool
    arrivals: list[tuple[int, Arrival]]


def window(series: Series, figure: str, since_s: float, settings: Settings, now_s: float) -> Stretch:
    """The newest readings of a figure without a gap: points where they tell all since `since_s`, else minutes."""
    nothing_older = series.minutes.first_s() >= series.points.first_s() - MINUTE_S
    if nothing_older or settings.points_reach(now_s - since_s):
        return _points(series, figure, since_s, settings.monitor_interval)
    return _minutes(series, figure, since_s)


def trend(stretch: Stretch, *, least_step: float, material: float, thresholds: Sequence[float]) -> Trend | None:
    """The trend of a stretch; None where there are too few readings.

    `least_step` is how coarse the figure is at best, `material` the change from which on it counts, over the stretch or
    over what there is of it since its present course began.
    Of the `thresholds`, those ahead are forecast: below where it falls, else above.
    """
    times_s, values = stretch.times_s, stretch.values
    if len(values) < FEWEST:
        return None
    fitted = fit(times_s, values, least_step)
    now_s = sum(course.weight * course.span_s for course in fitted.courses)
    whole = _verdict(fitted.line, material / (times_s[-1] - times_s[0]))
    now = _verdict(fitted.now, material / now_s)
    verdict = now if whole == "unknown" else whole
    rising = verdict != "falling"
    ahead = [
        (index, threshold)
        for index, threshold in enumerate(thresholds)
        if (threshold > values[-1] if rising else threshold < values[-1])
    ]
    ahead.sort(key=lambda one: abs(one[1] - values[-1]))
    return Trend(
        verdict,
        fitted.line,
        fitted.now,
        whole == "unknown" and now != "unknown",
        [(index, arrival(fitted, threshold, rising=rising)) for index, threshold in ahead],
    )


def _verdict(slope: Slope, material: float) -> Verdict:
    """What a slope is called, where `material` is the least that counts."""
    if slope.low > 0 and slope.high >= material:
        return "rising"
    if slope.high < 0 and slope.low <= -material:
        return "falling"
    return "stable" if -material < slope.low and slope.high < material else "unknown"


def _points(series: Series, figure: str, since_s: float, resolution_s: float) -> Stretch:
    """What comes behind the last gap, without holes."""
    times_s, gaps, values = (series.points.column(name, since_s) for name in ("time_s", "after_gap", figure))
    start = max((index for index, after_gap in enumerate(gaps) if after_gap), default=0)
    return _without_holes(times_s[start:], values[start:], resolution_s, cut=start > 0)


def _minutes(series: Series, figure: str, since_s: float) -> Stretch:
    """Each minute's mean, in its middle or that of what there is of it, behind the last gap."""
    rows = series.by_minute(since_s)
    times_s = [(row[0] + min(row[0] + MINUTE_S, series.read_s)) / 2 for row in rows]
    values = [row[MEAN_AT[figure]] for row in rows]
    longest_s = GAP_POINTS * MINUTE_S
    start = max((i + 1 for i, (a, b) in enumerate(pairwise(times_s)) if not 0 < b - a <= longest_s), default=0)
    return _without_holes(times_s[start:], values[start:], MINUTE_S, cut=start > 0)


def _without_holes(times_s: Sequence[float], values: Sequence[float], resolution_s: float, *, cut: bool) -> Stretch:
    read = [(time_s, value) for time_s, value in zip(times_s, values, strict=True) if not isnan(value)]
    return Stretch([time_s for time_s, _ in read], [value for _, value in read], resolution_s, cut)
