"""What may be asked of the past: which card, and from when."""

from datetime import datetime
from typing import Annotated, Final

from msgspec import UNSET, Meta, UnsetType

from supervisor.handler import GpuQuery

LONGEST_MINUTES: Final = 10_080
_DAY: Final = (
    "((19[7-9][0-9]|2[0-9]{3})-("
    "(0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))"
    "|(19|2[0-9])(0[48]|[2468][048]|[13579][26])-02-29)"
)
_HOUR: Final = "([01][0-9]|2[0-3])"
_TIME_OF_DAY: Final = rf"{_HOUR}(:[0-5][0-9]){{2}}(\.[0-9]{{1,9}})?(Z|[+ -]{_HOUR}:[0-5][0-9])"
#: RFC 3339 without leap seconds, or Unix time; what matches is a time. A `+` not written as %2B arrives as a space.
SINCE_PATTERN: Final = rf"^({_DAY}[T ]{_TIME_OF_DAY}|[0-9]{{1,10}}(\.[0-9]{{1,9}})?)$(?!\n)"

Minutes = Annotated[float, Meta(gt=0, le=LONGEST_MINUTES)]


class HistoryQuery(GpuQuery, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which points: the newest `limit` of those since a time and within the last minutes; by default all points.

    What reaches back further than points do is answered by the minute.
    """

    limit: Annotated[int, Meta(ge=1, le=LONGEST_MINUTES)] | UnsetType = UNSET
    since: (
        Annotated[str, Meta(pattern=SINCE_PATTERN, description="a time of RFC 3339, or seconds since 1970")] | UnsetType
    ) = UNSET
    duration_minutes: Minutes | UnsetType = UNSET

    def since_s(self, now_s: float) -> float | None:
        """From when on, as Unix time; None: nobody asked."""
        starts: list[float] = []
        if self.since is not UNSET:
            starts.append(unix_time(self.since))
        if self.duration_minutes is not UNSET:
            starts.append(now_s - 60 * self.duration_minutes)
        return max(starts, default=None)


class TrendQuery(GpuQuery, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Over how long."""

    duration_minutes: Annotated[float, Meta(gt=0, le=1440)] = 5.0


def unix_time(since: str) -> float:
    """What matches `SINCE_PATTERN`, as Unix time."""
    if "-" not in since:
        return float(since)
    day, time_of_day = since[:10], since[11:].replace(" ", "+")
    return datetime.fromisoformat(f"{day}T{time_of_day}").timestamp()
