"""What follows the load is no leak: the part of a level that moves with a rate of calls or with a gauge."""

import math
from collections.abc import Sequence
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


def follows(values: Sequence[float], load: Sequence[float]) -> Following:
    """How closely the steps of `values` follow those of `load`.

    Blocks are also taken two and four together, where the steps between single ones are mostly noise.
    """
    closest = Following(0.0, 0.0)
    for _ in range(3):
        found = _together(values, load)
        if found.closeness > closest.closeness:
            closest = found
        values, load = _halved(values), _halved(load)
    return closest


def _together(values: Sequence[float], load: Sequence[float]) -> Following:
    pairs = [(b - a, d - c) for a, b, c, d in zip(values, values[1:], load, load[1:], strict=False)]
    nothing = Following(0.0, 0.0)
    if len(pairs) < _STEPS:
        return nothing
    most_a, most_b = (_CLIP * _usual([pair[k] for pair in pairs]) for k in (0, 1))
    saa = sbb = sab = 0.0
    most, of_most = 0.0, (0.0, 0.0)
    for a, b in pairs:
        a, b = max(-most_a, min(a, most_a)), max(-most_b, min(b, most_b))
        saa += a * a
        sbb += b * b
        sab += a * b
        if a * b > most:
            most, of_most = a * b, (a, b)
    if most > sab / 2:  # a first call, a restart: one coincidence is none
        saa, sbb, sab = saa - of_most[0] ** 2, sbb - of_most[1] ** 2, sab - most
    if saa <= 0 or sbb <= 0:
        return nothing
    closeness = sab / math.sqrt(saa * sbb)
    return Following(closeness, sab / sbb) if closeness * math.sqrt(len(pairs)) >= 3.0 else nothing


def _halved(values: Sequence[float]) -> list[float]:
    odd = len(values) % 2
    return [(a + b) / 2 for a, b in zip(values[odd::2], values[odd + 1 :: 2], strict=True)]


def _usual(steps: Sequence[float]) -> float:
    """The size that most steps do not exceed; the largest where most are nothing."""
    sizes = sorted(abs(step) for step in steps)
    return sizes[len(sizes) * 3 // 4] or sizes[-1]
