"""The standing directive of every target, as far as this supervisor knows."""

from collections.abc import Iterable, Mapping

import msgspec

from schemas.demand import Demand, standing
from schemas.workload import Directive
from supervisor.bus.commit import directives


class Standing:
    """Directives by target: read from the bus at a start, then followed through the answers to our commits."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        #: grows with every directive that is new to us
        self.changes = 0
        self._directives: dict[str, Directive] = {}

    def issued(self, reply: object) -> None:
        """Take note of the directives in the answer to a commit."""
        for text in directives(reply):
            self.take(msgspec.json.decode(text, type=Directive))

    def take(self, directive: Directive) -> None:
        """Take note of a directive, unless a later one is known: answers come over several connections."""
        known = self._directives.get(directive.target)
        if known is None or directive.seq >= known.seq:
            self.changes += known != directive
            self._directives[directive.target] = directive

    def targets(self) -> Iterable[str]:
        """All targets with a directive."""
        return self._directives.keys()

    def of(self, target: str) -> Directive | None:
        """What stands for a target, None where nothing was ever said."""
        return self._directives.get(target)

    def speed(self, target: str) -> float:
        """The speed that stands for a target; full where nothing was ever said."""
        directive = self._directives.get(target)
        return 1.0 if directive is None else directive.speed


def wanted(demands: Iterable[Demand]) -> Mapping[str, Demand]:
    """What the demands come to, by target: what would be said if the bus were there."""
    by_target: dict[str, list[Demand]] = {}
    for demand in demands:
        by_target.setdefault(demand.target, []).append(demand)
    return {target: slowest for target, every in by_target.items() if (slowest := standing(every))}
