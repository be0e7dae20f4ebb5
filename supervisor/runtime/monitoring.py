"""Whether GPUs are read: an operator may stop it for a while, and everything then says so, and who it was."""

from collections.abc import Callable
from typing import Final, Literal

from msgspec import Struct

from schemas.event import MonitoringChanged
from schemas.sample import GpuBackend
from supervisor.clock import Clock, rfc3339
from supervisor.sampling.sampler import Sampler

_HINT: Final = "start it with POST /api/gpu/monitoring/start; a restart of Flyball starts it, too"


class MonitoringState(Struct, frozen=True, kw_only=True):
    """Whether GPUs are read, since when (RFC 3339), and who wanted that."""

    state: Literal["running", "stopped"]
    since: str
    who: str
    reason: str = ""


class Monitoring:
    """The switch for it; it is on at every start, because nobody may remember who turned it off."""

    def __init__(self, sampler: Sampler, clock: Clock, say: Callable[[str, str, Struct], None]) -> None:
        """`sampler` reads GPUs now; `say` publishes an event (type, sentence, data)."""
        self._sampler = sampler
        self._clock = clock
        self._say = say
        self.state = MonitoringState(state="running", since=rfc3339(clock.wall()), who="flyball run")

    def stop(self, who: str, reason: str = "") -> MonitoringState:
        """Read no card from the next tick on; where that is so already, it stays as it was said first."""
        if self.state.state == "running":
            self._change("stopped", who, reason)
            said = f"{who} stopped monitoring at {self.state.since}" + (f": {reason}" if reason else "")
            self._sampler.stop_gpus(GpuBackend("stopped", said, _HINT))
        return self.state

    def start(self, who: str, reason: str = "") -> MonitoringState:
        """Read them again from the next tick on; nothing happens where they are read."""
        if self.state.state == "stopped":
            self._change("running", who, reason)
            self._sampler.start_gpus()
        return self.state

    def _change(self, state: Literal["running", "stopped"], who: str, reason: str) -> None:
        self.state = MonitoringState(state=state, since=rfc3339(self._clock.wall()), who=who, reason=reason)
        what = "stopped monitoring: no GPU is read" if state == "stopped" else "started monitoring: GPUs are read again"
        text = f"{who} {what}" + (f" ({reason})" if reason else "")
        data = MonitoringChanged(state=state, who=who, reason=reason, cause="")
        self._say("flyball.monitoring.changed", text, data)
