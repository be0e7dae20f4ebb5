"""The ladder of DESIGN §5, pure: one step of one target, from the figures that it holds.

A target stands on a rung: 0 OPTIMAL, 1 NORMAL, 2 THROTTLED, 3 CRITICAL. It goes down (towards slow) at once and up
one rung at a time, when its figures have been the hysteresis below the threshold of the rung it stands on for the
whole cooldown.
"""

from typing import Final

from msgspec import Struct

from handlers.throttle import wording
from handlers.throttle.predictive import Prediction
from handlers.throttle.settings import Settings
from schemas.demand import Demand
from schemas.event import State

CRITICAL: Final = 3
#: The rung of a target, or of a figure, that was never read.
UNREAD: Final = -1
#: After lost time, so many fresh readings come before a harmful act (DESIGN §5); a pause is none.
PROVEN_READINGS: Final = 2


class Ladder(Struct, kw_only=True):
    """Where one target stands, and what was last said of it."""

    target: str
    uuid: str = ""
    rung: int = UNREAD
    #: why there is no fresh reading: blind, lost, driver, unreadable, silent; empty while there is one
    blind: str = ""
    #: effective temperature and share of memory in percent, as last read
    temperature_celsius: float | None = None
    memory_percent: float | None = None
    by_margin: bool = False
    seen_s: float = 0.0
    #: full samples in a row that did not list it
    absent: int = 0
    #: when it came onto this rung, and since when the figures have been low enough to leave it
    since_s: float = 0.0
    calm_since_s: float | None = None
    #: a CRITICAL pause for memory alone: since when, and the memory then
    window_s: float | None = None
    window_percent: float = 0.0
    #: pausing did not help, so it goes on although CRITICAL
    futile: bool = False
    #: at or above temp_critical, and whether that asks for the emergency cleanup
    emergency: bool = False
    urgent: bool = False
    #: fresh temperatures since time was last lost, or a reading; no more than matter are counted
    readings: int = 0
    why: str = ""
    state: State = "UNAVAILABLE"
    #: when it came into `state`: the time of the sample that moved it
    since: str = ""
    demand: Demand | None = None
    #: what looks ahead for a card where that is the policy
    prediction: Prediction | None = None

    def void_rates(self) -> None:
        """Nothing that was measured over time holds: the cooldown, the watch over memory and learning start again."""
        self._restart_waits()
        self.readings = 0
        self.prediction = None

    def forget_figures(self) -> None:
        """Expect no figure because it was there before."""
        self.temperature_celsius = self.memory_percent = None
        self.readings = 0

    def another_card(self, uuid: str, now_s: float) -> None:
        """An index is only a label: the card behind it changed, so only the rung stays."""
        self.uuid, self.since_s, self.urgent = uuid, now_s, False
        self.void_rates()
        self.forget_figures()

    def enter(self, rung: int, now_s: float) -> None:
        """Stand on another rung, with every wait at its beginning."""
        self.rung, self.since_s = rung, now_s
        self._restart_waits()
        self.futile = self.emergency = self.urgent = False

    def _restart_waits(self) -> None:
        self.calm_since_s = self.window_s = None


def step(ladder: Ladder, now_s: float, settings: Settings) -> None:
    """Move `ladder` by the figures that it holds, read at `now_s`; where it moves, `why` says so in figures."""
    temperature, memory = ladder.temperature_celsius, ladder.memory_percent
    hot = rung_of(temperature, settings.temp_optimal, settings.temp_normal, settings.temp_throttle)
    full = rung_of(memory, settings.memory_optimal, settings.memory_normal, settings.memory_critical)
    rung = max(hot, full)
    if rung > ladder.rung:
        ladder.enter(rung, now_s)
        ladder.why = wording.at_rung(rung, temperature, memory, hot, full, ladder.by_margin, settings)
    elif rung < ladder.rung and _low(ladder, settings):
        _rise(ladder, now_s, settings)
    else:
        ladder.calm_since_s = None
    if ladder.rung == CRITICAL:
        _critical(ladder, hot, now_s, settings)


def rung_of(value: float | None, optimal: float, normal: float, critical: float) -> int:
    """The rung of one figure: OPTIMAL below `optimal`, NORMAL below `normal`, CRITICAL above `critical`."""
    if value is None:
        return UNREAD
    if value < optimal:
        return 0
    if value < normal:
        return 1
    return 2 if value <= critical else CRITICAL


def _low(ladder: Ladder, settings: Settings) -> bool:
    """Whether every known figure is the hysteresis below the threshold of the rung on which the target stands."""
    temperature, memory = ladder.temperature_celsius, ladder.memory_percent
    hottest, fullest = way_up(ladder.rung, settings)
    return (temperature is None or temperature <= hottest) and (memory is None or memory <= fullest)


def way_up(rung: int, settings: Settings) -> tuple[float, float]:
    """The temperature and the share of memory from which down a target on `rung` is on its way up."""
    temperature, memory = (
        (settings.temp_optimal, settings.memory_optimal),
        (settings.temp_normal, settings.memory_normal),
        (settings.temp_throttle, settings.memory_critical),
    )[max(rung, 1) - 1]
    return temperature - settings.hysteresis_celsius, memory - settings.hysteresis_points


def seconds_up(ladder: Ladder, now_s: float, settings: Settings) -> float:
    """How long the figures must still be that low until it rises."""
    calm_s = 0.0 if ladder.calm_since_s is None else now_s - ladder.calm_since_s
    pause_s = settings.critical_pause_seconds - (now_s - ladder.since_s) if ladder.rung == CRITICAL else 0.0
    return max(settings.throttle_cooldown_seconds - calm_s, pause_s, 0.0)


def _rise(ladder: Ladder, now_s: float, settings: Settings) -> None:
    """Go up one rung when the figures have been low for long enough, as at least two readings have shown."""
    since_s = ladder.calm_since_s
    if since_s is None:
        ladder.calm_since_s = now_s
        return
    if now_s > since_s and seconds_up(ladder, now_s, settings) == 0:
        lasted = wording.number(now_s - since_s)
        figures = wording.figures(ladder.temperature_celsius, ladder.memory_percent, ladder.by_margin)
        ladder.enter(ladder.rung - 1, now_s)
        ladder.why = f"{figures}, low enough for {lasted} s"


def _critical(ladder: Ladder, hot: int, now_s: float, settings: Settings) -> None:
    """Within CRITICAL: the emergency by temperature, and the end of a pause for memory that does not help."""
    temperature, memory = ladder.temperature_celsius, ladder.memory_percent
    if temperature is not None:
        if temperature >= settings.temp_critical and not ladder.urgent:
            ladder.emergency, ladder.urgent = True, ladder.readings >= PROVEN_READINGS
            words = wording.celsius(temperature, ladder.by_margin)
            then = "emergency cleanup" if ladder.urgent else "emergency cleanup if the next reading says so too"
            ladder.why = f"{words} is at or above {wording.number(settings.temp_critical)} °C; {then}"
        elif ladder.emergency and temperature <= settings.temp_critical - settings.hysteresis_celsius:
            ladder.emergency = ladder.urgent = False
            ladder.why = f"{wording.celsius(temperature, ladder.by_margin)}, an emergency no longer"
        cool = settings.temp_throttle - settings.hysteresis_celsius
        if hot == CRITICAL or (not ladder.futile and temperature > cool):
            if ladder.futile:
                ladder.futile = False
                ladder.why = f"{wording.celsius(temperature, ladder.by_margin)} came on top of the memory"
            ladder.window_s = None
            return
    if memory is None:
        return
    if ladder.window_s is None:
        ladder.window_s, ladder.window_percent = now_s, memory
    grew = memory - ladder.window_percent > settings.memory_growth_points
    was = wording.number(ladder.window_percent)
    if ladder.futile:
        if grew:
            ladder.futile = False
            ladder.window_s, ladder.window_percent = now_s, memory
            ladder.why = f"memory grows again, from {was} to {wording.number(memory)} %"
        elif memory < ladder.window_percent:
            ladder.window_percent = memory
    elif now_s - ladder.window_s >= settings.critical_pause_seconds:
        if grew:
            ladder.window_s, ladder.window_percent = now_s, memory
        elif ladder.calm_since_s is None:
            paused_s = wording.number(now_s - ladder.window_s)
            ladder.futile = True
            ladder.why = (
                f"pausing does not help: {wording.number(memory)} % of memory after {paused_s} s, {was} % before"
            )
