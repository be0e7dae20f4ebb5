"""What the API answers about the past of a card, and about where it is heading.

What is not known is absent (None), as in a sample; times ahead count in seconds from the answer.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from schemas.event import State
from schemas.sample import Bytes, Ratio, Reading
from schemas.workload import Count, Speed

#: unknown: too few readings, or so uneven that it may as well fall as rise
Verdict = Literal["rising", "falling", "stable", "unknown"]
Ahead = Annotated[float, Meta(ge=0, le=86_400)]


class HistoryPoint(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A card at one time; where a point stands for a minute, its mean, with `samples`, the lowest and the highest."""

    time: str
    #: written even where it is fresh
    reading: Reading = field(default_factory=lambda: "fresh")
    #: time was lost before it: no rate may be taken across
    after_gap: bool = False
    #: of the ladder, and what its workloads were told, as last said before it
    state: State | None = None
    speed: Speed | None = None
    temperature_celsius: float | None = None
    memory_used_bytes: Bytes | None = None
    utilization_ratio: Ratio | None = None
    power_watts: float | None = None
    samples: Count | None = None
    temperature_min_celsius: float | None = None
    temperature_max_celsius: float | None = None
    memory_used_min_bytes: Bytes | None = None
    memory_used_max_bytes: Bytes | None = None
    utilization_min_ratio: Ratio | None = None
    utilization_max_ratio: Ratio | None = None
    power_min_watts: float | None = None
    power_max_watts: float | None = None


class MetricsHistory(Struct, frozen=True, kw_only=True):
    """Points of one card, oldest first, about `resolution_s` apart; `simulated` says that nothing in it is measured."""

    index: Count
    uuid: str
    name: str
    simulated: bool
    memory_total_bytes: Bytes | None
    resolution_s: float
    count: Count
    points: tuple[HistoryPoint, ...]


class Forecast(Struct, frozen=True, kw_only=True):
    """When a threshold is reached if it goes on as it does; null: probably not within a day.

    `p10_s`, `p50_s` and `p90_s` are quantiles: by then with so many chances in a hundred. Between `low_s` and `high_s`
    it was found to come about nine times in ten or more, however it goes on.
    """

    #: its key in `[throttle]`, or `memory_total`
    threshold: str
    p10_s: Ahead | None
    p50_s: Ahead | None
    p90_s: Ahead | None
    low_s: Ahead | None
    high_s: Ahead | None
    text: str


class TemperatureForecast(Forecast, frozen=True, kw_only=True):
    """When a temperature is reached; where the card's margin to slowdown counts, by what is left of that."""

    threshold_celsius: float


class MemoryForecast(Forecast, frozen=True, kw_only=True):
    """When so much of the VRAM is in use."""

    threshold_bytes: Bytes


class TemperatureTrend(Struct, frozen=True, kw_only=True):
    """Where the temperature is heading: a slope lies between its low and its high 95 times in 100.

    `slope_…` is that of the straight line through the window, `slope_now_…` that at its end, whenever the present
    course began. The verdict is that of the first where it is clear, else of the second.
    """

    verdict: Verdict
    #: readings that it rests on
    readings: Count
    #: their distance: points, or minutes where points do not reach back so far
    resolution_s: float
    temperature_celsius: float | None
    min_celsius: float | None
    mean_celsius: float | None
    max_celsius: float | None
    slope_celsius_per_minute: float | None
    slope_low_celsius_per_minute: float | None
    slope_high_celsius_per_minute: float | None
    slope_now_celsius_per_minute: float | None
    slope_now_low_celsius_per_minute: float | None
    slope_now_high_celsius_per_minute: float | None
    forecasts: tuple[TemperatureForecast, ...]
    text: str


class MemoryTrend(Struct, frozen=True, kw_only=True):
    """The same of the VRAM in use."""

    verdict: Verdict
    readings: Count
    resolution_s: float
    memory_used_bytes: Bytes | None
    memory_total_bytes: Bytes | None
    min_bytes: Bytes | None
    mean_bytes: Bytes | None
    max_bytes: Bytes | None
    slope_bytes_per_minute: float | None
    slope_low_bytes_per_minute: float | None
    slope_high_bytes_per_minute: float | None
    slope_now_bytes_per_minute: float | None
    slope_now_low_bytes_per_minute: float | None
    slope_now_high_bytes_per_minute: float | None
    forecasts: tuple[MemoryForecast, ...]
    text: str


class GpuTrend(Struct, frozen=True, kw_only=True):
    """Where temperature and VRAM of one card are heading."""

    index: Count
    uuid: str
    name: str
    simulated: bool
    duration_minutes: float
    temperature: TemperatureTrend
    memory: MemoryTrend
    text: str
