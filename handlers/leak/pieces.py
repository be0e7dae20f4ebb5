"""Cuts a series into the fewest straight pieces that describe it."""

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise
from operator import add, mul
from typing import Final

from msgspec import Struct

from handlers.leak.lines import line

#: Most points that are looked at, fewest points of a piece, most pieces.
_POINTS: Final = 32
_SHORTEST: Final = 3
_PIECES: Final = 5
#: What one more piece must bring, in units of the Bayesian information criterion: twice the usual, for neighbours are
#: alike.
_PRICE: Final = 2.0


class Piece(Struct, frozen=True):
    """Points `first` up to `end` (not included) on one line, which begins at `start` and has this `slope`."""

    first: int
    end: int
    start: float
    slope: float


def cut(xs: Sequence[float], ys: Sequence[float], noise: float) -> list[Piece]:
    """The pieces, found over all ways to cut (dynamic programming); `noise` is the points' own standard deviation."""
    step = 1 + (len(xs) - 1) // _POINTS
    n = len(xs) // step
    if n < 2 * _SHORTEST:
        return [_piece(xs, ys, 0, len(xs))]
    offset = len(xs) - n * step
    if step > 1:
        us = [sum(xs[i : i + step]) / step for i in range(offset, len(xs), step)]
        vs = [sum(ys[i : i + step]) / step for i in range(offset, len(xs), step)]
    else:
        us, vs = list(xs), list(ys)
    spread = max(vs) - min(vs)
    least = n * max(noise * noise / step, (0.004 * spread) ** 2, 1e-12)
    bounds = _bounds(us, vs, least)
    return [
        _piece(xs, ys, 0 if not first else offset + first * step, offset + end * step)
        for first, end in pairwise(bounds)
    ]


def _piece(xs: Sequence[float], ys: Sequence[float], first: int, end: int) -> Piece:
    fit = line(xs[first:end], ys[first:end])
    return Piece(first, end, fit.start, fit.slope)


def _bounds(us: Sequence[float], vs: Sequence[float], least: float) -> list[int]:
    n = len(us)
    chosen, lowest = 1, _criterion(line(us, vs).squares, least, n, 1)
    if _criterion(0.0, least, n, 2) >= lowest:
        return [0, n]  # even if two left nothing
    costs = _costs(us, vs)
    #: of k pieces, up to each point: what they leave at least
    bests = [[math.inf] * _SHORTEST + [costs[end][0] for end in range(_SHORTEST, n + 1)]]
    for k in range(2, min(_PIECES, n // _SHORTEST) + 1):
        if _criterion(0.0, least, n, k) >= lowest:
            break
        before, fewest = bests[-1], (k - 1) * _SHORTEST
        best = [math.inf] * (k * _SHORTEST)
        best += [
            min(map(add, before[fewest : end - _SHORTEST + 1], costs[end][fewest:]))
            for end in range(k * _SHORTEST, n + 1)
        ]
        bests.append(best)
        score = _criterion(best[n], least, n, k)
        if score < lowest:
            chosen, lowest = k, score
    ends = [n]
    for k in range(chosen - 1, 0, -1):
        fewest, end = k * _SHORTEST, ends[-1]
        left = list(map(add, bests[k - 1][fewest : end - _SHORTEST + 1], costs[end][fewest:]))
        ends.append(fewest + left.index(min(left)))
    return [0, *reversed(ends)]


def _criterion(squares: float, least: float, n: int, pieces: int) -> float:
    return n * math.log((squares + least) / n) + _PRICE * 3 * pieces * math.log(n)


def _costs(us: Sequence[float], vs: Sequence[float]) -> list[list[float]]:
    """For each end: what a line leaves of the points from each possible first one up to there.

    From running sums, of values less their means, so that little is lost in the differences.
    """
    n = len(us)
    mu, mv = sum(us) / n, sum(vs) / n
    us, vs = [u - mu for u in us], [v - mv for v in vs]
    sums = list(
        zip(
            accumulate(us, initial=0.0), accumulate(vs, initial=0.0), accumulate(map(mul, us, us), initial=0.0),
            accumulate(map(mul, us, vs), initial=0.0), accumulate(map(mul, vs, vs), initial=0.0), range(n + 1),
            strict=True,
        )
    )  # fmt: skip
    costs: list[list[float]] = [[] for _ in range(_SHORTEST)]
    for u1, v1, uu1, uv1, vv1, end in sums[_SHORTEST:]:
        column = []
        for u0, v0, uu0, uv0, vv0, first in sums[: end - _SHORTEST + 1]:
            m, u, v = end - first, u1 - u0, v1 - v0
            uu, uv = uu1 - uu0 - u * u / m, uv1 - uv0 - u * v / m
            left = vv1 - vv0 - v * v / m - (uv * uv / uu if uu > 0 else 0.0)
            column.append(left if left > 0 else 0.0)
        costs.append(column)
    return costs
