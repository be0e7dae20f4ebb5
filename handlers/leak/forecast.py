"""When a limit is reached if a leak goes on, pure: whichever comes first of all that limits it."""

from collections.abc import Iterable
from typing import Final, Literal

from msgspec import Struct

from schemas.leak import Exhaustion, Interval

#: Standard normal quantiles: of the 90th percentile, and of the bounds of a 95 % interval.
_Z90: Final = 1.2816
_Z95: Final = 1.9600
#: A forecast beyond it says nothing.
FARTHEST_S: Final = 365 * 86_400.0


class Limit(Struct, frozen=True, kw_only=True):
    """What limits a resource, and how much of it is in use by all who share it; in the resource's units."""

    kind: Literal["cgroup", "gpu", "host", "process"]
    value: float
    used: float

    @property
    def left(self) -> float:
        """What is left, never below 0."""
        return max(0.0, self.value - self.used)


def exhaustion(rate_per_s: Interval | None, limits: Iterable[Limit]) -> Exhaustion | None:
    """The forecast against the limit that is nearest; None without a limit, or without a growth.

    The rate is taken as normal with the given 95 % interval, and the growth as linear.
    """
    nearest = min(limits, key=lambda limit: limit.left, default=None)
    if nearest is None or rate_per_s is None or rate_per_s.value <= 0:
        return None
    deviation = (rate_per_s.high - rate_per_s.low) / (2 * _Z95)
    fast, slow = rate_per_s.value + _Z90 * deviation, rate_per_s.value - _Z90 * deviation
    return Exhaustion(
        limit=nearest.kind, limit_value=nearest.value, p10_s=_time_s(nearest.left, fast),
        p50_s=_time_s(nearest.left, rate_per_s.value), p90_s=_time_s(nearest.left, slow),
    )  # fmt: skip


def _time_s(left: float, rate_per_s: float) -> float | None:
    if rate_per_s <= 0 or left / rate_per_s > FARTHEST_S:
        return None
    return round(left / rate_per_s, 1)
