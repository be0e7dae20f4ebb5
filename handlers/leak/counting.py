"""What programs count, by process and workload: their own word through the SDK, and what was polled."""

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from handlers.leak.names import Names
from schemas.sample import SAME_START_S, Counted, Process
from schemas.workload import MOST_WATCHED, Counters

Figures = Mapping[str, float]
NOTHING: Figures = {}
_SDK: Final = "sdk"
#: Workloads and cards whose counters' names are remembered.
_MOST_NAMED: Final = 4096
#: A counter with a longer name is left out.
_LONGEST_NAME: Final = 128
#: What was told by a process that so many samples in a row do not show is forgotten: anybody may name any pid.
_MOST_UNSEEN: Final = 60


class Tally(Struct, frozen=True):
    """Cumulative counts, and levels."""

    counts: Figures = NOTHING
    gauges: Figures = NOTHING


_NONE = Tally()


class Ledger(Struct, frozen=True):
    """What survives a restart: what each process told last, and whose the names are (counts, gauges)."""

    told: tuple[Counters, ...] = ()
    owners: dict[str, tuple[dict[str, str], dict[str, str]]] = {}


class Counting:
    """The latest counters of everybody."""

    def __init__(self, ledger: Ledger | None = None) -> None:
        ledger = ledger or Ledger()
        self._told: dict[int, Counters] = {one.pid: one for one in ledger.told}
        #: pid → samples in a row that did not show it, of those that told something
        self._unseen = dict.fromkeys(self._told, 0)
        self._polled: dict[str, list[Counted]] = {}
        self._names = {whose: (Names(counts), Names(gauges)) for whose, (counts, gauges) in ledger.owners.items()}
        #: workload → the pids of this sample that told something
        self._tellers: dict[str, list[int]] = {}
        #: of this sample
        self._tallies: dict[str, Tally] = {}

    def tell(self, message: Counters, most: int) -> None:
        """A process says what it counted; of more than `most` processes the first is forgotten."""
        self._told.pop(message.pid, None)
        self._told[message.pid] = replace(message, counts=_bounded(message.counts), gauges=_bounded(message.gauges))
        self._unseen.setdefault(message.pid, 0)
        while len(self._told) > most:
            self._forget(next(iter(self._told)))

    def look(self, processes: Iterable[Process], counted: Iterable[Counted]) -> None:
        """A full sample: who lives, and what was polled; a source that has not answered for too long has no figures."""
        self._polled, self._tallies = {}, {}
        for source in counted:
            if source.counts or source.gauges:
                self._polled.setdefault(source.workload, []).append(source)
        self._tellers = {}
        if not self._told:
            return
        shown: set[int] = set()
        for process in processes:
            shown.add(process.pid)
            told = self._told.get(process.pid)
            if told is None:
                continue
            if abs(told.start_time_s - process.start_time_s) > SAME_START_S:
                self._forget(process.pid)  # another process has its pid
            elif process.workload:
                self._tellers.setdefault(process.workload, []).append(process.pid)
        if shown:  # else the table of processes could not be read
            self._age(shown)

    def pack(self) -> Ledger:
        """What a program does not tell again, as long as it counts nothing."""
        owners = {whose: (counts.owners, gauges.owners) for whose, (counts, gauges) in self._names.items()}
        return Ledger(told=tuple(self._told.values()), owners=owners)

    def of_process(self, process: Process) -> Tally:
        """Its own counters, else those of its workload's processes together, and what was polled of the workload."""
        told, name = self._told.get(process.pid), process.workload
        if told is None and not name:
            return _NONE
        if told is None:
            return self.of_workload(name)
        # the names of one that belongs to nobody are bounded, too; no workload's name has a stroke
        return self._merged(name or f"{process.pid}/{process.start_time_s:.2f}", [told])

    def of_workload(self, name: str) -> Tally:
        """The sums over its processes, and what was polled."""
        if name not in self._tallies:
            tellers = self._tellers.get(name, ())
            known = bool(tellers) or name in self._polled
            self._tallies[name] = self._merged(name, [self._told[pid] for pid in tellers]) if known else _NONE
        return self._tallies[name]

    def of_card(self, card: str, workloads: Iterable[str]) -> Tally:
        """The counters of the workloads that use the card."""
        tallies = [(name, self.of_workload(name)) for name in sorted(workloads)]
        counts, gauges = self._called(card)
        return Tally(
            counts.merged((name, tally.counts) for name, tally in tallies),
            gauges.merged((name, tally.gauges) for name, tally in tallies),
        )

    def _age(self, shown: set[int]) -> None:
        for pid in list(self._told):
            self._unseen[pid] = 0 if pid in shown else self._unseen[pid] + 1
            if self._unseen[pid] >= _MOST_UNSEEN:
                self._forget(pid)

    def _forget(self, pid: int) -> None:
        del self._told[pid], self._unseen[pid]

    def _merged(self, workload: str, told: list[Counters]) -> Tally:
        polled = self._polled.get(workload, ())
        counts, gauges = self._called(workload)
        return Tally(
            counts.merged([(_SDK, _sums(one.counts for one in told)), *((one.source, one.counts) for one in polled)]),
            gauges.merged([(_SDK, _sums(one.gauges for one in told)), *((one.source, one.gauges) for one in polled)]),
        )

    def _called(self, whose: str) -> tuple[Names, Names]:
        if whose not in self._names:
            if len(self._names) >= _MOST_NAMED:
                del self._names[next(iter(self._names))]
            self._names[whose] = Names(), Names()
        return self._names[whose]


def _bounded(figures: dict[str, float]) -> dict[str, float]:
    return dict(islice(((name, value) for name, value in figures.items() if len(name) <= _LONGEST_NAME), MOST_WATCHED))


def _sums(figures: Iterable[Figures]) -> Figures:
    every = list(figures)
    if len(every) == 1:
        return every[0]
    sums: dict[str, float] = {}
    for one in every:
        for name, value in one.items():
            sums[name] = sums.get(name, 0.0) + value
    return sums
