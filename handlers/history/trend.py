"""Where a figure is heading: its slope, what that is to be called, and when it reaches a threshold; pure.

The interval decides, not the slope: what could as well fall as rise is `unknown`, and so is what was read too seldom.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import isnan
from typing import Final, NamedTuple

from handlers.history.fit import fit
from handlers.history.forecast import Arrival, arrival
from handlers.history.policy import GAP_POINTS
from handlers.history.series import MEAN_AT, MINUTE_S, Series
from handlers.history.settings import Settings
from schemas.history import Verdict

#: Fewer readings than this say nothing.
FEWEST: Final = 10
#: So many deviations of Student's distribution with 8 degrees of freedom hold 95 in 100.
_INTERVAL: Final = 2.306


class Stretch(NamedTuple):
    """Readings of one figure without a gap, oldest first; `cut` says that there were others, before a gap."""

    times_s: list[float]
    values: list[float]
    resolution_s: float
    cut: bool


class Trend(NamedTuple):
    """A figure's slope a second with the ends of its interval, its slope just now, and when it reaches thresholds.

    `arrivals` holds what lies ahead, the nearest threshold first, each with the index that it was given at.
    """

    verdict: Verdict
    slope: float
    slope_low: float
    slope_high: float
    slope_now: float
    arrivals: list[tuple[int, Arrival]]


def window(series: Series, figure: str, since_s: float, settings: Settings, now_s: float) -> Stretch:
    """The newest readings of a figure without a gap: points where they tell all since `since_s`, else minutes."""
    nothing_older = series.minutes.first_s() >= series.points.first_s() - MINUTE_S
    if nothing_older or settings.points_reach(now_s - since_s):
        return _points(series, figure, since_s, settings.monitor_interval)
    return _minutes(series, figure, since_s)


def trend(stretch: Stretch, *, least_step: float, material: float, thresholds: Sequence[float]) -> Trend | None:
    """The trend of a stretch; None where there are too few readings.

    `least_step` is how coarse the figure is at best, `material` the change over the stretch from which on it counts.
    Of the `thresholds`, those ahead are forecast: below where it falls, else above.
    """
    times_s, values = stretch.times_s, stretch.values
    if len(values) < FEWEST:
        return None
    fitted = fit(times_s, values, least_step)
    error = _INTERVAL * fitted.slope_deviation
    low, high = fitted.slope - error, fitted.slope + error
    verdict = _verdict(low, high, material / (times_s[-1] - times_s[0]))
    rising = verdict != "falling"
    ahead = [
        (index, threshold)
        for index, threshold in enumerate(thresholds)
        if (threshold > values[-1] if rising else threshold < values[-1])
    ]
    ahead.sort(key=lambda one: abs(one[1] - values[-1]))
    return Trend(
        verdict,
        fitted.slope,
        low,
        high,
        sum(course.weight * course.slope for course in fitted.courses),
        [(index, arrival(fitted, threshold, rising=rising)) for index, threshold in ahead],
    )


def _verdict(low: float, high: float, material: float) -> Verdict:
    """What a slope between `low` and `high` is called, where `material` is the least that counts."""
    if low > 0 and high >= material:
        return "rising"
    if high < 0 and low <= -material:
        return "falling"
    return "stable" if -material < low and high < material else "unknown"


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
