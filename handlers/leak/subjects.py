"""The processes and cards that are watched: feeds each full sample into them, and knows which are gone."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from msgspec import Struct

from handlers.leak import measured
from handlers.leak.counting import Counting, Tally
from handlers.leak.measured import Who
from handlers.leak.policy import Subject
from handlers.leak.settings import Settings
from schemas.leak import Resource, Verdict
from schemas.sample import Sample
from schemas.workload import Seconds

#: A process that is missing from so many samples in a row is looked for.
MISSING_SAMPLES: Final = 3
#: … and again each time so many have passed.
_LOOK_AGAIN: Final = 60
#: Our own bus fills up with ten minutes of samples, which is no leak: what we start is watched from then on.
FILLS_S: Final = 900.0
#: A larger snapshot would hold up everybody: what is steady then starts anew.
LARGEST_SNAPSHOT: Final = 8 << 20


class Watched:
    """A process or card under watch."""

    __slots__ = ("fed_from_s", "levels", "looks", "missing", "seen_s", "subject", "who")

    def __init__(self, who: Who, subject: Subject) -> None:
        """`seen_s` is on the sampler's clock; `missing` counts full samples without it, `looks` how often we looked."""
        self.who = who
        self.subject = subject
        self.seen_s = 0.0
        self.fed_from_s = 0.0
        self.missing = 0
        self.looks = 0
        self.levels: Mapping[Resource, float] = {}


class Packed(Struct, frozen=True):
    """A subject in a snapshot."""

    who: Who
    seen_s: Seconds
    subject: bytes


Change = tuple[Watched, Verdict]


class Subjects:
    """All that are watched, at most `settings.subjects`."""

    def __init__(self, settings: Settings, subject: type[Subject], is_own_child: Callable[[int], bool]) -> None:
        """`is_own_child` tells whether a process is one that we started."""
        self._is_own_child = is_own_child
        self.settings = settings
        self._kind = subject
        self._processes: dict[int, Watched] = {}
        self._cards: dict[str, Watched] = {}
        #: for how many of the latest sample there was no room
        self.left_out = 0

    def __iter__(self) -> Iterator[Watched]:
        """Processes before cards."""
        yield from self._processes.values()
        yield from self._cards.values()

    def __len__(self) -> int:
        """How many there are."""
        return len(self._processes) + len(self._cards)

    def find(self, key: str) -> Watched | None:
        """The one with this identity."""
        pid, slash, _ = key.partition("/")
        found = self._processes.get(int(pid)) if slash and pid.isdigit() else self._cards.get(key)
        return found if found is not None and found.who.key == key else None

    def interrupt(self) -> None:
        """Time was lost for everybody."""
        for watched in self:
            watched.subject.interrupt()

    def observe(self, sample: Sample, counting: Counting) -> tuple[list[Change], list[Watched]]:
        """Feed a full sample; returns the verdicts whose stage changed, and those whose pid is another's by now."""
        changes: list[Change] = []
        replaced: list[Watched] = []
        self.left_out = 0
        if "processes" not in sample.unread:
            self._observe_processes(sample, counting, changes, replaced)
        self._observe_cards(sample, counting, changes)
        return changes, replaced

    def to_look_for(self) -> list[Watched]:
        """The processes that the samples have not shown for a while; asking counts as looking."""
        missing = []
        for watched in self._processes.values():
            if watched.missing >= MISSING_SAMPLES + watched.looks * _LOOK_AGAIN:
                watched.looks += 1
                missing.append(watched)
        return missing

    def forget(self, watched: Watched) -> None:
        """It has ended."""
        if self._processes.get(watched.who.pid) is watched:
            del self._processes[watched.who.pid]
        elif self._cards.get(watched.who.uuid) is watched:
            del self._cards[watched.who.uuid]

    def old(self, now_s: float) -> list[Watched]:
        """Those that were not seen for too long; where there is no room for others, some of the longest unseen."""
        unseen = sorted((one for one in self if one.seen_s < now_s), key=lambda one: one.seen_s)
        room = max(1, self.settings.subjects // 10) if len(self) >= self.settings.subjects else 0
        before_s = now_s - self.settings.unseen_s
        return [one for number, one in enumerate(unseen) if number < room or one.seen_s < before_s]

    def _is_full(self) -> bool:
        full = len(self) >= self.settings.subjects
        self.left_out += full
        return full

    def pack(self, first: set[str]) -> tuple[Packed, ...]:
        """All that fits in a snapshot: the keys in `first`, then what is not steady, then the latest seen."""
        order = sorted(self, key=lambda one: (one.who.key not in first, _is_steady(one.subject), -one.seen_s))
        packed: list[Packed] = []
        size = 0
        for watched in order:
            state = watched.subject.pack()
            if size + len(state) > LARGEST_SNAPSHOT:
                continue
            size += len(state)
            packed.append(Packed(watched.who, watched.seen_s, state))
        return tuple(packed)

    def unpack(self, packed: Sequence[Packed]) -> None:
        """Take up what `pack` gave.

        :raises ValueError: a subject is damaged, or of another version.
        """
        processes: dict[int, Watched] = {}
        cards: dict[str, Watched] = {}
        for one in packed:
            watched = Watched(one.who, self._kind.unpack(one.subject, self.settings))
            watched.seen_s = one.seen_s
            if one.who.pid:
                processes[one.who.pid] = watched
            else:
                cards[one.who.uuid] = watched
        self._processes, self._cards = processes, cards

    def add(self, who: Who, seen_s: float) -> None:
        """Watch for one of which nothing is known, unless it is there already."""
        if self.find(who.key) is None:
            watched = Watched(who, self._kind(self.settings))
            watched.seen_s = seen_s
            if who.pid:
                self._processes[who.pid] = watched
            else:
                self._cards[who.uuid] = watched

    def reconfigure(self, settings: Settings) -> None:
        """Other settings, for what is observed from now on."""
        self.settings = settings
        for watched in self:
            watched.subject.settings = settings

    def _observe_processes(
        self, sample: Sample, counting: Counting, changes: list[Change], replaced: list[Watched]
    ) -> None:
        t_s = sample.monotonic_s
        vram = measured.vram(sample.gpus)
        for process in sample.processes:
            if process.vms_bytes == 0:
                continue  # it has ended, and nobody has asked for it yet
            watched = self._processes.get(process.pid)
            if watched is None or watched.who.start_time_s != process.start_time_s:
                if watched is not None:
                    replaced.append(watched)
                elif self._is_full():
                    continue
                watched = self._processes[process.pid] = Watched(
                    measured.process_named(process), self._kind(self.settings)
                )
                if self._is_own_child(process.pid):
                    watched.fed_from_s = t_s + FILLS_S
            elif watched.who.workload != process.workload or watched.who.process != process.name:
                watched.who = measured.process_named(process)
            watched.seen_s, watched.missing, watched.looks = t_s, 0, 0
            if t_s >= watched.fed_from_s:
                self._feed(watched, t_s, measured.levels(process, vram), counting.of_process(process), changes)
        for watched in self._processes.values():
            if watched.seen_s < t_s:
                watched.missing += 1

    def _observe_cards(self, sample: Sample, counting: Counting, changes: list[Change]) -> None:
        t_s = sample.monotonic_s
        users = measured.users(sample)
        for gpu in sample.gpus:
            if gpu.reading != "fresh" or gpu.memory_used_bytes is None:
                continue
            watched = self._cards.get(gpu.uuid)
            if watched is None:
                if self._is_full():
                    continue
                watched = self._cards[gpu.uuid] = Watched(measured.card_named(gpu), self._kind(self.settings))
            elif watched.who.gpu != f"gpu{gpu.index}":
                watched.who = measured.card_named(gpu)
            watched.seen_s = t_s
            tally = counting.of_card(gpu.uuid, users.get(gpu.index, ()))
            self._feed(watched, t_s, {"vram": float(gpu.memory_used_bytes)}, tally, changes)

    @staticmethod
    def _feed(watched: Watched, t_s: float, levels: dict[Resource, float], tally: Tally, changes: list[Change]) -> None:
        watched.levels = levels
        for verdict in watched.subject.observe(t_s, levels, tally.counts, tally.gauges):
            changes.append((watched, verdict))


def _is_steady(subject: Subject) -> bool:
    return all(verdict.stage in ("steady", "unknown") for verdict in subject.verdicts.values())
