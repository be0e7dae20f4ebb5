"""What is kept of one card: points a few seconds apart, and figures by the minute; plain numbers, so it stays small."""

import math
from array import array
from typing import Any, Final, get_args

from msgspec import Struct

from handlers.history.settings import Settings
from handlers.history.table import HOLE, Table
from schemas.event import State
from schemas.sample import Gpu, Reading

MINUTE_S: Final = 60.0
_MINUTES_AN_HOUR: Final = 60
#: The figures that are kept, each with the digits behind the point that count (None: whole, as an int).
FIGURES: Final[dict[str, int | None]] = {
    "temperature_celsius": 1, "memory_used_bytes": None, "utilization_ratio": 3, "power_watts": 1,
}  # fmt: skip
READINGS: Final[tuple[Reading, ...]] = get_args(Reading)
STATES: Final[tuple[State, ...]] = get_args(State)
UNTOLD: Final = -1
#: Where the mean of each figure stands in a row of `minutes`; its lowest is before it, its highest behind.
MEAN_AT: Final = {figure: 3 * number + 3 for number, figure in enumerate(FIGURES)}
_MIB: Final = 1 << 20

#: A double holds every number of bytes, a single any multiple of 8 KiB up to 128 GiB.
_OF_A_POINT: Final = {
    "reading": "b", "after_gap": "b", "state": "b", "speed": "f",
    "temperature_celsius": "f", "memory_used_bytes": "d", "utilization_ratio": "f", "power_watts": "f",
}  # fmt: skip
_OF_A_MINUTE: Final = {
    "samples": "I",
    **{f"{figure}.{kind}": "f" for figure in FIGURES for kind in ("min", "mean", "max")},
}


class Order(Struct, frozen=True):
    """What others have said of a card last: its state, and the speed that it was told; None: nothing yet."""

    state: State | None = None
    speed: float | None = None


class Card(Struct, frozen=True):
    """Which card it is; the index is a label that another card may bear after a reboot."""

    uuid: str
    index: int
    name: str
    pci_bus_id: str
    memory_total_bytes: int | None
    simulated: bool

    def is_same(self, gpu: Gpu) -> bool:
        """Whether a sample tells the same of it."""
        return (
            gpu.index == self.index
            and gpu.memory_total_bytes == self.memory_total_bytes
            and gpu.name == self.name
            and gpu.pci_bus_id == self.pci_bus_id
        )


class SeriesSnapshot(Struct, frozen=True):
    """All of a series."""

    card: Card
    points: bytes
    minutes: bytes
    minute_s: float
    minute: dict[str, bytes]
    samples: int
    read_s: float
    gap: bool


class Series:
    """The history of one card; all times are Unix time."""

    def __init__(self, card: Card, settings: Settings) -> None:
        """Nothing is known yet."""
        self.card = card
        self.points = Table(_OF_A_POINT, 0)
        self.minutes = Table(_OF_A_MINUTE, 0)
        self.resize(settings)
        #: when it was read last
        self.read_s = -math.inf
        #: time was lost since its last point
        self.gap = False
        self._minute_s = -math.inf
        self._minute = {figure: array("d") for figure in FIGURES}
        self._samples = 0

    def resize(self, settings: Settings) -> None:
        """Keep as much as `settings` say from now on."""
        self.points.size = settings.history_size
        self.minutes.size = settings.minutes_kept_hours * _MINUTES_AN_HOUR

    def last_s(self) -> float:
        """When anything of it was written down last."""
        return max(self.points.last_s(), self.minutes.last_s(), self._minute_s)

    def take_point(self, time_s: float, gpu: Gpu, order: Order) -> None:
        """Write down what the card is like now; what it did not tell is a hole."""
        self.points.append(
            time_s,
            (
                READINGS.index(gpu.reading),
                self.gap,
                UNTOLD if order.state is None else STATES.index(order.state),
                HOLE if order.speed is None else order.speed,
                *(HOLE if (value := getattr(gpu, figure)) is None else rounded(figure, value) for figure in FIGURES),
            ),
        )
        self.gap = False

    def take_in(self, time_s: float, gpu: Gpu) -> None:
        """Count a full sample into its minute; one without a reading only ends the minute before."""
        minute_s = time_s // MINUTE_S * MINUTE_S
        if minute_s != self._minute_s:
            self._end_minute()
            self._minute_s = minute_s
        if gpu.reading != "fresh":
            return
        self.read_s = time_s
        self._samples += 1
        for figure, values in self._minute.items():
            if (value := getattr(gpu, figure)) is not None:
                values.append(value)

    def by_minute(self, since_s: float = -math.inf) -> list[tuple[Any, ...]]:
        """The rows of `minutes` that are not older, and the minute under way as far as it got."""
        under_way = self._under_way()
        rows = [*self.minutes.rows(since_s)]
        return rows if under_way is None or under_way[0] < since_s else [*rows, under_way]

    def _under_way(self) -> tuple[Any, ...] | None:
        if not self._samples:
            return None
        row: list[float] = [self._minute_s, self._samples]
        for figure, values in self._minute.items():
            row += [min(values), _mean(figure, values), max(values)] if values else [HOLE] * 3
        return tuple(row)

    def _end_minute(self) -> None:
        if (row := self._under_way()) is not None:
            self.minutes.append(row[0], row[1:])
        self._samples = 0
        for values in self._minute.values():
            del values[:]

    def pack(self) -> SeriesSnapshot:
        """All of it, for `unpack`."""
        return SeriesSnapshot(
            card=self.card,
            points=self.points.pack(),
            minutes=self.minutes.pack(),
            minute_s=self._minute_s,
            minute={figure: values.tobytes() for figure, values in self._minute.items()},
            samples=self._samples,
            read_s=self.read_s,
            gap=self.gap,
        )

    @classmethod
    def unpack(cls, packed: SeriesSnapshot, settings: Settings) -> "Series":
        """What `pack` gave.

        :raises ValueError: it is damaged.
        """
        series = cls(packed.card, settings)
        series.points.unpack(packed.points)
        series.minutes.unpack(packed.minutes)
        series.read_s, series.gap = packed.read_s, packed.gap
        series._minute_s, series._samples = packed.minute_s, packed.samples
        series._minute = {figure: array("d", packed.minute[figure]) for figure in FIGURES}
        return series


def rounded(figure: str, value: float) -> float | int:
    """With the digits that count."""
    return round(value, FIGURES[figure])


def _mean(figure: str, values: "array[float]") -> float:
    mean = sum(values) / len(values)
    # what is behind the point of a mean of bytes would only fill the disk
    return round(mean / _MIB) * _MIB if figure == "memory_used_bytes" else rounded(figure, mean)
