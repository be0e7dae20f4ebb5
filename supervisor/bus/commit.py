"""The commit: all that follows from one input, as one server-side step.

A `Commit` is complete in itself - it names its keys - so it can be sent now, again, or later from the disk spool;
its token makes a second time do nothing.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from schemas.demand import Demand
from schemas.envelope import Event
from schemas.workload import LedgerAnswer
from supervisor.bus.keys import capacity_key, demands_key, directive_key, reservation_key
from supervisor.bus.ledger import LedgerChange, packed, read_answer, settled

_pack = msgspec.msgpack.Encoder().encode
_to_json = msgspec.json.Encoder().encode

TTL_S = 30
#: How long the server knows a commit by its token, and what it answered.
REMEMBERED_S = 3_600


class Append(Struct, frozen=True, array_like=True):
    """An entry for a stream, which then keeps about `keep` entries."""

    stream: str
    keep: int
    fields: list[str]


class DemandChange(Struct, frozen=True, array_like=True):
    """What one issuer now wants of a target; `demand` is JSON, empty to withdraw."""

    target: str
    issuer: str
    demand: str


class HashChange(Struct, frozen=True, array_like=True):
    """Fields and values in turn for a hash; none of them deletes it. `ttl_ms` 0: it stays."""

    key: str
    fields: list[str]
    ttl_ms: int = 0


class Acknowledge(Struct, frozen=True, array_like=True):
    """Entries that a group is done with."""

    stream: str
    group: str
    entries: Sequence[str]


class Saying(Struct, frozen=True, array_like=True):
    """A message for a channel, heard by who listens now and by nobody later."""

    channel: str
    message: str


class Commit(Struct, frozen=True, array_like=True):
    """Results of one input; ids of directives derive from (`issuer`, `input`, `ordinal`…)."""

    token: str
    issuer: str
    input: str
    ordinal: int
    host: str
    time: str
    appends: Sequence[Append] = ()
    demands: Sequence[DemandChange] = ()
    hashes: Sequence[HashChange] = ()
    acknowledges: Sequence[Acknowledge] = ()
    #: What every sentence must hold, such as SIMULATED; put before the reason of a directive that does not.
    mark: str = ""
    ledger: Sequence[LedgerChange] = ()
    remembered_s: int = REMEMBERED_S
    #: Never kept for later: a spooled commit, and one that is sent again, has none.
    sayings: Sequence[Saying] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing follows from the input, but that it is acknowledged."""
        return not (self.appends or self.demands or self.hashes or self.ledger or self.sayings)


_decode = msgspec.msgpack.Decoder(Commit).decode


def append_event(stream: str, keep: int, event: Event) -> Append:
    """An event as an entry of `stream`; text throughout, since Lua's MessagePack knows no binary type."""
    return Append(stream, keep, [part if isinstance(part, str) else part.decode() for part in event.fields()])


def set_demand(demand: Demand) -> DemandChange:
    """The demand of an issuer, new or changed."""
    return DemandChange(demand.target, demand.issuer, _to_json(demand).decode())


def to_bytes(commit: Commit) -> bytes:
    """For the disk spool, without what would be said too late."""
    return _pack(_unsaid(commit))


def from_bytes(stored: bytes) -> Commit:
    """From the disk spool."""
    return _decode(stored)


def directives(reply: Any) -> list[bytes]:
    """The directives that a commit issued, as JSON, in the server's answer to it."""
    issued: list[bytes] = reply[1]
    return issued


def answers(reply: Any) -> list[LedgerAnswer]:
    """The ledger's answers, in the order of the changes, in the server's answer to a commit."""
    return [read_answer(answer) for answer in reply[2] if answer]


def as_answered(commit: Commit, reply: Any) -> Commit:
    """The commit as it turned out, to be sent again to a server that may have lost it."""
    commit = _unsaid(commit)
    return msgspec.structs.replace(commit, ledger=settled(commit.ledger, reply[2])) if commit.ledger else commit


def call_arguments(
    commit: Commit, *, lease: str, events: str, epoch: int, shard: int, events_kept: int
) -> tuple[list[str], bytes]:
    """KEYS and payload of the server-side function `commit`: keys are named once, and then by index from 1."""
    keys = [lease, events]
    places: dict[str, int] = {lease: 1, events: 2}

    def place(key: str, *beside: str) -> int:
        at = places.get(key)
        if at is None:
            keys.append(key)
            keys.extend(beside)
            at = places[key] = len(keys) - len(beside)
        return at

    header: list[Any] = [
        str(epoch), place(commit.token) if commit.token else 0, commit.issuer, commit.input, commit.ordinal,
        commit.host, commit.time, TTL_S, events_kept, commit.mark, commit.remembered_s * 1000,
    ]  # fmt: skip
    payload = [
        header,
        [[place(append.stream), append.keep, append.fields] for append in commit.appends],
        [
            [
                place(demands_key(commit.host, change.target, shard), directive_key(commit.host, change.target, shard)),
                change.target,
                change.issuer,
                change.demand,
            ]
            for change in commit.demands
        ],
        [[place(change.key), change.fields, change.ttl_ms] for change in commit.hashes],
        [[place(done.stream), done.group, done.entries] for done in commit.acknowledges],
        [
            packed(
                change,
                place(reservation_key(commit.host, shard)),
                [place(capacity_key(commit.host, target, shard)) for target, _ in change.parts],
            )
            for change in commit.ledger
        ],
        commit.sayings,
    ]
    return keys, _pack(payload)


def _unsaid(commit: Commit) -> Commit:
    """The commit as it is carried out later."""
    return msgspec.structs.replace(commit, sayings=()) if commit.sayings else commit
