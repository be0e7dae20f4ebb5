"""Points of the past as the API answers them; pure."""

from collections.abc import Iterable
from datetime import UTC, datetime
from math import inf, isnan
from typing import Any, Final

from handlers.history.series import FIGURES, MINUTE_S, READINGS, STATES, UNTOLD, Series
from handlers.history.settings import Settings
from schemas.history import HistoryPoint, MetricsHistory

_DIGITS: Final = tuple(FIGURES.values())
_DIGITS_OF_A_MINUTE: Final = tuple(digits for digits in FIGURES.values() for _ in ("min", "mean", "max"))


def history(
    series: Series, settings: Settings, since_s: float | None, limit: int | None, now_s: float
) -> MetricsHistory:
    """The newest `limit` points since then, by the minute where points do not reach back so far; None: all points."""
    points: list[HistoryPoint]
    if since_s is None or settings.points_reach(now_s - since_s):
        start_s = -inf if since_s is None else since_s
        resolution_s, points = settings.monitor_interval, [_point(*row) for row in series.points.rows(start_s, limit)]
    else:
        # a minute that began before still tells of what came after
        rows = series.by_minute(since_s - MINUTE_S)
        resolution_s, points = MINUTE_S, [_minute(*row) for row in rows[-(limit or len(rows)) :]]
    card = series.card
    return MetricsHistory(
        index=card.index,
        uuid=card.uuid,
        name=card.name,
        simulated=card.simulated,
        memory_total_bytes=card.memory_total_bytes,
        resolution_s=resolution_s,
        count=len(points),
        points=tuple(points),
    )


def _point(time_s: float, reading: int, after_gap: int, state: int, speed: float, *figures: float) -> HistoryPoint:
    """A row of `Series.points`."""
    temperature, memory, utilization, power = _told(figures, _DIGITS)
    return HistoryPoint(
        time=_rfc3339(time_s),
        reading=READINGS[reading],
        after_gap=bool(after_gap),
        state=None if state == UNTOLD else STATES[state],
        speed=None if isnan(speed) else round(speed, 3),
        temperature_celsius=temperature,
        memory_used_bytes=memory,
        utilization_ratio=utilization,
        power_watts=power,
    )


def _minute(time_s: float, samples: int, *figures: float) -> HistoryPoint:
    """A row of `Series.minutes`."""
    told = iter(_told(figures, _DIGITS_OF_A_MINUTE))
    return HistoryPoint(
        time=_rfc3339(time_s),
        samples=samples,
        temperature_min_celsius=next(told),
        temperature_celsius=next(told),
        temperature_max_celsius=next(told),
        memory_used_min_bytes=next(told),
        memory_used_bytes=next(told),
        memory_used_max_bytes=next(told),
        utilization_min_ratio=next(told),
        utilization_ratio=next(told),
        utilization_max_ratio=next(told),
        power_min_watts=next(told),
        power_watts=next(told),
        power_max_watts=next(told),
    )


def _told(figures: Iterable[float], digits: Iterable[int | None]) -> list[Any]:
    """Figures as they are told; a hole is None."""
    return [None if isnan(value) else round(value, to) for value, to in zip(figures, digits, strict=True)]


def _rfc3339(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
