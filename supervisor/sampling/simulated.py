"""Eight simulated cards behind `GpuSource`, for `flyball demo`: what a newcomer without a GPU looks at.

A card's chip follows dT/dt = (ambient + R·P − T) / τ, with P between its idle draw and its limit in proportion to its
load and the speed at which its workload runs. Two cards have a story, so that throttling, pausing and recovery are seen
within about two minutes: the fan of card 0 stalls for a while, and the memory of card 1 grows until its program frees
it. The numbers are those of a card of the 300 W class, with τ shortened so that nobody has to wait. Same seed and same
speeds, same readings.
"""

import random
from collections.abc import Callable, Collection
from typing import Final

from schemas.sample import Gpu, GpuBackend
from supervisor.clock import Clock
from supervisor.sampling.source import GpuReadings

_STEP_S: Final = 0.1
_GIB: Final = 1 << 30
_MEMORY_BYTES: Final = 80 * _GIB
_RESERVED_BYTES: Final = 1 * _GIB
_AMBIENT_CELSIUS: Final = 28.0
_IDLE_WATTS: Final = 55.0
_LIMIT_WATTS: Final = 300.0
#: degrees a watt with a turning fan, and with a stalled one
_RESISTANCE: Final = 0.14
_STALLED_RESISTANCE: Final = 0.42
_TIME_CONSTANT_S: Final = 14.0
#: where the card says that it slows itself down
_SLOWDOWN_CELSIUS: Final = 92.0
#: the fan of card 0 stalls at this time of each cycle, for so long
_FAN_CYCLE_S: Final = 180.0
_STALL_S: Final = (10.0, 55.0)
#: the memory of card 1 grows at full speed by so much a second up to its top, and is freed so long after it was full
_GROWTH_PER_S: Final = 0.016
_BASE_RATIO: Final = 0.30
_FULL_RATIO: Final = 0.945
_TOP_RATIO: Final = 0.965
_FREED_AFTER_S: Final = 30.0

#: load and share of memory of the cards with no story
_STEADY: Final = ((0.55, 0.42), (0.75, 0.55), (0.35, 0.2), (0.0, 0.01), (0.6, 0.64), (0.0, 0.01))


class SimulatedGpus:
    """Implements `GpuSource` on a model; nothing in it is measured, and the samples are marked so."""

    def __init__(self, clock: Clock, *, speed: Callable[[int], float] = lambda index: 1.0, seed: int = 0) -> None:
        """`speed(index)` is the share of full speed at which the workload of that card really runs now."""
        self._clock = clock
        self._speed = speed
        self._cards = [_Card(index, random.Random(f"{seed}/{index}")) for index in range(2 + len(_STEADY))]
        self._start_s = 0.0
        self._steps = 0

    async def start(self) -> None:
        """Time begins."""
        self._start_s = self._clock.monotonic()
        self._steps = 0

    async def read(self, only: Collection[int] | None = None) -> GpuReadings:
        """Bring the model up to now and read all cards, or those whose index is in `only`.

        After a long stop (suspend) no more than a minute of it is made up.
        """
        due = int((self._clock.monotonic() - self._start_s) / _STEP_S)
        steps = min(due - self._steps, int(60 / _STEP_S))
        for card in self._cards:
            card.advance(self._speed(card.index), self._steps, steps)
        self._steps = due
        readings = tuple(card.reading() for card in self._cards if only is None or card.index in only)
        return GpuReadings(GpuBackend("ok"), readings)

    async def stop(self) -> None:
        """There is nothing to release."""


class _Card:
    def __init__(self, index: int, noise: random.Random) -> None:
        self.index = index
        self._noise = noise
        self._temperature = _AMBIENT_CELSIUS + _RESISTANCE * _IDLE_WATTS
        self._power = _IDLE_WATTS
        self._load = 0.0
        self._steady = _STEADY[index - 2] if index >= 2 else (0.75, _BASE_RATIO)
        self._memory_ratio = self._steady[1]
        self._full_s = 0.0
        self._stalled = False
        self._slowed_ns = 0

    def advance(self, speed: float, first: int, steps: int) -> None:
        """Go on by so many steps from step `first`, at that speed."""
        for step in range(first, first + steps):
            self._load = min(1.0, max(0.0, self._steady[0] * speed * (1 + 0.03 * self._noise.gauss(0, 1))))
            self._power = _IDLE_WATTS + (_LIMIT_WATTS - _IDLE_WATTS) * self._load
            self._stalled = self.index == 0 and _STALL_S[0] <= step * _STEP_S % _FAN_CYCLE_S < _STALL_S[1]
            resistance = _STALLED_RESISTANCE if self._stalled else _RESISTANCE
            target = _AMBIENT_CELSIUS + resistance * self._power
            self._temperature += (target - self._temperature) * _STEP_S / _TIME_CONSTANT_S
            if self._temperature > _SLOWDOWN_CELSIUS:
                self._slowed_ns += int(_STEP_S * 1e9)
            if self.index == 1:
                self._grow(speed)

    def reading(self) -> Gpu:
        return Gpu(
            index=self.index,
            uuid=f"GPU-simulated-{self.index:04d}",
            name=f"Simulated card {self.index}",
            pci_bus_id=f"00000000:{0x10 + self.index:02X}:00.0",
            temperature_celsius=round(self._temperature),
            temperature_margin_celsius=round(_SLOWDOWN_CELSIUS - self._temperature),
            memory_total_bytes=_MEMORY_BYTES,
            memory_used_bytes=int(self._memory_ratio * _MEMORY_BYTES),
            memory_reserved_bytes=_RESERVED_BYTES,
            utilization_ratio=round(self._load, 2),
            memory_utilization_ratio=round(0.6 * self._load, 2),
            power_watts=round(self._power, 1),
            power_limit_watts=_LIMIT_WATTS,
            clock_sm_mhz=1980 if self._load > 0.01 else 345,
            clock_memory_mhz=2619,
            fan_ratio=0.0 if self._stalled else round(0.3 + 0.5 * self._load, 2),
            throttle_reasons=("hw_thermal_slowdown",) if self._temperature > _SLOWDOWN_CELSIUS else (),
            violation_hw_thermal_ns=self._slowed_ns,
        )

    def _grow(self, speed: float) -> None:
        self._memory_ratio = min(_TOP_RATIO, self._memory_ratio + _GROWTH_PER_S * speed * _STEP_S)
        if self._memory_ratio < _FULL_RATIO:
            return
        self._full_s += _STEP_S
        if self._full_s >= _FREED_AFTER_S:
            self._memory_ratio = _BASE_RATIO
            self._full_s = 0.0
