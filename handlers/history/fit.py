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
#: When the present course began: these shares of all time before now.
_COURSES: Final = (1.0, 0.7, 0.5, 0.35, 0.25, 0.15)
#: How it may bend: it levels off with a time constant of so many times its length; None is straight.
_BENDS: Final = (None, 1.0, 0.4)
#: How much is given to bends before anything is read: what warms up levels off, but a straight line is the rule.
_BENT: Final = 0.4
#: And to its having begun late.
_LATE: Final = 0.3
#: More readings than this are averaged in groups first.
_MOST: Final = 50
#: The fewest of them that a course is fitted to.
_FEWEST: Final = 6
#: A reading further from its neighbours than so many of their deviations is a slip.
_SLIP: Final = 4.0
_NEIGHBOURS: Final = 7
_NEGLIGIBLE: Final = 0.003


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


class Fitted(NamedTuple):
    """What was made of some readings.

    `slope` a second, with the standard deviation of its error, is that of the straight line through all of them;
    `courses` tell how they may go on, with weights that are 1 in sum.
    """

    slope: float
    slope_deviation: float
    courses: list[Course]
    #: how coarse the readings are
    quantum: float
    #: how far a single one lies off the course, whatever that is: a standard deviation
    scatter: float


def fit(times_s: Sequence[float], values: Sequence[float], least_step: float) -> Fitted:
    """Fit readings, of which there are 7 or more; times grow, and no reading is finer than `least_step`."""
    quantum = max(least_step, min((abs(b - a) for a, b in pairwise(values) if a != b), default=least_step))
    x, y = _grouped(times_s, _without_slips(values, quantum))
    x = [time_s - times_s[-1] for time_s in x]
    span_s = times_s[-1] - times_s[0]
    (line,) = _weighed(x, y, span_s, quantum, courses=(1.0,), bends=(None,))
    return Fitted(
        line.slope,
        math.sqrt(line.slope_variance + _coarse(quantum) / span_s**2),
        _weighed(x, y, span_s, quantum, courses=_COURSES, bends=_BENDS),
        quantum,
        _scatter(values),
    )


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


def _weighed(
    x: Sequence[float],
    y: Sequence[float],
    span_s: float,
    quantum: float,
    *,
    courses: Sequence[float],
    bends: Sequence[float | None],
) -> list[Course]:
    """Fit every course to readings `y` at times `x`, 0 being now, and weigh them against each other."""
    middle = sum(y) / len(y)
    y = [value - middle for value in y]
    shapes: list[tuple[float | None, float, list[_Fit]]] = []
    for share in courses:
        length_s = share * span_s
        if sum(time_s >= -length_s for time_s in x) < _FEWEST:
            continue
        readings = _Readings(x, y, length_s, quantum)
        began = 1 - _LATE if share == 1 else _LATE / (len(courses) - 1)
        for bend in bends:
            bend_s = None if bend is None else bend * length_s
            prior = began * (1 - _BENT if bend is None else _BENT / (len(bends) - 1))
            shapes.append((bend_s, length_s, readings.fits(bend_s, math.log(prior))))
    best = max(fit.score for _, _, fits in shapes for fit in fits)
    found = [_joined(fits, best, bend_s, length_s, middle) for bend_s, length_s, fits in shapes]
    total = sum(course.weight for course in found)
    kept = [course for course in found if course.weight > _NEGLIGIBLE * total]
    total = sum(course.weight for course in kept)
    return [course._replace(weight=course.weight / total) for course in kept]


class _Column(NamedTuple):
    """A column of the regression, and its product with the line before the course at each autocorrelation."""

    values: Sequence[float]
    with_before: Sequence[float]


class _Readings:
    """Readings to which a course from `-length_s` on is fitted: y = level + slope × run(x).

    Before, it was another straight line that met the course; its slope is fitted too, and then forgotten.
    """

    def __init__(self, x: Sequence[float], y: Sequence[float], length_s: float, quantum: float) -> None:
        """What does not depend on how the course bends is worked out here."""
        self._count, self._quantum = len(x), quantum
        self._since = [max(time_s, -length_s) for time_s in x]
        self._before = [time_s - since_s for time_s, since_s in zip(x, self._since, strict=True)]
        self._began_late = any(self._before)
        self._before_before = _products(self._before, self._before)
        self._ones, self._y = self._column([1.0] * len(x)), self._column(y)
        self._ones_ones = self._rest(self._ones, self._ones)
        self._ones_y = self._rest(self._ones, self._y)
        self._y_y = self._rest(self._y, self._y)

    def fits(self, bend_s: float | None, prior: float) -> list[_Fit]:
        """The fit at each autocorrelation, by generalised least squares."""
        values = self._since if bend_s is None else [-bend_s * math.expm1(-time_s / bend_s) for time_s in self._since]
        variation = sum(map(mul, values, values)) - sum(values) ** 2 / self._count
        run = self._column(values)
        freedom = self._count - (3 if self._began_late else 2)
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
                    likelihood + prior - (math.log(self._count) if self._began_late else 0.0),
                    level,
                    slope,
                    variance * run_run / determinant,
                    -variance * ones_run / determinant,
                    variance * ones_ones / determinant,
                )
            )
        return fits

    def _column(self, values: Sequence[float]) -> _Column:
        return _Column(values, _products(values, self._before) if self._began_late else ())

    def _rest(self, a: _Column, b: _Column) -> Sequence[float]:
        """The product of what is left of both columns once the line before the course is taken out."""
        whole = _products(a.values, b.values)
        if not self._began_late:
            return whole
        before = zip(whole, a.with_before, b.with_before, self._before_before, strict=True)
        return [product - with_a * with_b / with_itself for product, with_a, with_b, with_itself in before]


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
