"""What the trends say to people."""

import math
from typing import Final, NamedTuple

from handlers.history.forecast import Arrival
from handlers.history.trend import FEWEST, Trend

_GIB: Final = 1 << 30
_MIB: Final = 1 << 20


class Unit(NamedTuple):
    """How a figure is told: what one of it is called, and how many of the stored ones that is."""

    name: str
    size: float

    def value(self, value: float) -> str:
        """An amount."""
        return f"{round(value / self.size, 2):.4g} {self.name}"

    def rate(self, low: float, high: float) -> str:
        """The ends of an interval of change a second, as change a minute."""
        return f"between {_signed(60 * low / self.size)} and {_signed(60 * high / self.size)} {self.name} a minute"


def _signed(value: float) -> str:
    """Two digits that count, never as a power of ten."""
    return f"{float(f'{value:.2g}'):+.15g}"


CELSIUS: Final = Unit("°C", 1)
GIBIBYTES: Final = Unit("GiB", _GIB)
MEBIBYTES: Final = Unit("MiB", _MIB)


def span(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.2g} min" if seconds < 5400 else f"{seconds / 3600:.3g} h"


def heading(value: float, trend: Trend, unit: Unit, per_minute: Unit) -> str:
    """Where a figure is, and where it is heading."""
    slope = trend.now if trend.by_now else trend.line
    rate, now = per_minute.rate(slope.low, slope.high), "now " if trend.by_now else ""
    if trend.verdict == "unknown":
        return f"{unit.value(value)}; whether it rises or falls cannot be told, it is {rate}"
    if trend.verdict == "stable":
        return f"{unit.value(value)}, {now}stable ({rate})"
    change = per_minute.value(60 * abs(slope.per_s))
    return f"{unit.value(value)}, {now}{trend.verdict} by {change} a minute ({rate})"


def untold(readings: int, *, cut: bool, silent_s: float) -> str:
    """Why there is no trend; `silent_s` is for how long nothing was read, 0 where that is not why."""
    if silent_s == math.inf:
        return "unknown: it was never read"
    if silent_s > 0:
        return f"unknown: it was not read for {span(silent_s)}"
    where = " since time was lost" if cut else " in this window"
    return f"unknown: {readings} reading{'s' if readings != 1 else ''}{where}, and {FEWEST} are needed"


def coming(threshold: str, arrival: Arrival) -> str:
    """When a threshold is reached."""
    low_s, p10_s, p50_s, _, high_s = arrival
    if p50_s is None:
        chance = "" if p10_s is None else f"; 1 chance in 10 that it comes within {span(p10_s)}"
        return f"{threshold} is not in sight{chance}"
    if high_s is None:
        return f"{threshold} in about {span(p50_s)}, unless it levels off before"
    return f"{threshold} in about {span(p50_s)}, most likely between {span(low_s or 0)} and {span(high_s)}"
