"""What drives a growth: calls of something, threads, handles, or time alone.

Levels are regressed on each candidate with errors that follow one another (first order); differences of samples lose
too much. Candidates that fit about equally well are said to be alike, rather than one of them chosen by chance.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

from msgspec import Struct

from handlers.leak.lines import interval, line
from schemas.leak import Cause

#: Log-likelihoods that lie closer than this do not tell two candidates apart.
_ALIKE: Final = 3.0
#: Threads or handles that leak explain memory unless something else fits better by this.
_THROUGH: Final = 12.0
#: A growth that began with the first call of something is its, unless something else fits better by this.
_BEGAN: Final = 25.0
#: So few points say little: time alone, the simplest, is preferred unless something else fits better by this.
_FEW: Final = 10
_SIMPLE: Final = 1.5
#: Nothing is measured more exactly than this share of the growth.
_RESOLUTION: Final = 0.004


class _Fit(Struct, frozen=True):
    slope: float
    error: float
    left: float
    explained: float


def explain(
    levels: Sequence[float],
    candidates: Mapping[str, Sequence[float]],
    leaking: Sequence[str] = (),
    began: Sequence[str] = (),
    *,
    whole: bool = False,
) -> tuple[Cause, str]:
    """The driver of `levels`, which grow, among `candidates` (name → its level or count in the same blocks).

    `time` must be one. `leaking` are those of threads and handles that leak themselves, `began` the counters whose
    first call was when the growth began; `whole` says that the resource comes in whole numbers, so that an amount a
    call near one is no chance. The second is the runner-up.
    """
    usable = {name: xs for name, xs in candidates.items() if name == "time" or _moves(xs)}
    plain = {name: line(xs, levels) for name, xs in usable.items()}
    rising = {name: fit for name, fit in plain.items() if fit.slope > 0} or {"time": plain["time"]}
    nearest = min(rising, key=lambda name: rising[name].squares)
    rho = _following(usable[nearest], levels)
    total = _spread(levels)
    fits = {name: _fit(usable[name], levels, rho, total) for name in rising}
    least = len(levels) * (_RESOLUTION * (max(levels) - min(levels))) ** 2 + 1e-12
    best = min(fits, key=lambda name: fits[name].left)

    def behind(name: str) -> float:
        return len(levels) / 2 * math.log((fits[name].left + least) / (fits[best].left + least))

    def rivals(name: str) -> bool:
        """Whether it has the same claim as a driver that was chosen for when it began."""
        return name in began and driver in began and abs(behind(name) - behind(driver)) < _ALIKE

    driver = next((name for name in leaking if name in fits and behind(name) <= _THROUGH), "")
    firmly = bool(driver)
    if not driver:
        driver = min((name for name in began if name in fits and behind(name) <= _BEGAN), key=behind, default="")
        firmly = bool(driver)
    if not driver and whole:
        driver = next(
            (name for name in sorted(fits, key=behind) if behind(name) < _ALIKE and _is_whole(fits[name])), ""
        )
    if not driver:
        few = len(levels) < _FEW
        driver = "time" if few and "time" in fits and behind("time") <= _SIMPLE else best
    alike = tuple(
        name
        for name in sorted(fits, key=behind)
        if name != driver and name not in leaking and (behind(name) < _ALIKE if not firmly else rivals(name))
    )
    fit = fits[driver]
    others = [name for name in sorted(fits, key=behind) if name != driver]
    cause = Cause(
        driver=driver,
        per_call=None if driver == "time" else interval(usable[driver], levels, fit.slope, fit.error),
        explained=max(0.0, min(1.0, fit.explained)),
        alike=alike,
        tell_apart=_tell_apart(driver, alike),
    )
    return cause, others[0] if others else ""


def _tell_apart(driver: str, alike: Sequence[str]) -> str:
    if not alike:
        return ""
    calls = [name.removeprefix("calls.") for name in (driver, *alike) if name.startswith("calls.")]
    if len(calls) > 1:
        return f"leave out {calls[1]} for a while, or call it at another pace than {calls[0]}"
    return f"change the pace of {calls[0]}, and see whether the growth changes with it" if calls else ""


def _is_whole(fit: _Fit) -> bool:
    nearest = round(fit.slope)
    return nearest >= 1 and abs(fit.slope - nearest) <= 0.05 and fit.error <= 0.05


def _moves(xs: Sequence[float]) -> bool:
    return len(xs) > 0 and xs[-1] > xs[0]


def _following(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Autocorrelation (lag one) of what the line leaves."""
    fit = line(xs, ys)
    off = [y - fit.start - fit.slope * (x - xs[0]) for x, y in zip(xs, ys, strict=True)]
    squares = sum(each * each for each in off)
    return min(0.9, max(0.0, sum(a * b for a, b in pairwise(off)) / squares)) if squares > 0 else 0.0


def _fit(xs: Sequence[float], ys: Sequence[float], rho: float, total: float) -> _Fit:
    """Least squares after taking out the part of each point that follows from the one before."""
    first = math.sqrt(1 - rho * rho)
    us = [first * xs[0], *(b - rho * a for a, b in pairwise(xs))]
    vs = [first * ys[0], *(b - rho * a for a, b in pairwise(ys))]
    ones = [first, *([1 - rho] * (len(xs) - 1))]
    s11 = sum(c * c for c in ones)
    s1u = sum(c * u for c, u in zip(ones, us, strict=True))
    suu = sum(u * u for u in us)
    s1v = sum(c * v for c, v in zip(ones, vs, strict=True))
    suv = sum(u * v for u, v in zip(us, vs, strict=True))
    determinant = s11 * suu - s1u * s1u
    if determinant <= 1e-12 * s11 * suu:
        return _Fit(0.0, math.inf, total, 0.0)
    slope = (s11 * suv - s1u * s1v) / determinant
    start = (s1v - slope * s1u) / s11
    left = sum((v - start * c - slope * u) ** 2 for c, u, v in zip(ones, us, vs, strict=True))
    error = math.sqrt(left / max(1, len(xs) - 2) * s11 / determinant)
    plain = line(xs, ys)
    return _Fit(slope, error, left, 1 - plain.squares / total if total > 0 else 0.0)


def _spread(ys: Sequence[float]) -> float:
    mean = sum(ys) / len(ys)
    return sum((y - mean) ** 2 for y in ys)
