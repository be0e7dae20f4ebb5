"""One look at a series: since when it grows, how straight, and what came before."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from msgspec import Struct

from handlers.leak.lines import line
from handlers.leak.pieces import Piece, cut

#: A piece belongs to the growth where it rises at least so fast in relation to the last one.
_RISING: Final = 0.3


class Look(Struct, frozen=True, kw_only=True):
    """A growth on one clock (time, or a counter): indices of points, and shares that tell what kind it is."""

    #: where it began, and one beyond its end (a saw-tooth's last tooth is not part of it)
    first: int
    end: int
    #: the resource's units a unit of the clock, and in all
    slope: float
    amount: float
    #: the slope in standard errors
    significance: float
    #: how far points lie off the line, as a share of the growth
    crooked: float
    #: slope of the second half, in relation to that of the first
    lasting: float
    #: how much lies above all that was there before, as a share of the growth
    beyond: float
    #: the deepest fall before, as a share of the growth
    fallen: float
    #: slope from the very first point up to the growth, in relation to its own
    faster: float
    #: falls within it that were made good
    troughs: int
    #: where the level changed at once, and by how much
    jumps: tuple[tuple[int, float], ...]

    @property
    def length(self) -> int:
        """Points."""
        return self.end - self.first


def examine(xs: Sequence[float], lows: Sequence[float], highs: Sequence[float], floor: float) -> Look | None:
    """The growth that the series ends with; None where there is none by at least `floor`."""
    values = without_dips(lows)
    noise = noise_of(values)
    matters = max(floor / 2, 6 * noise, 0.12 * (max(values) - min(values)))
    troughs = turns(values, matters)
    end = len(xs)
    if len(troughs) >= 3:
        values, end = envelope(values), troughs[-1] + 1
        if end < 8:
            return None
    elif max(values[: end // 2]) > max(values[-3:]):
        return None  # it has been higher; most series end here, and cutting takes a millisecond
    pieces = cut(xs[:end], values[:end], noise)
    jumps = _jumps(xs, pieces, max(floor / 2, 5 * noise))
    last = pieces[-1]
    if last.slope <= 0:
        return None
    at = {place for place, _ in jumps}
    k = len(pieces) - 1
    while k and pieces[k - 1].slope >= _RISING * last.slope and pieces[k].first not in at:
        k -= 1
    first = pieces[k].first
    fit = line(xs[first:end], values[first:end])
    amount = fit.slope * (xs[end - 1] - xs[first])
    if amount < floor:
        return None
    before = highs[:first]
    return Look(
        first=first, end=end, slope=fit.slope, amount=amount, significance=fit.significance,
        crooked=math.sqrt(fit.squares / (end - first)) / amount,
        lasting=_lasting(xs[first:end], values[first:end]),
        beyond=(values[end - 1] - max(before)) / amount if first else 1.0,
        fallen=_deepest(highs[: first + 1], values[: first + 1]) / amount,
        faster=(values[first] - values[0]) / (xs[first] - xs[0]) / fit.slope if first else 0.0,
        troughs=sum(1 for each in troughs if each >= first), jumps=jumps,
    )  # fmt: skip


def _jumps(xs: Sequence[float], pieces: Sequence[Piece], matters: float) -> tuple[tuple[int, float], ...]:
    jumps = []
    for before, after in pairwise(pieces):
        jump = after.start - (before.start + before.slope * (xs[after.first] - xs[before.first]))
        if abs(jump) > matters:
            jumps.append((after.first, jump))
    return tuple(jumps)


def _lasting(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Slope of the second half in relation to the first; 0 where there are too few points, 9 where the first fell."""
    n = len(xs)
    if n < 8:
        return 0.0
    one, two = line(xs[: n // 2], ys[: n // 2]), line(xs[n // 2 :], ys[n // 2 :])
    return two.slope / one.slope if one.slope > 0 else 9.0


def without_dips(values: Sequence[float]) -> list[float]:
    """The median of three, which no single point moves."""
    return [
        values[0],
        *(sorted(three)[1] for three in zip(values, values[1:], values[2:], strict=False)),
        values[-1],
    ]


def noise_of(values: Sequence[float]) -> float:
    """Standard deviation of what is neither level nor slope, from second differences; half of them may be anything."""
    seconds = sorted(abs(a - 2 * b + c) for a, b, c in zip(values, values[1:], values[2:], strict=False))
    return 1.4826 * seconds[len(seconds) // 2] / math.sqrt(6) if seconds else 0.0


def envelope(values: Sequence[float]) -> list[float]:
    """The level below which it never fell afterwards."""
    below, lowest = [], math.inf
    for value in reversed(values):
        lowest = min(lowest, value)
        below.append(lowest)
    below.reverse()
    return below


def turns(values: Sequence[float], matters: float) -> list[int]:
    """Where it turned upwards after a fall by at least `matters`, and rose by as much."""
    found: list[int] = []
    high = low = values[0]
    at, falling = 0, False
    for i, value in enumerate(values):
        if not falling:
            if value > high:
                high = value
            elif high - value >= matters:
                falling, low, at = True, value, i
        elif value < low:
            low, at = value, i
        elif value - low >= matters:
            found.append(at)
            falling, high = False, value
    return found


def _deepest(highs: Sequence[float], lows: Sequence[float]) -> float:
    """The largest fall from a high to a later low."""
    top, deepest = -math.inf, 0.0
    for high, low in zip(highs, lows, strict=True):
        deepest = max(deepest, top - low)
        top = max(top, high)
    return deepest
