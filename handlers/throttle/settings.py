"""`[throttle]`: the thresholds, speeds and waits of the ladder.

Values marked *seed* are those of the GPU manager that Flyball grew out of, under the names of its keys; *DESIGN* marks
the rules of Flyball's own. OPTIMAL is full speed and CRITICAL is a pause; these two are no settings.
"""

from itertools import pairwise
from math import inf
from typing import Literal

from msgspec import Struct


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[throttle]`; temperatures in °C, memory in percent of the total, a GPU's and the host's alike."""

    #: What sets the speed below CRITICAL: the ladder, or for cards a forecast of heat and memory that proved right.
    policy: Literal["ladder", "predictive"] = "predictive"
    #: A forecast stays so far below temp_throttle, besides what it does not know (ours: see docs/decisions/050).
    forecast_margin_celsius: float = 1.0
    #: OPTIMAL below it (seed: < 65 °C).
    temp_optimal: float = 65.0
    #: NORMAL below it, THROTTLED from it on (seed: 65–75 °C, 75–85 °C).
    temp_normal: float = 75.0
    #: CRITICAL above it (seed: > 85 °C); a card that tells its margin to slowdown is there when the margin is 0.
    temp_throttle: float = 85.0
    #: From it on: CRITICAL, and an emergency cleanup (seed: 90 °C).
    temp_critical: float = 90.0
    #: OPTIMAL below it (seed: < 70 %).
    memory_optimal: float = 70.0
    #: NORMAL below it, THROTTLED from it on (seed: 70–85 %, 85–95 %).
    memory_normal: float = 85.0
    #: CRITICAL above it (seed: > 95 %).
    memory_critical: float = 95.0
    #: Share of full speed in NORMAL (seed: 0.8x).
    speed_normal: float = 0.8
    #: Share of full speed in THROTTLED, when a pause did not help, and for what was never read (seed: 0.5x).
    speed_throttled: float = 0.5
    #: A state is left for a faster one this far below its threshold (DESIGN: 3 °C).
    hysteresis_celsius: float = 3.0
    #: The same for memory (DESIGN: 3 points).
    hysteresis_points: float = 3.0
    #: The figures must have been that low for so long, at every step up (seed: 30 s).
    throttle_cooldown_seconds: float = 30.0
    #: CRITICAL lasts at least so long; a memory pause that does not help ends after it (seed: 60 s).
    critical_pause_seconds: float = 60.0
    #: Memory grows when it is this much above what it was (points of the total; ours: above the noise of a host's RAM).
    memory_growth_points: float = 1.0
    #: BLIND after so many intervals without a sample (DESIGN: 3).
    blind_intervals: float = 3.0

    def problems(self) -> list[str]:
        """What cannot be, one sentence each, starting with the key; NaN fails every one of these comparisons."""
        found = [
            *_out_of_order(self, "temp_optimal", "temp_normal", "temp_throttle", "temp_critical"),
            *_out_of_order(self, "memory_optimal", "memory_normal", "memory_critical"),
            *_out_of_range(self, 0.0, 150.0, "temp_optimal", "temp_normal", "temp_throttle", "temp_critical"),
            *_out_of_range(self, 0.0, 100.0, "memory_optimal", "memory_normal", "memory_critical"),
            *_out_of_range(self, 0.01, 1.0, "speed_normal", "speed_throttled"),
            *_out_of_range(self, 0.0, 50.0, "forecast_margin_celsius"),
            *_out_of_range(self, 0.0, inf, "throttle_cooldown_seconds", "critical_pause_seconds"),
            *_out_of_range(self, 0.0, 100.0, "memory_growth_points"),
            *_out_of_range(self, 1.0, inf, "blind_intervals"),
        ]
        if not self.speed_throttled <= self.speed_normal:
            found.append(
                f"speed_throttled: {self.speed_throttled:g} is above speed_normal ({self.speed_normal:g}); "
                "THROTTLED must not be faster than NORMAL"
            )
        for hysteresis, lowest in (("hysteresis_celsius", "temp_optimal"), ("hysteresis_points", "memory_optimal")):
            if not 0 <= getattr(self, hysteresis) < getattr(self, lowest):
                found.append(
                    f"{hysteresis}: {getattr(self, hysteresis):g} is not from 0 to below {lowest} "
                    f"({getattr(self, lowest):g}); otherwise NORMAL could never be left"
                )
        return found


def _out_of_order(settings: Settings, *keys: str) -> list[str]:
    """Neighbours of which the first is not below the second."""
    return [
        f"{lower}: {getattr(settings, lower):g} is not below {upper} ({getattr(settings, upper):g}); "
        f"the order is {' < '.join(keys)}"
        for lower, upper in pairwise(keys)
        if not getattr(settings, lower) < getattr(settings, upper)
    ]


def _out_of_range(settings: Settings, low: float, high: float, *keys: str) -> list[str]:
    """Those not within [low, high]; infinity is in no range."""
    allowed = f"at least {low:g}" if high == inf else f"{low:g} to {high:g}"
    return [
        f"{key}: {getattr(settings, key):g} is out of range; allowed is {allowed}"
        for key in keys
        if not (low <= getattr(settings, key) <= high and getattr(settings, key) != inf)
    ]
