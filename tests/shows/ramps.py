"""Random ramps as a card would tell them: whole degrees, noise that wanders, any slope and length; with the truth.

A ramp is forecast from what was read so far. The truth is when the ramp itself, without its noise, reaches the
threshold; what a reading does before that is told apart.
"""

import math
import random
from collections.abc import Callable, Iterable
from typing import NamedTuple

from handlers.history.fit import fit
from handlers.history.forecast import Arrival, arrival
from handlers.history.trend import FEWEST

SPACING_S = 3.0


class Course(NamedTuple):
    """Readings up to now, a threshold ahead, and when it is really reached (infinity: never)."""

    times_s: list[float]
    values: list[float]
    threshold: float
    rising: bool
    truth_s: float
    slope_per_minute: float


class Result(NamedTuple):
    """What was forecast for a course, and how far its slope was off, as a share of it."""

    course: Course
    arrival: Arrival
    slope_error: float

    @property
    def is_covered(self) -> bool:
        """Whether the truth lies between the low and the high end."""
        return _holds(self.arrival.low_s, self.course.truth_s, self.arrival.high_s)

    @property
    def is_between_quantiles(self) -> bool:
        """Whether it lies between the 10th and the 90th of a hundred."""
        return _holds(self.arrival.p10_s, self.course.truth_s, self.arrival.p90_s)


def ramp(chance: random.Random) -> Course:
    """0.3 to 6 °C a minute up or down for 1 to 10 minutes, noise of up to 1.5 °C with any autocorrelation to 0.95."""
    slope = chance.choice((-1, 1)) * chance.uniform(0.3, 6)
    length_s = chance.uniform(60, 600)
    start, ahead = chance.uniform(30, 80), chance.uniform(2, 30)
    times_s = _times(length_s)
    now = start + slope / 60 * times_s[-1]
    threshold = now + math.copysign(ahead, slope)
    true = [start + slope / 60 * time_s for time_s in times_s]
    return Course(
        times_s, _read(true, chance, chance.uniform(0, 1.5)), threshold, slope > 0, ahead / abs(slope) * 60, slope
    )


def warm_up(chance: random.Random) -> Course:
    """A card at rest is given work 45 s or more ago, and levels off with a time constant of 15 to 150 s."""
    length_s = chance.choice((120.0, 300.0))
    base, rise, constant_s = chance.uniform(35, 50), chance.uniform(10, 45), chance.uniform(15, 150)
    times_s = _times(length_s)
    began_s = chance.uniform(30, length_s - 45)

    def true(time_s: float) -> float:
        return base - rise * math.expm1(-(time_s - began_s) / constant_s) if time_s > began_s else base

    now = true(times_s[-1])
    threshold = now + chance.uniform(1, 15)
    share = (threshold - base) / rise
    truth_s = began_s - constant_s * math.log1p(-share) - times_s[-1] if share < 1 else math.inf
    values = _read([true(time_s) for time_s in times_s], chance, 0.3)
    slope = (rise - (now - base)) / constant_s * 60
    return Course(times_s, values, threshold, True, truth_s, slope)


def forecast(courses: Iterable[Course]) -> list[Result]:
    """What is forecast for each."""
    results = []
    for course in courses:
        fitted = fit(course.times_s, course.values, 1.0)
        error = abs(60 * fitted.line.per_s - course.slope_per_minute) / abs(course.slope_per_minute)
        results.append(Result(course, arrival(fitted, course.threshold, rising=course.rising), error))
    return results


def covered(make: Callable[[random.Random], Course], count: int, seed: int) -> list[Result]:
    """So many courses, forecast."""
    chance = random.Random(seed)
    return forecast(make(chance) for _ in range(count))


def share(results: Iterable[bool]) -> float:
    """Of how many it is true."""
    told = list(results)
    return sum(told) / len(told)


def _times(length_s: float) -> list[float]:
    return [number * SPACING_S for number in range(max(FEWEST, int(length_s / SPACING_S) + 1))]


def _read(true: Iterable[float], chance: random.Random, deviation: float) -> list[float]:
    """Noise that is like the noise before, and a sensor that tells whole degrees, rounded or cut off."""
    autocorrelation = chance.uniform(0, 0.95)
    cut = chance.choice((math.floor, round))
    noise = chance.gauss(0, deviation)
    values = []
    for value in true:
        values.append(float(cut(value + noise)))
        noise = autocorrelation * noise + chance.gauss(0, deviation * math.sqrt(1 - autocorrelation**2))
    return values


def _holds(low: float | None, truth: float, high: float | None) -> bool:
    return (math.inf if low is None else low) <= truth <= (math.inf if high is None else high)
