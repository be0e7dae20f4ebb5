"""What follows the load is no leak: the part of a level that moves with a rate of calls or with a gauge."""

import math
from collections.abc import Sequence
from operator import mul, sub
from typing import Final

from msgspec import Struct

#: Least correlation of the steps from block to block, and least number of steps.
_TOGETHER: Final = 0.5
_STEPS: Final = 12
#: Steps beyond so many times the usual one count as that: a warm-up must not decide.
_CLIP: Final = 4.0


class Following(Struct, frozen=True):
    """How a level follows a load: correlation of their steps, and the level's units a unit of load."""

    closeness: float
    amount: float


class Steps(Struct, frozen=True):
    """Steps from block to block, none of them much larger than the usual one, and the sum of their squares."""

    sizes: list[float]
    squares: float


def rates(ends: Sequence[float], lasts: Sequence[float]) -> list[float]:
    """How fast a counter counted within each block; NaN where that is not known, as in the first."""
    found = [math.nan]
    for t0, t1, a, b in zip(ends, ends[1:], lasts, lasts[1:], strict=False):
        found.append((b - a) / (t1 - t0) if b >= a else math.nan)
    return found


def filled(load: Sequence[float]) -> list[float]:
    """With what is not known taken from its neighbours; empty where nothing is."""
    known = [x for x in load if x == x]
    if not known:
        return []
    last, whole = known[0], []
    for x in load:
        if x == x:
            last = x
        whole.append(last)
    return whole


def steps(values: Sequence[float]) -> tuple[Steps, ...]:
    """From block to block, and with two and four taken together, where those between single ones are mostly noise."""
    twos = _halved(values)
    return _clipped(values), _clipped(twos), _clipped(_halved(twos))


def follows(level: Sequence[Steps], load: Sequence[Steps]) -> Following:
    """How closely the `steps` of a level follow those of a load."""
    return max((_together(a, b) for a, b in zip(level, load, strict=True)), key=lambda found: found.closeness)


def _together(level: Steps, load: Steps) -> Following:
    nothing = Following(0.0, 0.0)
    if len(level.sizes) < _STEPS:
        return nothing
    products = list(map(mul, level.sizes, load.sizes))
    saa, sbb, sab, most = level.squares, load.squares, sum(products), max(products)
    if most > max(0.0, sab / 2):  # a first call, a restart: one coincidence is none
        at = products.index(most)
        saa, sbb, sab = saa - level.sizes[at] ** 2, sbb - load.sizes[at] ** 2, sab - most
    if saa <= 0 or sbb <= 0:
        return nothing
    closeness = sab / math.sqrt(saa * sbb)
    return Following(closeness, sab / sbb) if closeness * math.sqrt(len(products)) >= 3.0 else nothing


def _halved(values: Sequence[float]) -> list[float]:
    odd = len(values) % 2
    return [(a + b) / 2 for a, b in zip(values[odd::2], values[odd + 1 :: 2], strict=True)]


def _clipped(values: Sequence[float]) -> Steps:
    sizes = list(map(sub, values[1:], values))
    if sizes:
        most = _CLIP * _usual(sizes)
        sizes = [max(-most, min(size, most)) for size in sizes]
    return Steps(sizes, sum(map(mul, sizes, sizes)))


def _usual(sizes: Sequence[float]) -> float:
    """The size that most steps do not exceed; the largest where most are nothing."""
    found = sorted(map(abs, sizes))
    return found[len(found) * 3 // 4] or found[-1]
