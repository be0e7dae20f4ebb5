"""One simulated card: what it is made of, what will happen to it, and its state from second to second.

The heat of the work flows through the cooling to the surrounding air; the fan follows the temperature late; the sensor
tells whole degrees, late and with noise. With `die_ratio`, part of the rise belongs to the die, which follows the heat
within seconds while the rest of the card takes `tau_s`.
"""

import random
from collections import deque
from math import expm1
from typing import Final, Literal

from msgspec import Struct

Class = Literal["cool", "warm", "borderline", "hot", "growing VRAM", "dying fan"]
CLASSES: Final[tuple[Class, ...]] = ("cool", "warm", "borderline", "hot", "growing VRAM", "dying fan")
#: The fan turns at `_FAN_LEAST` of its speed up to the first temperature, and at full speed from the second one on.
_FAN_CELSIUS: Final = (50.0, 80.0)
_FAN_LEAST: Final = 0.3
#: What cools without a fan.
_STILL_AIR: Final = 0.4
#: A memory-bound program gains nothing above this speed, though its arithmetic units still draw more.
_KNEE: Final = 0.6
_DIE_TAU_S: Final = 4.0
#: A workload that ran out of memory needs so long until it works again.
RESTART_S: Final = 60
FULL_PERCENT: Final = 100.0


class Nature(Struct, frozen=True, kw_only=True):
    """What a card, its room and its workload are; the courses are (second, value) in order of time."""

    kind: Class
    memory_bound: bool
    #: of the whole card, with the fan at full speed
    tau_s: float
    #: above the air at full load and with the fan at full speed
    rise_celsius: float
    #: share of the full heat at speed 0
    idle_ratio: float
    fan_lag_s: float
    sensor_delay_s: int
    sensor_noise_celsius: float
    ambient_celsius: tuple[tuple[int, float], ...]
    #: heat of the work, relative to full load
    load_ratio: tuple[tuple[int, float], ...] = ((0, 1.0),)
    die_ratio: float = 0.0
    #: from then on the fan loses its speed, with this time constant, down to what is left
    fan_dies_at_s: float | None = None
    fan_dies_within_s: float = 30.0
    fan_left_ratio: float = 1.0
    memory_percent: float = 30.0
    #: points a second at full throughput, up to the ceiling
    memory_growth: float = 0.0
    memory_ceiling_percent: float = 200.0
    #: share of what has grown that a cleanup gives back
    reclaimable_ratio: float = 0.0


class Card:
    """A card at work; `step` lets a second pass."""

    def __init__(self, nature: Nature, seed: int) -> None:
        self.nature = nature
        self.second = 0
        self.celsius = nature.ambient_celsius[0][1] + 5.0
        self.memory_percent = nature.memory_percent
        self.fan_ratio = _FAN_LEAST
        self.work = 0.0
        self.seconds_above_85 = self.seconds_above_90 = self.out_of_memory = 0
        self._body_celsius = self.celsius
        self._die_celsius = 0.0
        self._restarting_s = 0
        self._noise = random.Random(seed)
        self._told = deque([self.celsius] * (nature.sensor_delay_s + 1), nature.sensor_delay_s + 1)

    def reading_celsius(self) -> float:
        """What the sensor says now; to be read once a second."""
        return float(round(self._told[0] + self._noise.gauss(0, self.nature.sensor_noise_celsius)))

    def step(self, speed: float) -> None:
        """Let a second pass at this share of full speed."""
        if self._restarting_s:
            self._restarting_s -= 1
            speed = 0.0
        throughput = self.throughput(speed)
        self.work += throughput
        self.fan_ratio, self._body_celsius, self._die_celsius = self._next(speed)
        self.celsius = self._body_celsius + self._die_celsius
        self._told.append(self.celsius)
        self.seconds_above_85 += self.celsius > 85
        self.seconds_above_90 += self.celsius > 90
        self._fill(throughput)
        self.second += 1

    def clean(self) -> None:
        """The workload gives back what it can."""
        self.memory_percent -= self.nature.reclaimable_ratio * (self.memory_percent - self.nature.memory_percent)

    def throughput(self, speed: float) -> float:
        """Work a second, relative to full speed."""
        return min(1.0, speed / _KNEE) if self.nature.memory_bound else speed

    def heat(self, speed: float) -> float:
        """Heat of the work at this second, relative to full load."""
        idle = self.nature.idle_ratio
        busy = 0.7 * min(1.0, speed / _KNEE) + 0.3 * speed if self.nature.memory_bound else speed
        return idle + (1 - idle) * busy * _at(self.nature.load_ratio, self.second)

    def next_celsius(self, speed: float) -> float:
        """Its temperature after one more second at this speed."""
        _, body, die = self._next(speed)
        return body + die

    def _next(self, speed: float) -> tuple[float, float, float]:
        """Fan, body and die after one more second."""
        nature = self.nature
        wanted = min(max((self.celsius - _FAN_CELSIUS[0]) / (_FAN_CELSIUS[1] - _FAN_CELSIUS[0]), _FAN_LEAST), 1.0)
        lag_s = nature.fan_lag_s
        if nature.fan_dies_at_s is not None and self.second >= nature.fan_dies_at_s:
            wanted, lag_s = min(wanted, nature.fan_left_ratio), nature.fan_dies_within_s
        fan = self.fan_ratio - (wanted - self.fan_ratio) * expm1(-1 / lag_s)
        cooling = _STILL_AIR + (1 - _STILL_AIR) * fan
        rise, heat = nature.rise_celsius, self.heat(speed)
        settled = _at(nature.ambient_celsius, self.second) + (1 - nature.die_ratio) * rise * heat / cooling
        body = self._body_celsius - (settled - self._body_celsius) * expm1(-cooling / nature.tau_s)
        die = self._die_celsius - (nature.die_ratio * rise * heat - self._die_celsius) * expm1(-1 / _DIE_TAU_S)
        return fan, body, die

    def _fill(self, throughput: float) -> None:
        nature = self.nature
        grown = self.memory_percent + nature.memory_growth * throughput
        self.memory_percent = min(grown, max(nature.memory_ceiling_percent, self.memory_percent))
        if self.memory_percent >= FULL_PERCENT:
            self.out_of_memory += 1
            self.memory_percent = nature.memory_percent
            self._restarting_s = RESTART_S


def _at(course: tuple[tuple[int, float], ...], second: int) -> float:
    """The value of a course at that second."""
    value = course[0][1]
    for since, later in course:
        if since > second:
            break
        value = later
    return value
