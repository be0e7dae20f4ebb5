"""Fits coarse, noisy readings: with a straight line, and with lines that began late or level off; pure.

No candidate is believed alone. Each is weighed by how likely it makes the readings, whatever the autocorrelation of
their noise, which is weighed the same way; docs/decisions/061 tells how, and what it was measured against.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from operator import mul
from typing import Final, NamedTuple

#: The autocorrelations of neighbouring readings that are tried; towards 1 the noise wanders as far as a trend would.
_AUTOCORRELATIONS: Final = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98)
#: When the present course may have begun: with the readings, with these shares of them left, or at their largest jump.
_COURSES: Final = (0.7, 0.5, 0.35, 0.25, 0.15)
#: How it may bend: it levels off with a time constant of so many times its length; None is straight.
_BENDS: Final = (None, 1.0, 0.4)
#: How much is given to bends before anything is read: what warms up levels off, but a straight line is the rule.
_BENT: Final = 0.25
#: And to its having begun late.
_LATE: Final = 0.3
#: More readings than this are averaged in groups first.
_MOST: Final = 50
#: The fewest of them that a course is fitted to.
_FEWEST: Final = 6
#: A reading further from its neighbours than so many of their deviations is a slip.
_SLIP: Final = 4.0
_NEIGHBOURS: Final = 7
#: Fewer steps than this are jumps, and tell nothing of how coarse readings are.
_STEPS: Final = 4
_NEGLIGIBLE: Final = 0.003
#: So many deviations of Student's distribution with 8 degrees of freedom hold 95 in 100.
_INTERVAL: Final = 2.306


class Course(NamedTuple):
    """One way in which the readings may go on, and how far it is to be believed; times are seconds from now.

    `level` and `slope` are those of now, the variances and the covariance those of their errors.
    """

    weight: float
    #: the time constant with which it levels off; None goes straight on
    bend_s: float | None
    #: how long it has gone on
    span_s: float
    level: float
    slope: float
    level_variance: float
    covariance: float
    slope_variance: float

    def ahead(self, within_s: float, quantum: float) -> tuple[float, float]:
        """Its value in so many seconds, and the variance of that; readings are coarse by `quantum`."""
        run_s = within_s if self.bend_s is None else -self.bend_s * math.expm1(-within_s / self.bend_s)
        variance = self.level_variance + 2 * run_s * self.covariance + run_s * run_s * self.slope_variance
        return self.level + self.slope * run_s, variance + _coarse(quantum) * (1 + (run_s / self.span_s) ** 2)


class Slope(NamedTuple):
    """Change a second, and the standard deviation of its error; from `low` to `high` it is 95 times in 100."""

    per_s: float
    deviation: float

    @property
    def low(self) -> float:
        """The lower end of its interval."""
        return self.per_s - _INTERVAL * self.deviation

    @property
    def high(self) -> float:
        """The upper end."""
        return self.per_s + _INTERVAL * self.deviation


class Fitted(NamedTuple):
    """What was made of some readings.

    `line` is the slope of the straight line through all of them, `now` that at their end, whenever the present course
    began; `courses` tell how they may go on, with weights that are 1 in sum.
    """

    line: Slope
    now: Slope
    courses: list[Course]
    #: how coarse the readings are
    quantum: float
    #: how far a single one lies off the course, whatever that is: a standard deviation
    scatter: float


def fit(times_s: Sequence[float], values: Sequence[float], least_step: float) -> Fitted:
    """Fit readings, of which there are 7 or more; times grow, and no reading is finer than `least_step`."""
    quantum = _quantum(values, least_step)
    x, y = _grouped(times_s, _without_slips(values, quantum))
    x = [time_s - times_s[-1] for time_s in x]
    span_s = times_s[-1] - times_s[0]
    line = _weighed(x, y, quantum, [_Beginning(span_s, 1.0)], bends=(None,))
    courses = _weighed(x, y, quantum, _beginnings(x, y, span_s), bends=_BENDS)
    return Fitted(_slope(line, quantum), _slope(courses, quantum), courses, quantum, _scatter(values))


def _slope(courses: Sequence[Course], quantum: float) -> Slope:
    """Theirs in the mean; how they differ counts as error."""
    slope = sum(course.weight * course.slope for course in courses)
    variance = sum(
        course.weight * (course.slope_variance + (course.slope - slope) ** 2 + _coarse(quantum) / course.span_s**2)
        for course in courses
    )
    return Slope(slope, math.sqrt(variance))


def _quantum(values: Sequence[float], least_step: float) -> float:
    """How coarse readings are: the smallest step that they take, if they take more than a few."""
    steps = [abs(later - earlier) for earlier, later in pairwise(values) if later != earlier]
    return max(least_step, min(steps)) if len(steps) >= _STEPS else least_step


def _scatter(values: Sequence[float]) -> float:
    """By second differences, which know no slope."""
    bends = [a - 2 * b + c for a, b, c in zip(values, values[1:], values[2:], strict=False)]
    return math.sqrt(sum(map(mul, bends, bends)) / (6 * len(bends)))


def _coarse(quantum: float) -> float:
    """The variance of what rounding to a `quantum` hides."""
    return quantum * quantum / 12


class _Fit(NamedTuple):
    """One candidate at one autocorrelation; `score` is the logarithm of its weight."""

    score: float
    level: float
    slope: float
    level_variance: float
    covariance: float
    slope_variance: float


class _Beginning(NamedTuple):
    """How long ago the present course began, what is given to that unread, and whether it began with a jump."""

    length_s: float
    prior: float
    is_jump: bool = False


def _beginnings(x: Sequence[float], y: Sequence[float], span_s: float) -> list[_Beginning]:
    """Those that are tried on readings `y` at times `x`, 0 being now."""
    behind_jump = 1 + max(range(2, len(y) - 1), key=lambda number: abs(y[number + 1] - y[number - 1]))
    late = [*((share * span_s, False) for share in _COURSES), (-x[behind_jump], True)]
    usable = [(length_s, jump) for length_s, jump in late if sum(time_s >= -length_s for time_s in x) >= _FEWEST]
    return [
        _Beginning(span_s, 1 - _LATE),
        *(_Beginning(length_s, _LATE / len(late), is_jump) for length_s, is_jump in usable),
    ]


def _weighed(
    x: Sequence[float],
    y: Sequence[float],
    quantum: float,
    beginnings: Sequence[_Beginning],
    bends: Sequence[float | None],
) -> list[Course]:
    """Fit every course, and weigh them against each other."""
    middle = sum(y) / len(y)
    y = [value - middle for value in y]
    shapes: list[tuple[float | None, float, list[_Fit]]] = []
    for beginning in beginnings:
        readings = _Readings(x, y, quantum, beginning)
        for bend in bends:
            bend_s = None if bend is None else bend * beginning.length_s
            prior = beginning.prior * (1 - _BENT if bend is None else _BENT / (len(bends) - 1))
            shapes.append((bend_s, beginning.length_s, readings.fits(bend_s, math.log(prior))))
    best = max(fit.score for _, _, fits in shapes for fit in fits)
    found = [_joined(fits, best, bend_s, length_s, middle) for bend_s, length_s, fits in shapes]
    total = sum(course.weight for course in found)
    kept = [course for course in found if course.weight > _NEGLIGIBLE * total]
    total = sum(course.weight for course in kept)
    return [course._replace(weight=course.weight / total) for course in kept]


class _Column(NamedTuple):
    """A column of the regression, and its product with each one that is taken out, at each autocorrelation."""

    values: Sequence[float]
    taken: list[list[float]]


class _Readings:
    """Readings to which y = level + slope × run(x) is fitted, from a beginning on.

    Before, it was another straight line, which met the course or ended in a jump: that is fitted too, and taken out.
    """

    def __init__(self, x: Sequence[float], y: Sequence[float], quantum: float, beginning: _Beginning) -> None:
        """What does not depend on how the course bends is worked out here."""
        self._count, self._quantum = len(x), quantum
        self._since = [max(time_s, -beginning.length_s) for time_s in x]
        before = [time_s - since_s for time_s, since_s in zip(x, self._since, strict=True)]
        self._out: list[_Column] = []
        self._out_out: list[list[float]] = []
        if any(before):
            self._take_out(before)
        if beginning.is_jump:
            self._take_out([1.0 if before_s else 0.0 for before_s in before])
            # the mean of a group that the jump goes through lies anywhere between
            last = max(number for number, before_s in enumerate(before) if before_s)
            self._take_out([1.0 if number == last else 0.0 for number in range(len(x))])
        self._ones, self._y = self._column([1.0] * len(x)), self._column(y)
        self._ones_ones = self._rest(self._ones, self._ones)
        self._ones_y = self._rest(self._ones, self._y)
        self._y_y = self._rest(self._y, self._y)

    def fits(self, bend_s: float | None, prior: float) -> list[_Fit]:
        """The fit at each autocorrelation, by generalised least squares."""
        values = self._since if bend_s is None else [-bend_s * math.expm1(-time_s / bend_s) for time_s in self._since]
        variation = sum(map(mul, values, values)) - sum(values) ** 2 / self._count
        run = self._column(values)
        freedom = self._count - 2 - len(self._out)
        penalty = math.log(self._count) if self._out else 0.0
        fits = []
        for autocorrelation, ones_ones, ones_run, run_run, ones_y, run_y, y_y in zip(
            _AUTOCORRELATIONS, self._ones_ones, self._rest(self._ones, run), self._rest(run, run), self._ones_y,
            self._rest(run, self._y), self._y_y, strict=True,
        ):  # fmt: skip
            determinant = ones_ones * run_run - ones_run * ones_run
            if determinant <= 0:  # the columns cannot be told apart
                continue
            level = (run_run * ones_y - ones_run * run_y) / determinant
            slope = (ones_ones * run_y - ones_run * ones_y) / determinant
            residue = max(0.0, y_y - level * ones_y - slope * run_y)
            variance = (residue + _coarse(self._quantum)) / freedom
            likelihood = -0.5 * (
                (self._count - 1) * math.log1p(-(autocorrelation**2))
                + math.log(determinant / variation)
                + freedom * math.log(variance)
            )
            fits.append(
                _Fit(
                    likelihood + prior - penalty,
                    level,
                    slope,
                    variance * run_run / determinant,
                    -variance * ones_run / determinant,
                    variance * ones_ones / determinant,
                )
            )
        return fits

    def _take_out(self, values: Sequence[float]) -> None:
        column = self._column(values)
        self._out_out.append(self._rest(column, column))
        self._out.append(column)

    def _column(self, values: Sequence[float]) -> _Column:
        column = _Column(values, [])
        for out in self._out:
            column.taken.append(self._rest(column, out))
        return column

    def _rest(self, a: _Column, b: _Column) -> list[float]:
        """The product of what is left of two columns at each autocorrelation."""
        left = _products(a.values, b.values)
        for with_a, with_b, itself in zip(a.taken, b.taken, self._out_out, strict=False):
            left = [
                product - one * two / norm for product, one, two, norm in zip(left, with_a, with_b, itself, strict=True)
            ]
        return left


def _joined(fits: Sequence[_Fit], best: float, bend_s: float | None, length_s: float, middle: float) -> Course:
    """The fits of one shape as one: their means, and how they differ added to their variances."""
    weights = [math.exp(fit.score - best) for fit in fits]
    weight = sum(weights) or math.ulp(0.0)
    shares = [one / weight for one in weights]
    level = sum(share * fit.level for share, fit in zip(shares, fits, strict=True))
    slope = sum(share * fit.slope for share, fit in zip(shares, fits, strict=True))
    level_variance = covariance = slope_variance = 0.0
    for share, fit in zip(shares, fits, strict=True):
        off_level, off_slope = fit.level - level, fit.slope - slope
        level_variance += share * (fit.level_variance + off_level * off_level)
        covariance += share * (fit.covariance + off_level * off_slope)
        slope_variance += share * (fit.slope_variance + off_slope * off_slope)
    return Course(weight, bend_s, length_s, level + middle, slope, level_variance, covariance, slope_variance)


def _products(a: Sequence[float], b: Sequence[float]) -> list[float]:
    """The product of two columns at each autocorrelation: under the inverse of the noise's correlation matrix.

    That has three diagonals only, so three sums serve them all.
    """
    whole = sum(map(mul, a, b))
    inner = whole - a[0] * b[0] - a[-1] * b[-1]
    beside = sum(map(mul, a, b[1:])) + sum(map(mul, a[1:], b))
    return [
        (whole + autocorrelation * (autocorrelation * inner - beside)) / (1 - autocorrelation * autocorrelation)
        for autocorrelation in _AUTOCORRELATIONS
    ]


def _grouped(times_s: Sequence[float], values: Sequence[float]) -> tuple[list[float], list[float]]:
    """Means of so many neighbours that few enough are left, the newest complete."""
    size = -(-len(values) // _MOST)
    starts = range(len(values) % size, len(values), size)
    return (
        [sum(times_s[start : start + size]) / size for start in starts],
        [sum(values[start : start + size]) / size for start in starts],
    )


def _without_slips(values: Sequence[float], quantum: float) -> list[float]:
    """Single readings far from all their neighbours, replaced by the median of these (Hampel's filter)."""
    half, middle = _NEIGHBOURS // 2, _NEIGHBOURS // 2
    found = []
    for index, value in enumerate(values):
        start = max(0, min(index - half, len(values) - _NEIGHBOURS))
        near = sorted(values[start : start + _NEIGHBOURS])
        median = near[middle]
        deviation = 1.4826 * sorted([abs(one - median) for one in near])[middle]
        found.append(median if abs(value - median) > _SLIP * max(deviation, quantum) else value)
    return found
