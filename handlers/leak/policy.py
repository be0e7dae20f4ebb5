"""Decides online, in bounded memory, whether a resource of a process or card leaks, and what drives it.

One `Subject` is one process (pid, start time) or one card. It is fed one observation at a time and keeps blocks of
them, not the observations.
"""

from collections.abc import Mapping

from handlers.leak.settings import Settings
from schemas.leak import Resource, Verdict


class Subject:
    """What is known of one process or card.

    Units: memory in bytes, threads and handles as counts, times in seconds of one monotonic clock.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        #: the latest verdict on each resource that was ever measured
        self.verdicts: dict[Resource, Verdict] = {}

    def observe(
        self, t_s: float, levels: Mapping[Resource, float], counts: Mapping[str, float], gauges: Mapping[str, float]
    ) -> tuple[Verdict, ...]:
        """Take in what was measured at one moment; what was not is left out.

        `counts` are cumulative and fall only when the program starts anew; `gauges` are levels. Times must grow: an
        observation that is not later than the one before is ignored. Returns the verdicts whose stage has changed.
        """
        return ()

    def interrupt(self) -> None:
        """Time was lost before the next observation (suspend, a gap in the stream): no rate is taken across."""

    def pack(self) -> bytes:
        """All that is known, for a snapshot."""
        return b""

    @classmethod
    def unpack(cls, packed: bytes, settings: Settings) -> "Subject":
        """Take up what `pack` gave.

        :raises ValueError: it is damaged, or of another version.
        """
        return cls(settings)
