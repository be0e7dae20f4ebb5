"""The policy that looks ahead, pure: the highest speed that keeps one card below its limits, and when to believe it.

A forecast is always on trial: left to itself, it is held against the readings of half a minute. Only where two in a row
came true is prediction trusted; where one fails, the ladder decides, and the forecast may only be slower than it.
"""

from bisect import bisect_right
from math import exp, floor, sqrt
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from handlers.throttle import growth, thermal
from handlers.throttle.growth import Growth
from handlers.throttle.settings import Settings
from handlers.throttle.thermal import Response, Thermal
from handlers.throttle.wording import number

#: A card must stay below its limit for so long, were its speed not changed again.
HORIZON_S: Final = 60.0
#: Memory must stay below its limit for so long.
_MEMORY_HORIZON_S: Final = 120.0
#: A cleanup is asked for once memory would be at its limit within the first time at full speed, until it is not within
#: the second.
_CLEANUP_WITHIN_S: Final = (120.0, 240.0)
#: Memory slows no further than this: what creeps on has a way out of CRITICAL, what stands still has none.
_CREEP_SPEED: Final = 0.1
#: A choice keeps so many of its own standard deviations below the limit, and one of a reading's.
_CHOICE_SIGMAS: Final = 0.5
#: The limit is lower by what an equilibrium that rises by so much does within this time and the sensor's delay.
_SURPRISE_CELSIUS: Final = 5.0
_REACTION_S: Final = 2.0
#: What must not pass temp_throttle within this time at this certainty slows down without waiting for its turn.
_SOON_S: Final = 15.0
_SOON_SIGMAS: Final = 2.0
#: So long a speed stands before a faster one, a slower one, and a slower one in a hurry: few directives a minute.
_FASTER_AFTER_S: Final = 20.0
_SLOWER_AFTER_S: Final = 15.0
_HURRY_AFTER_S: Final = 5.0
#: Changes smaller than these wait, the last one until a speed has stood for the horizon.
_FASTER_BY: Final = 0.05
_SLOWER_BY: Final = 0.03
_LEAST_BY: Final = 0.02
#: Speeds have two decimals.
_STEPS: Final = 100
#: A trial lasts so long; readings further off than so many standard deviations and half a degree end it, where so many
#: come in a row.
_TRIAL_S: Final = 30.0
INTERVAL_SIGMAS: Final = 3.0
_ROUNDING_CELSIUS: Final = 0.5
_MISSES: Final = 2
_PROOFS: Final = 2
#: What is learned may be no vaguer than this, over the horizon, to be trusted.
_LEARNED_CELSIUS: Final = 4.0
#: A few readings show no course.
_LEAST_READINGS: Final = 4
#: Samples closer together repeat the sensor's last reading.
_LEAST_APART_S: Final = 0.5


class Trial(Struct, kw_only=True):
    """A forecast that is held against what comes: a response left to itself, and the most that memory may grow."""

    response: Response | None = None
    percent: float | None = None
    #: points a second at full speed
    rate: float = 0.0
    seconds: float = 0.0
    worked_s: float = 0.0
    misses: int = 0


class Prediction(Struct, kw_only=True):
    """What looks ahead for one card; it begins anew wherever time was lost."""

    seen_s: float
    #: what it chose last, and since when that stands
    speed: float
    since_s: float
    thermal: Thermal | None = None
    growth: Growth | None = None
    trial: Trial | None = None
    #: forecasts in a row that came true
    proofs: int = 0
    trusted: bool = False
    #: memory that will be full soon asks for a cleanup
    cleanup: bool = False


def learn(
    prediction: Prediction, now_s: float, celsius: float | None, percent: float | None, speed: float, settings: Settings
) -> str:
    """Take in a reading, up to which the card worked at `speed`; returns a sentence where trust came or went."""
    seconds = now_s - prediction.seen_s
    if seconds < _LEAST_APART_S:
        return ""
    prediction.seen_s = now_s
    heat, memory = prediction.thermal, prediction.growth
    if celsius is None or heat is None:
        prediction.thermal = heat = None if celsius is None else thermal.unlearned(celsius)
    else:
        heat.learn(celsius, speed, seconds)
    if percent is None or memory is None:
        prediction.growth = memory = None if percent is None else growth.unlearned(percent)
    else:
        memory.learn(percent, speed, seconds)
    if (trial := prediction.trial) is not None:
        trial.seconds += seconds
        trial.worked_s += speed * seconds
        off = _heat_is_off(trial, heat, seconds) or _memory_is_off(trial, memory, settings)
        trial.misses = trial.misses + 1 if off else 0
        if trial.misses == _MISSES:
            return _fail(prediction, off)
        if trial.seconds < _TRIAL_S:
            return ""
        prediction.proofs += 1
    prediction.trial = _begin(heat, memory)
    return _prove(prediction, speed)


def choose(prediction: Prediction, now_s: float, most: float, settings: Settings) -> str:
    """Choose the speed from now on, no faster than `most` unless it is trusted; returns why, where anything changes.

    Call it after `learn` has taken in the reading of `now_s`.
    """
    if not prediction.trusted and prediction.speed > most:
        prediction.speed, prediction.since_s = most, now_s
    heat = _heat_allows(prediction.thermal, settings)
    memory = _memory_allows(prediction.growth, settings)
    wanted = min(heat, memory) if prediction.trusted else min(heat, memory, most)
    asked = _wants_cleanup(prediction, settings)
    said = ""
    if asked != prediction.cleanup:
        prediction.cleanup = asked
        said = "memory is soon full, so a cleanup may help" if asked else "memory is no longer soon full"
    if _is_due(prediction, wanted, now_s, settings):
        prediction.speed, prediction.since_s = wanted, now_s
        if prediction.trusted or wanted < most:  # else it is the ladder's, which says why
            said = _forecast(prediction, by_memory=memory < heat) + (f"; {said}" if said else "")
    return said


def _is_due(prediction: Prediction, wanted: float, now_s: float, settings: Settings) -> bool:
    """Whether the speed may change now: faster and slower wait, so that directives do not flap, but not in a hurry."""
    change, stood_s = wanted - prediction.speed, now_s - prediction.since_s
    settled = stood_s >= HORIZON_S
    if change > 0:
        waits_s = _FASTER_AFTER_S if prediction.trusted else max(_FASTER_AFTER_S, settings.throttle_cooldown_seconds)
        return stood_s >= waits_s and change >= (_LEAST_BY if settled else _FASTER_BY)
    if stood_s >= _SLOWER_AFTER_S:
        return -change >= (_LEAST_BY if settled else _SLOWER_BY)
    return stood_s >= _HURRY_AFTER_S and -change >= _FASTER_BY and _in_a_hurry(prediction, settings)


def _heat_allows(heat: Thermal | None, settings: Settings) -> float:
    """The highest speed at which the temperature stays below the limit over the horizon."""
    if heat is None or heat.readings < _LEAST_READINGS:
        return 1.0
    best, outlook = heat.best, heat.ahead(HORIZON_S)
    surprise = _SURPRISE_CELSIUS * (1.0 - exp(-(_REACTION_S + best.delay_s) / best.tau_s))
    limit = settings.temp_throttle - settings.forecast_margin_celsius - sqrt(heat.reading_variance) - surprise

    def hottest(step: int) -> float:
        celsius, deviation = outlook.at(step / _STEPS)
        return celsius + _CHOICE_SIGMAS * deviation

    return max(bisect_right(range(_STEPS + 1), limit, key=hottest) - 1, 0) / _STEPS


def _memory_allows(memory: Growth | None, settings: Settings) -> float:
    """The highest speed at which memory stays below its limit over its horizon, but no standstill.

    Less growth than the noise of memory is none.
    """
    if memory is None:
        return 1.0
    room, needed = settings.memory_critical - memory.percent, memory.fastest * _MEMORY_HORIZON_S
    if needed <= max(room, settings.memory_growth_points):
        return 1.0
    return max(floor(_STEPS * room / needed) / _STEPS, _CREEP_SPEED)


def _in_a_hurry(prediction: Prediction, settings: Settings) -> bool:
    """Whether the temperature may pass its limit before the speed's turn to change comes."""
    heat = prediction.thermal
    if heat is None:
        return False
    celsius, deviation = heat.ahead(_SOON_S).at(prediction.speed)
    return celsius + _SOON_SIGMAS * deviation > settings.temp_throttle - sqrt(heat.reading_variance)


def _wants_cleanup(prediction: Prediction, settings: Settings) -> bool:
    """Whether memory will be full soon, or was to be and is not yet far from it."""
    memory = prediction.growth
    if memory is None or not prediction.trusted or not memory.certain:
        return False
    begins_s, ends_s = _CLEANUP_WITHIN_S
    return settings.memory_critical - memory.percent < memory.rate * (ends_s if prediction.cleanup else begins_s)


def _heat_is_off(trial: Trial, heat: Thermal | None, seconds: float) -> str:
    """What was read and what was forecast, where the reading is outside of the forecast's interval."""
    response = trial.response
    if response is None or heat is None:
        return ""
    response.advance(heat.felt(response), seconds)
    variance = response.tt * max(heat.excess, 1.0) + heat.reading_variance
    around = INTERVAL_SIGMAS * sqrt(variance) + _ROUNDING_CELSIUS
    if abs(heat.last_celsius - response.celsius) <= around:
        return ""
    return f"{number(heat.last_celsius)} °C where {response.celsius:.1f} ± {around:.1f} °C were forecast"


def _memory_is_off(trial: Trial, memory: Growth | None, settings: Settings) -> str:
    """The same for memory, which may always be less than forecast."""
    if trial.percent is None or memory is None:
        return ""
    most = trial.percent + trial.rate * trial.worked_s + settings.memory_growth_points
    return (
        f"{number(memory.percent)} % of memory where {number(most)} % at most were forecast"
        if memory.percent > most
        else ""
    )


def _begin(heat: Thermal | None, memory: Growth | None) -> Trial:
    """Put what is believed now on trial."""
    return Trial(
        response=None if heat is None else replace(heat.best),
        percent=None if memory is None else memory.percent,
        rate=0.0 if memory is None else memory.rate + 2.0 * memory.deviation,
    )


def _fail(prediction: Prediction, off: str) -> str:
    """A forecast was wrong: believe none until some have come true again."""
    if prediction.thermal is not None:
        prediction.thermal.doubt()
    prediction.trial = _begin(prediction.thermal, prediction.growth)
    prediction.proofs = 0
    if not prediction.trusted:
        return ""
    prediction.trusted = prediction.cleanup = False
    return f"{off}, so it falls back to the ladder until forecasts come true again"


def _prove(prediction: Prediction, speed: float) -> str:
    """Trust it once enough forecasts have come true and are narrow enough."""
    heat = prediction.thermal
    if prediction.trusted or prediction.proofs < _PROOFS:
        return ""
    if heat is not None and heat.ahead(HORIZON_S).at(speed)[1] > _LEARNED_CELSIUS:
        return ""
    prediction.trusted = True
    return f"forecasts have come true for {number(_PROOFS * _TRIAL_S)} s, so it goes by them"


def _forecast(prediction: Prediction, *, by_memory: bool) -> str:
    """What the speed was chosen for."""
    heat, memory = prediction.thermal, prediction.growth
    if by_memory and memory is not None:
        return f"memory grows by {number(60.0 * memory.fastest)} points a minute at full speed"
    if heat is None:
        return "memory has room"
    celsius, deviation = heat.ahead(HORIZON_S).at(prediction.speed)
    return f"{celsius:.1f} ± {INTERVAL_SIGMAS * deviation:.1f} °C are forecast"


def standing(prediction: Prediction) -> str:
    """What a trusted forecast says now, for people who look."""
    return _forecast(prediction, by_memory=False)
