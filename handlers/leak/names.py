"""What the counters of a process or card are called: as their source calls them, unless two sources clash."""

from collections.abc import Iterable, Mapping

from schemas.workload import MOST_WATCHED


class Names:
    """The names of one workload's or card's counters; who had a name first keeps it, the next is `source.name`."""

    def __init__(self, owners: Mapping[str, str] | None = None) -> None:
        """`owners` is what `Names.owners` was before: name → source."""
        self.owners: dict[str, str] = dict(owners or {})
        self._called: dict[tuple[str, str], str] = {}

    def merged(self, sources: Iterable[tuple[str, Mapping[str, float]]]) -> dict[str, float]:
        """The figures of all sources under one roof; names beyond `MOST_WATCHED` are left out."""
        figures: dict[str, float] = {}
        for source, own in sources:
            for name, value in own.items():
                called = self._called.get((source, name)) or self._call(source, name)
                if called:
                    figures[called] = value
        return figures

    def _call(self, source: str, name: str) -> str:
        if len(self._called) >= MOST_WATCHED or (name not in self.owners and len(self.owners) >= MOST_WATCHED):
            return ""
        called = name if self.owners.setdefault(name, source) == source else f"{source}.{name}"
        self._called[source, name] = called
        return called
