"""`[history]`: how much is kept of each card. Values marked *seed* are those of the GPU manager, under its keys."""

from typing import Annotated

from msgspec import Meta, Struct


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[history]`; what changes here takes effect at once, and what is known already is kept as far as it fits."""

    #: Seconds between two points of the history, whatever the cadence of sampling (seed: 3 s).
    monitor_interval: Annotated[float, Meta(ge=0.05, le=60)] = 3.0
    #: Points that are kept of each card (seed: 200, 10 minutes).
    history_size: Annotated[int, Meta(ge=1, le=3600)] = 200
    #: How long figures by the minute are kept.
    minutes_kept_hours: Annotated[int, Meta(ge=1, le=168)] = 24

    def points_reach(self, back_s: float) -> bool:
        """Whether a full set of points reaches back so far; a hair does not count."""
        return back_s <= self.monitor_interval * self.history_size + 1e-3

    @property
    def kept_s(self) -> float:
        """How long anything is kept."""
        return max(self.minutes_kept_hours * 3600.0, self.monitor_interval * self.history_size)
