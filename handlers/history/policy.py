"""From samples to what is remembered of each card, pure; the state can be stored.

A gap (suspend, SIGSTOP, a stop of the supervisor for more than three points, a clock that was set, another boot) is
marked at the first point behind it, because no rate may be taken across it. What was not read is a hole, not a number.
"""

import math
from datetime import datetime
from typing import Final

import msgspec
from msgspec import Struct

from handlers.history.series import Card, Order, Series, SeriesSnapshot
from handlers.history.settings import Settings
from schemas.event import StateChanged
from schemas.sample import Gpu, Sample
from schemas.workload import Directive

VERSION: Final = 1
#: So many points without a sample are a gap.
GAP_POINTS: Final = 3
#: The wall clock was set when it moved so far against the monotonic one.
_CLOCK_SET_S: Final = 1.0


class Clocks(Struct):
    """When the last full sample was taken, and when the next point is due; the sampler's CLOCK_MONOTONIC."""

    boot_id: str = ""
    monotonic_s: float = 0.0
    #: how far the wall clock was ahead of it
    ahead_s: float = 0.0
    due_s: float = 0.0


class Snapshot(Struct):
    """All of the state."""

    version: int
    clocks: Clocks
    orders: dict[str, Order]
    cards: list[SeriesSnapshot]


class Past:
    """What is remembered: a series for each card by UUID, and what others said of each target last."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is known yet."""
        self.settings = settings
        self.series: dict[str, Series] = {}
        self._clocks = Clocks()
        self._orders: dict[str, Order] = {}

    def observe(self, sample: Sample) -> None:
        """Take in a sample of our host.

        :raises ValueError: its time is none.
        """
        clocks, now = self._clocks, sample.monotonic_s
        if sample.boot_id == clocks.boot_id and now <= clocks.monotonic_s:
            return  # seen already: the past is read again after a start
        if sample.gap:
            self.lose_time()
        if sample.scope != "full":
            return
        time_s = datetime.fromisoformat(sample.time).timestamp()
        ahead_s = time_s - now
        if clocks.boot_id and self._is_gap(sample, ahead_s):
            self.lose_time()
        clocks.boot_id, clocks.monotonic_s, clocks.ahead_s = sample.boot_id, now, ahead_s
        # a sample that comes a little early for its point must not leave it to the next one
        is_point = now >= clocks.due_s - sample.interval_s / 2
        for gpu in sample.gpus:
            series = self.of(gpu, simulated=sample.simulated)
            series.take_in(time_s, gpu)
            if is_point:
                series.take_point(time_s, gpu, self._orders.get(f"gpu{gpu.index}", Order()))
        if is_point:
            self._plan_next(now)
            self._forget(time_s)

    def of(self, gpu: Gpu, *, simulated: bool) -> Series:
        """The series of a card; what is simulated and what is measured do not mix."""
        series = self.series.get(gpu.uuid)
        if series is None or series.card.simulated != simulated:
            series = self.series[gpu.uuid] = Series(_card(gpu, simulated), self.settings)
        elif gpu.reading == "fresh" and not series.card.is_same(gpu):
            series.card = _card(gpu, simulated)
        return series

    def find(self, gpu_id: str) -> Series | None:
        """The series of a card that may be gone, by UUID or index: of several, the one that was read last."""
        wanted = gpu_id.strip().lower()
        known = sorted(self.series.values(), key=lambda series: series.read_s)
        return next((one for one in reversed(known) if wanted in (one.card.uuid.lower(), str(one.card.index))), None)

    def state_changed(self, change: StateChanged) -> None:
        """A card moved to another state."""
        order = self._orders.get(change.target, Order())
        self._orders[change.target] = msgspec.structs.replace(order, state=change.state)

    def directed(self, directive: Directive) -> None:
        """Who works on a card was told another speed."""
        order = self._orders.get(directive.target, Order())
        self._orders[directive.target] = msgspec.structs.replace(order, speed=directive.speed)

    def lose_time(self) -> None:
        """What comes next comes behind a gap, and is a point."""
        self._clocks.due_s = -math.inf
        for series in self.series.values():
            series.gap = True

    def resize(self, settings: Settings) -> None:
        """Keep as much as `settings` say from now on."""
        self.settings = settings
        self._clocks.due_s = self._clocks.monotonic_s  # so that a shorter interval takes effect at once
        for series in self.series.values():
            series.resize(settings)

    def pack(self) -> Snapshot:
        """All of it, for `unpack`."""
        return Snapshot(VERSION, self._clocks, self._orders, [series.pack() for series in self.series.values()])

    def unpack(self, snapshot: Snapshot) -> None:
        """Take up what `pack` gave.

        :raises ValueError: it is damaged.
        """
        self.series = {packed.card.uuid: Series.unpack(packed, self.settings) for packed in snapshot.cards}
        self._clocks, self._orders = snapshot.clocks, snapshot.orders

    def _is_gap(self, sample: Sample, ahead_s: float) -> bool:
        clocks = self._clocks
        longest_s = GAP_POINTS * max(self.settings.monitor_interval, sample.interval_s)
        return (
            sample.boot_id != clocks.boot_id
            or sample.monotonic_s - clocks.monotonic_s > longest_s
            or abs(ahead_s - clocks.ahead_s) > _CLOCK_SET_S
        )

    def _plan_next(self, now: float) -> None:
        """Points keep their distance in the mean, whatever the cadence; after a delay they go on without a burst."""
        clocks, interval_s = self._clocks, self.settings.monitor_interval
        clocks.due_s = clocks.due_s + interval_s if now - clocks.due_s < interval_s else now + interval_s

    def _forget(self, time_s: float) -> None:
        """Cards of which nothing is left that would be shown."""
        oldest_s = time_s - self.settings.kept_s
        for uuid in [uuid for uuid, series in self.series.items() if series.last_s() < oldest_s]:
            del self.series[uuid]


def _card(gpu: Gpu, simulated: bool) -> Card:
    return Card(gpu.uuid, gpu.index, gpu.name, gpu.pci_bus_id, gpu.memory_total_bytes, simulated)
