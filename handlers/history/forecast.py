"""When a figure will reach a threshold if it goes on as it does: quantiles of that time, from all its courses; pure."""

import math
from typing import Final, NamedTuple

from handlers.history.fit import Fitted

#: Nothing is said of what lies further ahead.
HORIZON_S: Final = 86_400.0
#: The interval from `low_s` to `high_s` is what lies between these quantiles.
LOW: Final = 0.025
HIGH: Final = 0.975
#: A single reading may be so many of its deviations above the course: the highest of some fifty.
_HIGHEST: Final = 2.3
#: How exactly a time ahead is told: to a part in so many.
_EXACT: Final = 200
_SOONEST_S: Final = 1.0


class Arrival(NamedTuple):
    """Seconds from now until the threshold is reached; None: that likely, it is not within a day.

    The quantiles are of the course, `low_s` is of the first single reading. The truth lies between `low_s` and `high_s`
    about 9 times in 10 or more, as measured on ramps and on courses that level off.
    """

    low_s: float | None
    p10_s: float | None
    p50_s: float | None
    p90_s: float | None
    high_s: float | None


def arrival(fitted: Fitted, threshold: float, *, rising: bool) -> Arrival:
    """When a threshold is reached, from below or (not `rising`) from above."""
    direction = 1.0 if rising else -1.0

    def reached(within_s: float, slack: float) -> float:
        """How likely it is that the course, or a reading `slack` beyond it, is there by then."""
        likely = 0.0
        for course in fitted.courses:
            value, variance = course.ahead(within_s, fitted.quantum)
            likely += course.weight * _student((direction * (value - threshold) + slack) / math.sqrt(variance))
        return likely

    def quantile(share: float, slack: float = 0.0) -> float | None:
        if reached(0.0, slack) >= share:
            return 0.0
        if reached(HORIZON_S, slack) < share:
            return None
        early_s, late_s = _SOONEST_S, HORIZON_S
        while late_s > early_s * (1 + 1 / _EXACT):
            middle_s = math.sqrt(early_s * late_s)
            if reached(middle_s, slack) < share:
                early_s = middle_s
            else:
                late_s = middle_s
        return late_s

    return Arrival(
        quantile(LOW, _HIGHEST * fitted.scatter), quantile(0.1), quantile(0.5), quantile(0.9), quantile(HIGH)
    )


def _student(deviations: float) -> float:
    """Student's distribution with 8 degrees of freedom: the variances come from few readings and are guesses too."""
    sine = deviations / math.sqrt(8 + deviations * deviations)
    square = 1 - sine * sine
    return 0.5 + 0.5 * sine * (1 + square * (0.5 + square * (0.375 + square * 0.3125)))
