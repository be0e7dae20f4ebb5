"""Straight lines through points, with an error that knows of autocorrelation."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from schemas.leak import Interval

#: Two-sided 95 % of Student's t for so many degrees of freedom, and beyond.
_STUDENT: Final = ((4, 2.78), (6, 2.45), (8, 2.31), (12, 2.18), (20, 2.09), (40, 2.02))
#: How much of what two halves say differently is uncertainty: few growths are a line and noise. Chosen on labelled
#: traces so that nine of ten intervals hold the true amount a call; with the noise alone three of four do.
_APART: Final = 0.75
#: A half of fewer points says nothing by itself.
_FEWEST: Final = 3


class Line(Struct, frozen=True):
    """A line: its value at the first point, its slope, the slope's standard error, and the squares that it leaves."""

    start: float
    slope: float
    error: float
    squares: float

    @property
    def significance(self) -> float:
        """The slope in standard errors, 99 at most."""
        return min(99.0, self.slope / self.error) if self.error > 0 else 99.0


def line(xs: Sequence[float], ys: Sequence[float]) -> Line:
    """Least squares; the error is widened as the residuals' autocorrelation (lag one) asks for."""
    n = len(xs)
    if n < 3:
        slope = (ys[-1] - ys[0]) / (xs[-1] - xs[0]) if n == 2 and xs[-1] > xs[0] else 0.0
        return Line(ys[0], slope, math.inf, 0.0)
    mx, my = sum(xs) / n, sum(ys) / n
    sxx = sxy = 0.0
    for x, y in zip(xs, ys, strict=True):
        dx = x - mx
        sxx += dx * dx
        sxy += dx * (y - my)
    if sxx <= 0:
        return Line(my, 0.0, math.inf, 0.0)
    slope = sxy / sxx
    squares = lagged = before = 0.0
    for x, y in zip(xs, ys, strict=True):
        off = y - my - slope * (x - mx)
        squares += off * off
        lagged += off * before
        before = off
    # a short series shows less of its autocorrelation than it has
    rho = min(0.95, max(0.0, lagged / squares + 1.5 / n)) if squares > 0 else 0.0
    error = math.sqrt(squares / (n - 2) / sxx * (1 + rho) / (1 - rho))
    return Line(my + slope * (xs[0] - mx), slope, error, squares)


def interval(xs: Sequence[float], ys: Sequence[float], slope: float, error: float) -> Interval | None:
    """The 95 % interval of a slope, from its standard error and what both halves say by themselves; None: unknown.

    The halves are those of the clock: of a counter that rests for long, not of the points.
    """
    student = next((t for most, t in _STUDENT if len(xs) - 2 <= most), 1.96)
    half = bisect_left(xs, (xs[0] + xs[-1]) / 2)
    one, two = line(xs[:half], ys[:half]), line(xs[half:], ys[half:])
    apart = two.slope - one.slope if min(half, len(xs) - half) >= _FEWEST else 0.0
    off = math.hypot(student * error, _APART * apart)
    return Interval(slope, slope - off, slope + off) if math.isfinite(off) else None


def likeness(ys: Sequence[float], xs: Sequence[float]) -> float:
    """Correlation of two series."""
    n = len(ys)
    my, mx = sum(ys) / n, sum(xs) / n
    syy = sxx = sxy = 0.0
    for y, x in zip(ys, xs, strict=True):
        dy, dx = y - my, x - mx
        syy += dy * dy
        sxx += dx * dx
        sxy += dx * dy
    return sxy / math.sqrt(syy * sxx) if syy > 0 and sxx > 0 else 0.0


def smooth(values: Sequence[float], reach: int) -> list[float]:
    """Means over `reach` neighbours on each side."""
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    n = len(values)
    smoothed = []
    for i in range(n):
        first, end = max(0, i - reach), min(n, i + reach + 1)
        smoothed.append((sums[end] - sums[first]) / (end - first))
    return smoothed
