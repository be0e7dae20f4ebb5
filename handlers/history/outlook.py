"""Where a card is heading, as the API answers it; pure."""

from typing import Any, Final

import msgspec
from msgspec import Struct

from handlers.history import wording
from handlers.history.forecast import Arrival
from handlers.history.policy import GAP_POINTS
from handlers.history.series import Series, rounded
from handlers.history.settings import Settings
from handlers.history.trend import Trend, trend, window
from handlers.history.wording import CELSIUS, GIBIBYTES, MEBIBYTES, Unit
from schemas.history import GpuTrend, MemoryTrend, TemperatureTrend
from schemas.sample import Gpu

#: The thresholds of `[throttle]` (seed), for where that handler is not there.
_TEMPERATURES: Final = {"temp_optimal": 65.0, "temp_normal": 75.0, "temp_throttle": 85.0, "temp_critical": 90.0}
_MEMORIES: Final = {"memory_optimal": 70.0, "memory_normal": 85.0, "memory_critical": 95.0}
#: A change over the whole window from which on it counts: more than a sensor or small allocations make by themselves.
_MATERIAL_CELSIUS: Final = 2.0
_MATERIAL_RATIO: Final = 0.01
#: Cards tell whole degrees, and hand out memory in pages.
_LEAST_CELSIUS: Final = 1.0
_LEAST_BYTES: Final = float(1 << 20)


class Moment(Struct, frozen=True):
    """What surrounds a question: when it is, over how long, `[throttle]`, and the time between two samples."""

    now_s: float
    duration_minutes: float
    throttle: Struct | None
    sampling_s: float


class _Figure(Struct, frozen=True):
    """What is looked at, and how it is told."""

    key: str
    least_step: float
    material: float
    unit: Unit
    rate_unit: Unit
    #: key → where the figure stands then
    thresholds: dict[str, float]
    #: so much more than the figure is what counts, because the card's own margin to slowdown is smaller
    by_margin: float = 0.0

    @property
    def unit_of_key(self) -> str:
        """What its keys end with."""
        return self.key.rpartition("_")[2]


def outlook(series: Series, gpu: Gpu | None, settings: Settings, moment: Moment) -> GpuTrend:
    """Where a card is heading; `gpu` is what was sampled of it last, None where it is not there any more."""
    card = series.card
    temperature = _told(_temperature(gpu, moment), series, settings, moment)
    memory = _told(_memory(card.memory_total_bytes, moment), series, settings, moment)
    mark = "SIMULATED: " if card.simulated else ""
    over = f"over {wording.span(60 * moment.duration_minutes)}"
    return GpuTrend(
        index=card.index,
        uuid=card.uuid,
        name=card.name,
        simulated=card.simulated,
        duration_minutes=moment.duration_minutes,
        temperature=msgspec.convert(temperature, TemperatureTrend),
        memory=msgspec.convert({**memory, "memory_total_bytes": card.memory_total_bytes}, MemoryTrend),
        text=f"{mark}gpu{card.index} {over}: {temperature['text']}. Memory: {memory['text']}.",
    )


def _temperature(gpu: Gpu | None, moment: Moment) -> _Figure:
    thresholds = _in_force(moment.throttle, _TEMPERATURES)
    hotter = 0.0
    if gpu is not None and gpu.temperature_celsius is not None and gpu.temperature_margin_celsius is not None:
        by_margin = thresholds["temp_throttle"] - gpu.temperature_margin_celsius
        hotter = max(0.0, by_margin - gpu.temperature_celsius)
    return _Figure(
        "temperature_celsius", _LEAST_CELSIUS, _MATERIAL_CELSIUS, CELSIUS, CELSIUS, thresholds, by_margin=hotter
    )


def _memory(total_bytes: int | None, moment: Moment) -> _Figure:
    total = float(total_bytes or 0)
    thresholds = {name: total * percent / 100 for name, percent in _in_force(moment.throttle, _MEMORIES).items()}
    thresholds["memory_total"] = total
    return _Figure(
        "memory_used_bytes", _LEAST_BYTES, _MATERIAL_RATIO * total, GIBIBYTES, MEBIBYTES, thresholds if total else {}
    )


def _in_force(throttle: Struct | None, defaults: dict[str, float]) -> dict[str, float]:
    return {name: float(getattr(throttle, name, default)) for name, default in defaults.items()}


def _told(figure: _Figure, series: Series, settings: Settings, moment: Moment) -> dict[str, Any]:
    """The fields of a `TemperatureTrend` or `MemoryTrend`."""
    since_s = moment.now_s - 60 * moment.duration_minutes
    stretch = window(series, figure.key, since_s, settings, moment.now_s)
    silent_s = moment.now_s - series.read_s
    found = None
    if silent_s <= GAP_POINTS * max(settings.monitor_interval, moment.sampling_s):
        thresholds = [threshold - figure.by_margin for threshold in figure.thresholds.values()]
        found = trend(stretch, least_step=figure.least_step, material=figure.material, thresholds=thresholds)
        silent_s = 0.0
    values, unit = stretch.values, figure.unit_of_key
    told: dict[str, Any] = {
        "readings": len(values),
        "resolution_s": stretch.resolution_s,
        figure.key: rounded(figure.key, values[-1]) if values else None,
        f"min_{unit}": rounded(figure.key, min(values)) if values else None,
        f"mean_{unit}": rounded(figure.key, sum(values) / len(values)) if values else None,
        f"max_{unit}": rounded(figure.key, max(values)) if values else None,
    }
    for name, slope in (("slope", found and found.line), ("slope_now", found and found.now)):
        for end, per_s in (("", slope and slope.per_s), ("_low", slope and slope.low), ("_high", slope and slope.high)):
            told[f"{name}{end}_{unit}_per_minute"] = None if per_s is None else 60 * per_s
    if found is None:
        why = wording.untold(len(values), cut=stretch.cut, silent_s=silent_s)
        return {**told, "verdict": "unknown", "forecasts": [], "text": why}
    forecasts = _forecasts(figure, found, moment.now_s - stretch.times_s[-1])
    heading = wording.heading(values[-1], found, figure.unit, figure.rate_unit)
    text = f"{heading}; {forecasts[0]['text']}" if forecasts else heading
    return {**told, "verdict": found.verdict, "forecasts": forecasts, "text": text}


def _forecasts(figure: _Figure, found: Trend, age_s: float) -> list[dict[str, Any]]:
    """The nearest threshold first; the newest reading is `age_s` old."""
    forecasts = []
    for index, since_reading in found.arrivals:
        name, threshold = [*figure.thresholds.items()][index]
        arrival = Arrival._make(None if at_s is None else max(0.0, at_s - age_s) for at_s in since_reading)
        by_margin = ", by its margin to slowdown" if figure.by_margin else ""
        forecasts.append(
            {
                "threshold": name,
                f"threshold_{figure.unit_of_key}": rounded(figure.key, threshold),
                **arrival._asdict(),
                "text": wording.coming(f"{figure.unit.value(threshold)} ({name}{by_margin})", arrival),
            }
        )
    return forecasts
