"""From what a handler decided to the commit that makes it so; the same input gives the same ids."""

from collections.abc import Sequence
from typing import Final

import msgspec

from schemas.envelope import Event, event_id
from schemas.workload import ask_channel
from supervisor.bus.commit import (
    REMEMBERED_S,
    Acknowledge,
    Append,
    Commit,
    DemandChange,
    HashChange,
    Saying,
    append_event,
    set_demand,
)
from supervisor.bus.keys import commands_key, dead_key, events_key, idempotency_key, record_key
from supervisor.bus.ledger import ledger_change
from supervisor.clock import rfc3339
from supervisor.handler import Decisions, Draft, Withdrawal

#: About how many entries streams other than samples and events keep.
COMMANDS_KEPT: Final = 1_000
DEAD_KEPT: Final = 10_000
#: What is kept of a dead entry: fields and values, and bytes of each.
_MOST_PARTS: Final = 40
_LONGEST_PART: Final = 65_536

_to_json = msgspec.json.Encoder().encode


class Origin(msgspec.Struct, frozen=True):
    """Who speaks: the host, the handler, and the streams of its shard."""

    host: str
    handler: str
    shard: int
    events_kept: int
    #: SIMULATED where the cards are; every sentence must hold it.
    mark: str = ""

    @property
    def issuer(self) -> str:
        """Unique among all handlers of all hosts; ids derive from it."""
        return f"{self.host}/{self.handler}"


def to_events(origin: Origin, input_id: str, drafts: Sequence[Draft], wall_s: float) -> list[Event]:
    """The drafts as events, with the ids that follow from the input."""
    time = rfc3339(wall_s) if drafts else ""
    return [
        Event(
            event_id(origin.issuer, input_id, ordinal),
            draft.type,
            origin.issuer,
            draft.subject,
            time,
            _marked(draft.text, origin.mark),
            _to_json(draft.data),
        )
        for ordinal, draft in enumerate(drafts)
    ]


def _marked(text: str, mark: str) -> str:
    return text if mark in text else f"{mark}: {text}"


def to_commit(
    origin: Origin,
    input_id: str,
    decisions: Decisions,
    *,
    wall_s: float,
    acknowledge: Sequence[Acknowledge] = (),
    dead: Append | None = None,
    remembered_s: int = REMEMBERED_S,
) -> tuple[Commit, list[Event]]:
    """The commit of one input's results, and the events in it."""
    events = to_events(origin, input_id, decisions.events, wall_s)
    appends = [append_event(events_key(origin.shard), origin.events_kept, event) for event in events]
    for command in decisions.commands:
        wrapped = Event(
            command.id,
            "flyball.command.requested",
            origin.issuer,
            command.target,
            command.time,
            f"{command.issuer} asks to {command.action} {command.target}",
            _to_json(command),
        )
        appends.append(append_event(commands_key(command.host, origin.shard), COMMANDS_KEPT, wrapped))
    if dead:
        appends.append(dead)
    demands = [
        DemandChange(change.target, change.issuer, "") if isinstance(change, Withdrawal) else set_demand(change)
        for change in decisions.demands
    ]
    hashes = [
        HashChange(
            record_key(record.kind, record.name, origin.shard),
            [] if record.fields is None else [part for pair in record.fields.items() for part in pair],
            int((record.ttl_s or 0) * 1000),
        )
        for record in decisions.records
    ]
    commit = Commit(
        token=idempotency_key(event_id(origin.issuer, input_id, -1), origin.shard),
        issuer=origin.issuer,
        input=input_id,
        ordinal=len(events),
        host=origin.host,
        time=rfc3339(wall_s),
        appends=appends,
        demands=demands,
        hashes=hashes,
        acknowledges=acknowledge,
        mark=origin.mark,
        ledger=[ledger_change(entry, wall_s) for entry in decisions.ledger],
        remembered_s=remembered_s,
        sayings=[Saying(ask_channel(ask.host, ask.workload), _to_json(ask).decode()) for ask in decisions.asks],
    )
    return commit, events


def dead_letter(origin: Origin, stream: str, entry: str, fields: list[bytes], error: str, attempts: int) -> Append:
    """The entry as it came, for `flyball:dead:…`, with who failed on it and why; of a monstrous one, the beginning."""
    came = [part[:_LONGEST_PART].decode(errors="backslashreplace") for part in fields[:_MOST_PARTS]]
    return Append(
        dead_key(origin.shard),
        DEAD_KEPT,
        ["handler", origin.handler, "host", origin.host, "stream", stream, "entry", entry, "attempts", str(attempts),
         "error", error, *came],
    )  # fmt: skip
