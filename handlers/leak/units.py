"""Figures for people: memory in powers of 1024, rates, times and times of day."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from schemas.leak import MEMORY, Interval, Resource

NAMES: Final[dict[Resource, str]] = {
    "rss": "memory", "vms": "address space", "threads": "threads", "handles": "handles", "vram": "VRAM",
}  # fmt: skip
_SIZES: Final = ((2**40, "TB"), (2**30, "GB"), (2**20, "MB"), (2**10, "kB"), (1, "B"))
_TIMES: Final = ((86_400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))


def amount(resource: Resource, value: float) -> str:
    """So much of a resource: `5.1 MB`, `97`."""
    (text,), unit = _scaled(resource, [value])
    return f"{text} {unit}".strip()


def estimate(resource: Resource, interval: Interval) -> str:
    """With its interval: `1.03 (0.98 to 1.09)`, `5.1 MB (4.8 to 5.4)`."""
    (value, low, high), unit = _scaled(resource, [interval.value, interval.low, interval.high])
    return f"{value} {unit}".strip() + f" ({low} to {high})"


def rate(resource: Resource, per_s: Interval) -> str:
    """By the minute, or the hour where that is less than a tenth of a unit: `5.0 MB/min (4.6 to 5.4)`."""
    factor, time = (60.0, "min") if abs(per_s.value) * 60 >= _least(resource) else (3600.0, "h")
    (value, low, high), unit = _scaled(resource, [per_s.value * factor, per_s.low * factor, per_s.high * factor])
    return f"{value} {unit}/{time} ({low} to {high})" if unit else f"{value} a {time} ({low} to {high})"


def duration(seconds: float, like: float | None = None) -> str:
    """About how long: `40 s`, `3 h`, `2.5 d`; in the unit that `like` has."""
    of = seconds if like is None else like
    size, unit = next(((size, unit) for size, unit in _TIMES if of >= 1.5 * size), _TIMES[-1])
    return f"{_fixed(seconds / size, _decimals(seconds / size, 2))} {unit}"


def clock(wall_s: float) -> str:
    """A time of day for people."""
    return datetime.fromtimestamp(wall_s, UTC).strftime("%H:%M:%S UTC")


def rfc3339(wall_s: float) -> str:
    """RFC 3339 in UTC, to the millisecond."""
    return datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _least(resource: Resource) -> float:
    return 2**20 / 10 if resource in MEMORY else 0.1


def _scaled(resource: Resource, values: Sequence[float]) -> tuple[list[str], str]:
    """All in the unit of the first, and as exact as the first."""
    size, unit = 1, ""
    if resource in MEMORY:
        size, unit = next((pair for pair in _SIZES if abs(values[0]) >= pair[0]), _SIZES[-1])
    scaled = [value / size for value in values]
    decimals = _decimals(scaled[0])
    return [_fixed(value, decimals) for value in scaled], unit


def _decimals(value: float, digits: int = 3) -> int:
    """So that so many digits mean something."""
    return 0 if value == 0 else max(0, digits - 1 - math.floor(math.log10(abs(value))))


def _fixed(value: float, decimals: int) -> str:
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
