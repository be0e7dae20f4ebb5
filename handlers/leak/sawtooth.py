"""A saw-tooth leaks where its troughs rise: garbage collection gives back everything but what leaks."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from msgspec import Struct

from handlers.leak.growth import turns
from handlers.leak.lines import line

#: Fewest troughs, and the least depth of a tooth as a share of the whole range (the first eighth, a warm-up, apart).
_FEWEST: Final = 4
_DEPTH: Final = 0.25


class Troughs(Struct, frozen=True, kw_only=True):
    """The line through the troughs at these points."""

    points: tuple[int, ...]
    slope: float
    amount: float
    significance: float
    #: as in `growth.Look`
    crooked: float
    lasting: float
    #: share of them that lie above the one before
    rising: float


def troughs(times: Sequence[float], lows: Sequence[float], highs: Sequence[float]) -> Troughs | None:
    """The rising line that the latest troughs lie on best; None where there are too few, or it does not rise."""
    settled = len(lows) // 8
    matters = _DEPTH * (max(highs[settled:]) - min(lows[settled:]))
    found = turns(lows, matters)
    best: Troughs | None = None
    for skipped in range(len(found) - _FEWEST + 1):
        points = found[skipped:]
        one = _line(points, [times[i] for i in points], [lows[i] for i in points])
        if one is not None and (best is None or _weight(one) > _weight(best)):
            best = one
    return best


def _weight(found: Troughs) -> float:
    return found.significance * math.sqrt(len(found.points))


def _line(points: Sequence[int], xs: Sequence[float], ys: Sequence[float]) -> Troughs | None:
    fit = line(xs, ys)
    amount = fit.slope * (xs[-1] - xs[0])
    if amount <= 0:
        return None
    n = len(points)
    lasting = 0.0
    if n > _FEWEST:
        one, two = line(xs[: n // 2 + 1], ys[: n // 2 + 1]), line(xs[n // 2 :], ys[n // 2 :])
        lasting = two.slope / one.slope if one.slope > 0 else 3.0
    return Troughs(
        points=tuple(points), slope=fit.slope, amount=amount, significance=fit.significance,
        crooked=math.sqrt(fit.squares / n) / amount, lasting=lasting,
        rising=sum(1 for a, b in pairwise(ys) if b > a) / (n - 1),
    )  # fmt: skip
