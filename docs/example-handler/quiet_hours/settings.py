"""`[quiet_hours]`: when, and how slow."""

from datetime import time
from zoneinfo import ZoneInfo

from msgspec import Struct


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[quiet_hours]`; the times are `HH:MM`, and the hours may run over midnight."""

    #: When it becomes quiet.
    begins: str = "22:00"
    #: When it is over.
    ends: str = "07:00"
    #: Share of full speed between the two.
    speed: float = 0.4
    #: The time zone of both, as in `Europe/Berlin`; empty: the machine's own.
    time_zone: str = ""

    def problems(self) -> list[str]:
        """What cannot be, one sentence each, starting with the key."""
        found = [
            f"{key}: {value!r} is no time of the day; write it as 22:00"
            for key, value in (("begins", self.begins), ("ends", self.ends))
            if not _is_time(value)
        ]
        if not found and self.begins == self.ends:
            found.append(f"ends: {self.ends} is when it begins, so it would never be quiet; choose another time")
        if not 0.01 <= self.speed <= 1:
            found.append(f"speed: {self.speed:g} is not from 0.01 to 1")
        if self.time_zone and not _is_zone(self.time_zone):
            found.append(f"time_zone: {self.time_zone!r} is no time zone that this machine knows, as Europe/Berlin is")
        return found


def _is_time(text: str) -> bool:
    try:
        return time.fromisoformat(text).tzinfo is None
    except ValueError:
        return False


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        return False
    return True
