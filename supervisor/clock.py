"""Time as a value that is passed in, so that tests bring a clock of their own."""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Wall time and monotonic time, both in seconds."""

    def wall(self) -> float:
        """Unix time."""
        ...

    def monotonic(self) -> float:
        """CLOCK_MONOTONIC: stands still while the machine sleeps, never goes back."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def wall(self) -> float:
        """Unix time."""
        return time.time()

    def monotonic(self) -> float:
        """CLOCK_MONOTONIC."""
        return time.monotonic()


def rfc3339(wall_s: float) -> str:
    """Unix time as RFC 3339 in UTC with milliseconds."""
    return datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def unix_time(rfc3339: str) -> float:
    """The reverse of `rfc3339`.

    :raises ValueError: it is no such text.
    """
    return datetime.fromisoformat(rfc3339).timestamp()
