"""When the sampler looks: an absolute schedule, and which figures deserve a faster one.

Pure: times and readings come in as arguments. The numbers are DESIGN §5's: fast only near a CRITICAL edge, and
approaching it.
"""

from collections.abc import Iterator, Sequence

from msgspec import Struct

from schemas.sample import Gpu, Host, Sample
from supervisor.handler import Edge

#: A figure approaches its edge when it would cross the edge's margin within so many intervals at its present rise;
#: a slower one (the jitter of a steady figure) is seen in time by the normal cadence.
APPROACH_INTERVALS = 100


class Schedule:
    """Ticks at `start_s` + n × `interval_s`: it does not drift, and after a delay it goes on without a burst."""

    def __init__(self, start_s: float, interval_s: float) -> None:
        """The first tick is due at `start_s`."""
        self._start_s = start_s
        self._interval_s = interval_s
        self._index = 0
        self._begun_s: float | None = None

    @property
    def due_s(self) -> float:
        """When the next tick is due; in the past where it is late."""
        return self._start_s + self._index * self._interval_s

    def begin(self, now_s: float) -> None:
        """A tick begins now: it stands for every one that was missed up to now."""
        self._begun_s = now_s
        self._index = max(self._index, self._reached(now_s)) + 1

    def end(self, now_s: float) -> None:
        """It has ended: of the ticks that it has taken the time of, only the last is made up for."""
        self._index = max(self._index, self._reached(now_s))

    def change(self, interval_s: float) -> None:
        """Ticks are so far apart from now on; the next one is due when the shorter of both intervals has passed."""
        if interval_s == self._interval_s:
            return
        if self._begun_s is not None:
            self._start_s = self._begun_s + min(interval_s, self._interval_s)
        self._interval_s, self._index = interval_s, 0

    def _reached(self, now_s: float) -> int:
        return int((now_s - self._start_s) // self._interval_s)


class Focus(Struct, frozen=True):
    """What is sampled fast: cards by index, and the host's memory."""

    gpus: frozenset[int] = frozenset()
    host: bool = False

    def __bool__(self) -> bool:
        return bool(self.gpus) or self.host


class Watch:
    """Decides at each full sample what is sampled fast until the next one, and narrows it at each fast one.

    The trend is taken from one full sample to the next: over a tenth of a second, a temperature in whole degrees that
    rises by two a second mostly stands still.
    """

    def __init__(self, edges: Sequence[Edge]) -> None:
        self._edges = tuple(edges)
        self._previous: dict[tuple[Edge, int], float] = {}

    def follow(self, edges: Sequence[Edge]) -> None:
        """Watch these edges from now on; the trend towards those that stay is kept."""
        self._edges = tuple(edges)

    def full(self, sample: Sample) -> Focus:
        """What is near its edge and rose since the previous full sample, or is near and was not read then."""
        readings = dict(self._readings(sample))
        previous = {} if sample.gap else self._previous
        self._previous = readings
        return _focus(
            [
                key
                for key, value in readings.items()
                if _near(key[0], value) and _rises(key[0], previous.get(key), value)
            ]
        )

    def fast(self, sample: Sample) -> Focus:
        """What is still near and has not fallen below the last full sample; a card that did not answer is dropped."""
        if sample.gap:
            self._previous = {}
            return Focus()
        return _focus(
            [
                key
                for key, value in self._readings(sample)
                if _near(key[0], value) and value >= self._previous.get(key, value)
            ]
        )

    def _readings(self, sample: Sample) -> Iterator[tuple[tuple[Edge, int], float]]:
        for edge in self._edges:
            if edge.figure == "host_memory_used_percent":
                value = _host_value(sample.host_figures)
                if value is not None:
                    yield (edge, -1), value
            else:
                for gpu in sample.gpus:
                    value = _gpu_value(edge, gpu)
                    if value is not None:
                        yield (edge, gpu.index), value


def _focus(keys: Sequence[tuple[Edge, int]]) -> Focus:
    return Focus(
        gpus=frozenset(index for _, index in keys if index >= 0),
        host=any(index < 0 for _, index in keys),
    )


def _near(edge: Edge, value: float) -> bool:
    return abs(value - edge.value) <= edge.margin


def _rises(edge: Edge, previous: float | None, value: float) -> bool:
    return previous is None or value - previous >= edge.margin / APPROACH_INTERVALS


def _gpu_value(edge: Edge, gpu: Gpu) -> float | None:
    if gpu.reading != "fresh":
        return None
    if edge.figure == "memory_used_percent":
        ratio = gpu.memory_used_ratio
        return None if ratio is None else 100 * ratio
    if gpu.temperature_celsius is None or gpu.temperature_margin_celsius is None:
        return gpu.temperature_celsius
    # the effective temperature: a card may slow itself down before the edge
    return max(gpu.temperature_celsius, edge.value - gpu.temperature_margin_celsius)


def _host_value(host: Host | None) -> float | None:
    ratio = None if host is None else host.memory_used_ratio
    return None if ratio is None else 100 * ratio
