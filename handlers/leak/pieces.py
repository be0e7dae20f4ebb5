"""Cuts a series into the fewest straight pieces that describe it."""

import math
from collections.abc import Sequence
from itertools import pairwise
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
    table = _squares(us, vs)
    best = table[0]  # of one piece, up to each point
    cuts: list[list[int]] = []
    chosen, lowest = 1, _criterion(best[n], least, n, 1)
    for k in range(2, min(_PIECES, n // _SHORTEST) + 1):
        further, cut_at = [math.inf] * (n + 1), [0] * (n + 1)
        for end in range(k * _SHORTEST, n + 1):
            fewest, at = math.inf, 0
            for first in range((k - 1) * _SHORTEST, end - _SHORTEST + 1):
                squares = best[first] + table[first][end]
                if squares < fewest:
                    fewest, at = squares, first
            further[end], cut_at[end] = fewest, at
        cuts.append(cut_at)
        best = further
        score = _criterion(best[n], least, n, k)
        if score < lowest:
            chosen, lowest = k, score
    ends = [n]
    for cut_at in reversed(cuts[: chosen - 1]):
        ends.append(cut_at[ends[-1]])
    return [0, *reversed(ends)]


def _criterion(squares: float, least: float, n: int, pieces: int) -> float:
    return n * math.log((squares + least) / n) + _PRICE * 3 * pieces * math.log(n)


def _squares(us: Sequence[float], vs: Sequence[float]) -> list[list[float]]:
    """What a line leaves of the points from `first` up to `end`, for all pairs of them."""
    n = len(us)
    table = []
    for first in range(n):
        row = [math.inf] * (n + 1)
        table.append(row)
        u0, v0 = us[first], vs[first]
        su = sv = suu = suv = svv = 0.0
        for end in range(first, n):
            u, v = us[end] - u0, vs[end] - v0
            su += u
            sv += v
            suu += u * u
            suv += u * v
            svv += v * v
            m = end - first + 1
            if m >= _SHORTEST:
                uu, uv = suu - su * su / m, suv - su * sv / m
                left = svv - sv * sv / m - (uv * uv / uu if uu > 0 else 0.0)
                row[end + 1] = left if left > 0 else 0.0
    return table
