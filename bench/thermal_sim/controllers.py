"""Who may drive the cards: Flyball's own policies as they are, and what they are compared with.

Each has `orders(cards)`, called once a second, which returns for every card the speed from now on, whether the workload
is asked for a cleanup at this second, and whether that is a new directive.
"""

import time
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from bench.thermal_sim.card import Card
from handlers.throttle.policy import Governor, observe
from handlers.throttle.settings import Settings
from schemas.sample import Gpu, Sample

_TOTAL_BYTES: Final = 100_000_000_000
_FIRST_S: Final = 1000.0


class Order(NamedTuple):
    """What a card's workload is told for the next second."""

    speed: float
    cleanup: bool = False
    changed: bool = False


class Controller(Protocol):
    """One way of driving all cards."""

    def orders(self, cards: Sequence[Card]) -> list[Order]:
        """For each card, at this second."""
        ...


class Constant:
    """Each card at a speed of its own, for ever."""

    def __init__(self, speeds: Sequence[float]) -> None:
        self._orders = [Order(speed) for speed in speeds]

    def orders(self, cards: Sequence[Card]) -> list[Order]:
        """The same as ever."""
        return self._orders


class Flyball:
    """The throttle handler's policy: samples in, demands out; nothing of it is written again here."""

    def __init__(self, settings: Settings) -> None:
        self.governor = Governor()
        self._settings = settings
        self._standing: list[Order] = []
        self._tick = 0
        #: by the policy alone, without making the samples
        self.spent_s = 0.0

    def orders(self, cards: Sequence[Card]) -> list[Order]:
        """What it demands once it has seen this second's sample; a cleanup is heard with each new directive."""
        self._tick += 1
        if not self._standing:
            self._standing = [Order(1.0)] * len(cards)
        orders = list(self._standing)
        sample = self._sample(cards)
        began_s = time.perf_counter()
        moves = observe(self.governor, sample, f"s{self._tick}", self._settings)
        self.spent_s += time.perf_counter() - began_s
        for move in moves:
            index = int(move.event.target.removeprefix("gpu"))
            demand = move.demand
            if demand is None:
                self._standing[index] = Order(1.0)
                orders[index] = Order(1.0, changed=True)
            else:
                self._standing[index] = Order(demand.speed)
                orders[index] = Order(demand.speed, demand.cleanup != "none", changed=True)
        return orders

    def _sample(self, cards: Sequence[Card]) -> Sample:
        return Sample(
            host="simulated",
            boot_id="simulated",
            tick=self._tick,
            time="",
            monotonic_s=_FIRST_S + self._tick,
            interval_s=1.0,
            simulated=True,
            gpus=tuple(
                Gpu(
                    index=index,
                    uuid=f"GPU-{index}",
                    temperature_celsius=card.reading_celsius(),
                    memory_total_bytes=_TOTAL_BYTES,
                    memory_used_bytes=int(card.memory_percent / 100 * _TOTAL_BYTES),
                )
                for index, card in enumerate(cards)
            ),
        )


class ProportionalIntegral:
    """A plain PI loop a card, every second, towards a temperature; in steps of 0.05 like a sane program's."""

    _TARGET_CELSIUS: Final = 83.0
    _PER_CELSIUS: Final = 0.03
    _PER_CELSIUS_SECOND: Final = 0.001

    def __init__(self, count: int) -> None:
        self._integral = [1.0] * count
        self._speed = [1.0] * count

    def orders(self, cards: Sequence[Card]) -> list[Order]:
        """By the error of this second's reading and what has gathered of it."""
        return [self._order(index, card) for index, card in enumerate(cards)]

    def _order(self, index: int, card: Card) -> Order:
        error = self._TARGET_CELSIUS - card.reading_celsius()
        integral = self._integral[index] = min(max(self._integral[index] + self._PER_CELSIUS_SECOND * error, 0.0), 1.0)
        wanted = min(max(integral + self._PER_CELSIUS * error, 0.0), 1.0)
        changed = abs(wanted - self._speed[index]) >= 0.05
        if changed:
            self._speed[index] = round(wanted * 20) / 20
        return Order(self._speed[index], changed=changed)


class AllKnowing:
    """Knows each card's state and what happens in the next second: as fast as 85 °C and the memory's end allow."""

    _LIMIT_CELSIUS: Final = 85.0
    _LIMIT_PERCENT: Final = 99.5

    def orders(self, cards: Sequence[Card]) -> list[Order]:
        """The highest speed that is not too fast, to a thousandth."""
        return [self._order(card) for card in cards]

    def _order(self, card: Card) -> Order:
        if card.memory_percent >= self._LIMIT_PERCENT:
            return Order(0.0 if card.nature.reclaimable_ratio == 0 else 0.01, cleanup=True)
        slow, fast = 0.0, 1.0
        if card.next_celsius(fast) <= self._LIMIT_CELSIUS:
            return Order(fast)
        for _ in range(10):
            middle = (slow + fast) / 2
            slow, fast = (middle, fast) if card.next_celsius(middle) <= self._LIMIT_CELSIUS else (slow, middle)
        return Order(slow)
