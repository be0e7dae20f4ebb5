"""What stands for each target, for those who ask often: the handlers are asked at most ten times a second for it."""

from collections.abc import Sequence
from typing import Final

from schemas.demand import Demand
from schemas.status import TargetStatus
from schemas.workload import Directive
from supervisor.runtime.status import Parts, target_statuses

#: What a handler says of a target beside its directive may be this old.
_FRESH_S: Final = 0.1


class Targets:
    """The targets of this host; a change of a directive, of the bus or of the latest sample is seen at once."""

    def __init__(self, parts: Parts) -> None:
        """Nobody is asked yet."""
        self._parts = parts
        self._asked_s = float("-inf")
        self._seen: tuple[object, ...] = ()
        self._statuses: dict[str, TargetStatus] = {}
        self._demands: list[Demand] = []

    def of(self, target: str) -> TargetStatus | None:
        """State and order of a target; None where nobody has ever said anything of it."""
        self._refresh()
        return self._statuses.get(target)

    def directive(self, target: str) -> Directive | None:
        """The standing directive, None where there was none."""
        return self._parts.standing.of(target)

    def demands(self, target: str) -> Sequence[Demand]:
        """What our handlers demand of it, by issuer."""
        self._refresh()
        wanted = [demand for demand in self._demands if demand.target == target]
        return sorted(wanted, key=lambda demand: demand.issuer)

    def _refresh(self) -> None:
        parts = self._parts
        sample, now_s = parts.latest(), parts.clock.monotonic()
        seen = parts.standing.changes, parts.link.up, sample and sample.tick
        if seen == self._seen and now_s - self._asked_s < _FRESH_S:
            return
        self._demands = parts.views.demands()
        statuses = target_statuses(parts, parts.views.merged(), self._demands)
        self._statuses = {status.target: status for status in statuses}
        self._asked_s, self._seen = now_s, seen
