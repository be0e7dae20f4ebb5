"""Ties the roster to the runtime: the inbox and samples in; events and the records of workloads out.

The inbox is shared by the hosts of a shard, and its messages name no host: the envelope's `source` does, as
`<host>/<workload>`. What other hosts' workloads say is not ours and is passed over.
"""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import msgspec

from handlers.workloads import policy
from handlers.workloads.policy import Fact, Member, Roster
from schemas.envelope import Event, MalformedEntry
from schemas.event import Acknowledged, CleanedUp, Joined, Left
from schemas.workload import (
    DEFAULT_PRIORITY,
    INBOX_TYPES,
    LARGEST_AMOUNT,
    Acknowledgement,
    CleanupResult,
    Counters,
    Join,
    Leave,
)
from supervisor.handler import Context, Decisions, Declared, Draft, Handler, Record, Stream, read_snapshot, sample_of

_VERSION = 1
#: A larger message is malformed, so that a program on the bus cannot fill our memory with its names and counters.
_LARGEST_MESSAGE = 65_536


class Workloads(Handler):
    """Keeps the roster of workloads, and makes what they say events."""

    name: ClassVar[str] = "workloads"
    streams: ClassVar[tuple[Stream, ...]] = ("inbox", "samples")

    def __init__(self, settings: Any, declared: Sequence[Declared]) -> None:
        self._declared = {one.name: one for one in declared}
        self._names = frozenset(self._declared)
        self._roster = Roster()

    async def handle(self, event: Event, context: Context) -> Decisions | None:
        """Take in a message or a sample.

        :raises MalformedEntry: when it is of no known type, its data is not what the type says or too large, or the
        roster is full.
        """
        if context.stream == "samples":
            sample = sample_of(event)
            if sample.host != context.host or sample.boot_id != context.boot_id:
                return None
            return self._decide(policy.observe(self._roster, sample, self._names, event.id), context)
        if event.type.startswith("flyball.memory."):
            return None  # the ledger's
        kind = INBOX_TYPES.get(event.type)
        if kind is None:
            raise MalformedEntry(f"no inbox message has the type {event.type!r}")
        if event.source.partition("/")[0] != context.host:
            return None
        if len(event.data) > _LARGEST_MESSAGE:
            raise MalformedEntry(f"{len(event.data)} bytes are too many for a message; allowed are {_LARGEST_MESSAGE}")
        message = event.decode(kind)
        if policy.heard_before(self._roster, event.id):
            return None
        return self._hear(message, event.id, context)

    def snapshot(self) -> bytes:
        """The whole roster."""
        return msgspec.msgpack.encode(self._roster)

    def restore(self, snapshot: bytes) -> None:
        """Take it up.

        :raises ValueError: when it is of another version or damaged.
        """
        roster = read_snapshot(snapshot, Roster, _VERSION)
        self._roster = roster

    def view(self) -> dict[str, Any]:
        """`workloads`: each shaped as `schemas.status.WorkloadStatus`; `registered`: pid → (start time, name)."""
        roster = self._roster
        joined = dict.fromkeys(member.workload for member in roster.members)
        names = dict.fromkeys([*self._declared, *joined, *roster.left])
        return {
            "workloads": [self._status(name, roster.of(name) if name in joined else []) for name in names],
            "registered": {member.pid: (member.start_time_s, member.workload) for member in roster.members},
        }

    def _hear(self, message: object, id: str, context: Context) -> Decisions | None:
        roster = self._roster
        match message:
            case Join():
                try:
                    return self._decide(policy.join(roster, message, context.boot_id, id), context)
                except policy.Crowded as error:
                    raise MalformedEntry(f"{message.workload} cannot join: {error}") from error
            case Leave():
                return self._decide(policy.leave(roster, message, id), context)
            case Acknowledgement():
                return self._decide(policy.acknowledge(roster, message, id), context)
            case CleanupResult():
                return self._decide(policy.cleaned(roster, message, id), context)
            case Counters() if policy.count(roster, message):
                return Decisions(records=[self._record(message.workload, context)])
        return None

    def _decide(self, facts: Sequence[Fact], context: Context) -> Decisions | None:
        if not facts:
            return None
        mark = "SIMULATED: " if self._roster.simulated else ""
        changed = dict.fromkeys(fact.workload for fact in facts if _changes_record(fact))
        return Decisions(
            events=[Draft(_type_of(fact), fact.workload, mark + _sentence(fact), fact) for fact in facts],
            records=[self._record(name, context) for name in changed],
        )

    def _status(self, name: str, members: Sequence[Member]) -> dict[str, Any]:
        declared = self._declared.get(name)
        matched = self._roster.matched.get(name, ())
        if members:
            state = "joined"
        elif declared is not None:
            state = "matched" if matched else "absent"
        else:
            state = "left"
        priorities = [declared.priority] if declared else [one.priority for one in members]
        targets = dict.fromkeys([*(declared.targets if declared else ()), *(t for one in members for t in one.targets)])
        return {
            "name": name,
            "state": state,
            "pids": list(dict.fromkeys([*(member.pid for member in members), *matched])),
            "targets": list(targets),
            "priority": min(priorities, default=DEFAULT_PRIORITY),
            "declared": declared is not None,
            "may": list(declared.may) if declared else [],
            "applied": _applied(members),
            "counts": _counts(members),
        }

    def _record(self, name: str, context: Context) -> Record:
        """The hash of a workload while a process of it is joined: what is no text stands there as JSON."""
        members = self._roster.of(name)
        key = f"{context.host}:{name}"
        if not members:
            return Record("workload", key, None)
        fields = self._status(name, members).items()
        return Record(
            "workload",
            key,
            {
                field: value if isinstance(value, str) else msgspec.json.encode(value).decode()
                for field, value in fields
            },
        )


def _applied(members: Iterable[Member]) -> dict[str, int]:
    """The directive that every process of a workload has reached, by target."""
    applied: dict[str, int] = {}
    for member in members:
        for target, seq in member.applied.items():
            applied[target] = min(seq, applied.get(target, seq))
    return applied


def _counts(members: Iterable[Member]) -> dict[str, float]:
    """The sums over the processes of a workload, bounded as each of them is."""
    counts: dict[str, float] = {}
    for member in members:
        for name, count in member.counts.items():
            counts[name] = counts.get(name, 0) + count
    return {name: max(-LARGEST_AMOUNT, min(count, LARGEST_AMOUNT)) for name, count in counts.items()}


def _changes_record(fact: Fact) -> bool:
    return not isinstance(fact, CleanedUp) and not (isinstance(fact, Acknowledged) and fact.stage == "accepted")


def _type_of(fact: Fact) -> str:
    match fact:
        case Joined():
            return "flyball.workload.joined"
        case Left():
            return "flyball.workload.left"
        case Acknowledged():
            return "flyball.directive.acknowledged"
        case CleanedUp():
            return "flyball.cleanup.finished"


def _sentence(fact: Fact) -> str:
    who = f"{fact.workload} (pid {fact.pid})"
    match fact:
        case Joined():
            return f"{who} joined, obeying {', '.join(fact.targets) or 'no target'}"
        case Left():
            return f"{who} left: {fact.reason}"
        case Acknowledged(stage="accepted"):
            return f"{who} heard directive {fact.seq} for {fact.target}: speed {fact.speed:.4g}"
        case Acknowledged():
            return f"{who} applied directive {fact.seq} for {fact.target}: speed {fact.speed:.4g}"
        case CleanedUp():
            said = policy.one_line(fact.text)
            outcome = f"freed {fact.freed_bytes / 2**20:.4g} MiB in" if fact.ok else "failed at"
            return f"{who} {outcome} a {fact.cleanup} cleanup" + (f": {said}" if said else "")
