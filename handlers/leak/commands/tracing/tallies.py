"""The latest counters of all sources together, and a sentence when one of them begins or ceases to fail."""

from collections.abc import Callable, Sequence
from typing import Protocol

from supervisor.command import Tally


class Teller(Protocol):
    """A source of counters, as far as its figures go."""

    name: str
    #: when the latest figures were true (monotonic time), and the figures
    latest: tuple[float, Tally] | None
    #: what is wrong; empty while all is well
    trouble: str


class Tallies:
    """What several sources tell; of two that tell the same name, the later one is believed."""

    def __init__(self, sources: Sequence[Teller], say: Callable[[str], None]) -> None:
        """`say` gets the sentences."""
        self._sources = sources
        self._say = say
        self._troubles = [""] * len(sources)
        #: when the figures were true that came before the trouble
        self._well_s = [0.0] * len(sources)

    @property
    def expected(self) -> bool:
        """Whether a source has not told anything yet, and may."""
        return any(source.latest is None for source in self._sources)

    def read(self) -> tuple[dict[str, float], dict[str, float]]:
        """Counts and gauges as they are known now; a source that fails tells none."""
        counts: dict[str, float] = {}
        gauges: dict[str, float] = {}
        for number, source in enumerate(self._sources):
            trouble = source.trouble
            if trouble != self._troubles[number]:
                self._troubles[number] = trouble
                self._say(trouble or f"{source.name} tells again")
            if source.latest is None:
                continue
            true_s, tally = source.latest
            if not trouble:
                self._well_s[number] = true_s
            elif true_s == self._well_s[number]:
                continue  # what is known is from before; a source that tells some of its figures told them anew
            counts |= tally.counts
            gauges |= tally.gauges
        return counts, gauges
