"""Ties the ledger to the runtime: requests and samples in; changes of the ledger, what each target has, and events out.

What stands is decided on the bus. This handler keeps what that decision needs (`flyball:capacity:…`) fresh, gives back
what belongs to processes that have ended or whose time is over, and follows the ledger through its events.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final

import msgspec
from msgspec import Struct

from handlers.memory import effects, policy, routes, wording
from handlers.memory.capacity import MARK, Capacity, capacities, room
from handlers.memory.policy import Book
from handlers.memory.settings import MIB, Settings
from handlers.memory.watch import Watch, orphans, overuse
from schemas.envelope import Event, MalformedEntry
from schemas.event import LedgerRead
from schemas.sample import Sample
from schemas.workload import LedgerAnswer, Release, Reservation, Reserve, Started
from supervisor.handler import (
    Context,
    Decisions,
    Declared,
    Draft,
    Handler,
    LedgerEntry,
    Reconcile,
    Record,
    Route,
    Stream,
    read_snapshot,
    sample_of,
)

_VERSION: Final = 1
_SAMPLED: Final = "flyball.host.sampled"
_REQUESTS: Final[dict[str, type[Reserve | Started | Release]]] = {
    "flyball.memory.reserve": Reserve,
    "flyball.memory.started": Started,
    "flyball.memory.release": Release,
}
_ANSWERS: Final = frozenset(f"flyball.memory.{what}" for what in ("reserved", "start_finished", "released", "expired"))
_READ: Final = "flyball.memory.ledger_read"
_LARGEST_MESSAGE: Final = 65_536
#: A figure that is older than so many intervals is unknown; but a busy machine may be late by so much.
STALE_INTERVALS: Final = 3.5
SHORTEST_S: Final = 1.0
#: A change of less is not worth a write; so much may be promised too much, which the reserve has to bear.
WORTH_WRITING_BYTES: Final = 4 * MIB
#: What was given back is given back again after so long, if it still stands.
AGAIN_S: Final = 30.0


class State(Struct, kw_only=True):
    """What survives a restart."""

    version: int = _VERSION
    book: Book
    watch: Watch


class Memory(Handler):
    """Keeps the ledger of reservations honest."""

    name: ClassVar[str] = "memory"
    streams: ClassVar[tuple[Stream, ...]] = ("samples", "inbox", "events")
    types: ClassVar[frozenset[str]] = frozenset({_SAMPLED, _READ, *_REQUESTS, *_ANSWERS})
    settings = Settings

    def __init__(self, settings: Settings, declared: Sequence[Declared]) -> None:
        self._settings = settings
        self.book = Book()
        self._watch = Watch()
        #: The targets as last measured, and when; empty before the first sample.
        self._capacities: dict[str, Capacity] = {}
        self._sampled_s: float | None = None
        self._interval_s = 1.0
        #: None where nobody can tell which there are.
        self._cards: set[str] | None = None
        self._now_s = 0.0
        #: What stands on the bus, and since when.
        self._written: dict[str, tuple[Capacity, float]] = {}
        #: request → when it was given back by us.
        self._given_back: dict[str, float] = {}

    async def handle(self, event: Event, context: Context) -> Decisions | None:
        """Look at a sample, pass a request on to the ledger, or take note of what became of one.

        :raises MalformedEntry: its data is not what its type says, or too large.
        """
        if context.stream == "samples":
            sample = sample_of(event)
            if sample.host != context.host or sample.boot_id != context.boot_id or sample.scope != "full":
                return None
            return self._look(sample, event.id, context)
        if event.source.partition("/")[0] != context.host:
            return None
        if context.stream == "events":
            back = self._note(event)
            why = "it had ended before the bus lost its data"
            return None if context.replaying else _decisions(self._give_back(back, lambda _: why, event.id, context))
        if context.replaying:
            return None  # it was decided by the server
        if len(event.data) > _LARGEST_MESSAGE:
            raise MalformedEntry(f"{len(event.data)} bytes are too many for a message; allowed are {_LARGEST_MESSAGE}")
        entered_ms = int(context.entry.partition("-")[0] or 0)
        change: Reserve | Started | Release = event.decode(_REQUESTS[event.type])
        return Decisions(ledger=[self.entry(change, event.id, entered_ms)])

    def entry(self, change: Reserve | Started | Release, request: str, entered_ms: int = 0) -> LedgerEntry:
        """A request as the server gets it: with what ends it, or why it is denied whatever is free."""
        reason = ""
        if isinstance(change, Reserve):
            reason = policy.refusal(change, self._cards)
            if not reason:
                change, reason = policy.bound(change, effects.start_time_s(change.pid), self._settings.default_ttl_s)
        of = change.of if isinstance(change, Release) else ""
        return LedgerEntry(request=request, change=change, reason=reason, of=of, entered_ms=entered_ms)

    def take(self, answer: LedgerAnswer) -> None:
        """Take note of an answer that was given over the API, before its event comes."""
        policy.take(self.book, answer)

    def tick(self, context: Context) -> Decisions | None:
        """Give back what is over."""
        self._now_s = context.monotonic_s
        return _decisions(self._over(context))

    def missed(self, stream: Stream, context: Context) -> Decisions | None:
        """Events were lost: ask for all that stands."""
        return self._compared(f"gap/{context.entry}") if stream == "events" else None

    def restated(self, context: Context) -> Decisions | None:
        """The bus is there: compare, and write and give back anew."""
        self._written.clear()
        self._given_back.clear()
        return self._compared(f"start/{context.boot_id[:8]}/{context.monotonic_s:.3f}")

    def snapshot(self) -> bytes:
        """The ledger as we know it, and what was told of it."""
        return msgspec.msgpack.encode(State(book=self.book, watch=self._watch))

    def restore(self, snapshot: bytes) -> None:
        """Take it up.

        :raises ValueError: when it is of another version or damaged.
        """
        state = read_snapshot(snapshot, State, _VERSION)
        self.book, self._watch = state.book, state.watch

    def reconfigure(self, settings: Settings) -> bool:
        """Other limits hold from the next sample on."""
        self._settings = settings
        return True

    def routes(self) -> Sequence[Route]:
        """The API of reservations."""
        return routes.routes(self)

    def known(self, target: str, now_s: float) -> tuple[Capacity, float] | None:
        """A target's memory as last measured, and how old that is in seconds; None where that is too old, or never was.

        `now_s` is CLOCK_MONOTONIC.
        """
        capacity, sampled_s = self._capacities.get(target), self._sampled_s
        if capacity is None or sampled_s is None:
            return None
        age_s = max(0.0, now_s - sampled_s)
        return (capacity, age_s) if age_s <= _life_s(self._interval_s) else None

    def view(self) -> dict[str, Any]:
        """`memory`: a row a target, shaped as `schemas.status.MemoryStatus`; `registered`: the processes to look at."""
        standing = self.book.standing()
        looked_at = set() if self._sampled_s is None else {*self._capacities, *(self._cards or ()), "host"}
        targets = looked_at.union(*(one.parts for one in standing))
        return {
            "memory": [self._row(target, standing) for target in sorted(targets)],
            # a workload that registered by itself comes after us, and wins
            "registered": {one.pid: (one.start_time_s, f"{MARK}{one.allocation_id}") for one in standing if one.pid},
        }

    # -- inside ----------------------------------------------------------------------------------------------------

    def _look(self, sample: Sample, cause: str, context: Context) -> Decisions | None:
        standing = self.book.standing()
        self._now_s = context.monotonic_s
        self._cards = {f"gpu{gpu.index}" for gpu in sample.gpus} if sample.gpu_backend.state == "ok" else None
        measured = capacities(sample, standing, self._settings)
        self._capacities = {capacity.target: capacity for capacity in measured}
        self._sampled_s, self._interval_s = sample.monotonic_s, sample.interval_s
        dead = _dead(sample, sure=not context.replaying)
        events = [wording.overused(one) for one in overuse(self._watch, measured, standing, self._settings, cause)]
        if dead is not None:
            orphaned = orphans(self._watch, sample.gpus, dead, self._settings, cause)
            events += [wording.orphaned(one) for one in orphaned]
        ended = [] if context.replaying else self._bereft(sample, cause, context)
        return _decisions(
            [*ended, *self._over(context)],
            events=events,
            records=self._records(measured, sample, context),
        )

    def _note(self, event: Event) -> Sequence[Reservation]:
        """Returns what stands on the bus although it has ended."""
        if event.type == _READ:
            return policy.take_all(self.book, event.decode(LedgerRead))
        policy.take(self.book, event.decode(LedgerAnswer))
        return ()

    def _bereft(self, sample: Sample, cause: str, context: Context) -> list[LedgerEntry]:
        """Give back what belongs to processes that have ended: the sample shows it, and a look at them now."""
        gone = [one for one in policy.bereft(self.book, sample) if not effects.lives(one.pid, one.start_time_s)]
        return self._give_back(gone, lambda one: f"process {one.pid} of {one.owner} has ended", cause, context)

    def _over(self, context: Context) -> list[LedgerEntry]:
        if context.replaying:
            return []
        cause = f"clock/{context.wall_s:.3f}"
        return self._give_back(policy.over(self.book, context.wall_s), lambda one: "its time is over", cause, context)

    def _give_back(
        self, ending: Sequence[Reservation], why: Callable[[Reservation], str], cause: str, context: Context
    ) -> list[LedgerEntry]:
        """Once each, until we hear that it stands all the same."""
        now_s = context.monotonic_s
        self._given_back = {request: at for request, at in self._given_back.items() if now_s - at < AGAIN_S}
        entries = []
        for one in ending:
            if one.request not in self._given_back:
                self._given_back[one.request] = now_s
                release = Release(allocation_id=one.allocation_id)
                entries.append(LedgerEntry(request=cause, change=release, reason=why(one), of=one.request))
        return entries

    def _compared(self, request: str) -> Decisions:
        change = Reconcile(tuple(self.book.standing()))
        return Decisions(ledger=[LedgerEntry(request=request, change=change)])

    def _records(self, measured: Sequence[Capacity], sample: Sample, context: Context) -> list[Record]:
        """What has changed, or would soon be too old; a card that is lost has nothing to give any more."""
        ttl_s = _life_s(sample.interval_s)
        records = []
        for capacity in measured:
            before = self._written.get(capacity.target)
            if before is None or context.monotonic_s - before[1] >= ttl_s / 2 or _differs(before[0], capacity):
                self._written[capacity.target] = capacity, context.monotonic_s
                records.append(_record(capacity, sample, ttl_s))
        for gpu in sample.gpus:
            if gpu.reading == "lost" and f"gpu{gpu.index}" in self._written:
                del self._written[f"gpu{gpu.index}"]
                records.append(Record("capacity", f"{sample.host}:gpu{gpu.index}", None))
        return records

    def _row(self, target: str, standing: Sequence[Reservation]) -> dict[str, Any]:
        known = self.known(target, self._now_s)
        left = None if known is None else room(known[0], standing)
        return {
            "target": target,
            "limit_bytes": None if known is None else known[0].limit_bytes,
            "reserved_bytes": sum(one.parts.get(target, 0) for one in standing),
            "available_bytes": None if left is None else max(0, left.available_bytes),
            "reservations": [one.allocation_id for one in standing if target in one.parts],
        }


def _life_s(interval_s: float) -> float:
    """How long what was measured is known."""
    return max(STALE_INTERVALS * interval_s, SHORTEST_S)


def _decisions(
    ledger: Sequence[LedgerEntry], events: Sequence[Draft] = (), records: Sequence[Record] = ()
) -> Decisions | None:
    return Decisions(events=events, records=records, ledger=ledger) if ledger or events or records else None


def _record(capacity: Capacity, sample: Sample, ttl_s: float) -> Record:
    fields = {
        "limit_bytes": str(capacity.limit_bytes),
        "reserve_bytes": str(capacity.reserve_bytes),
        "used_bytes": str(capacity.used_bytes),
        "held": msgspec.json.encode(capacity.held).decode(),
        "sample": sample.id,
    }
    return Record("capacity", f"{sample.host}:{capacity.target}", fields, ttl_s)


def _differs(a: Capacity, b: Capacity) -> bool:
    """By more than is not worth a write."""
    if (a.limit_bytes, a.reserve_bytes, a.held.keys()) != (b.limit_bytes, b.reserve_bytes, b.held.keys()):
        return True
    pairs = [(a.used_bytes, b.used_bytes), *((a.held[request], b.held[request]) for request in a.held)]
    return any(abs(one - other) >= WORTH_WRITING_BYTES for one, other in pairs)


def _dead(sample: Sample, *, sure: bool) -> set[int] | None:
    """The pids that a driver lists and that no living process has; `sure`: look again. None where nobody can tell.

    What is simulated is used by nobody.
    """
    if "processes" in sample.unread or sample.simulated:
        return None
    living = {process.pid for process in sample.processes if process.vms_bytes != 0}
    listed = {process.pid for gpu in sample.gpus for process in gpu.processes}
    return {pid for pid in listed - living if not (sure and effects.lives(pid))}
