"""The messages that cross to workloads and back: the standing directive, and what a workload says about itself.

`sdk/flyball/wire.py` is a generated copy of this file, so it imports nothing but msgspec and the standard library.
"""

import re
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct, field

# `$(?!\n)`: Python's `$` would let a line break follow; the rest means the same here and in JSON Schema's ECMA-262.
NAME_PATTERN: Final = r"^[A-Za-z0-9._-]{1,64}$(?!\n)"
TARGET_PATTERN: Final = r"^(gpu[0-9]{1,4}|host|workload\.[A-Za-z0-9._-]{1,64})$(?!\n)"

Name = Annotated[str, Meta(pattern=NAME_PATTERN, description="a host, workload or server")]
Target = Annotated[str, Meta(pattern=TARGET_PATTERN, description="`gpu0`…, `host` or `workload.<name>`")]
Speed = Annotated[float, Meta(ge=0, le=1, description="share of full speed")]
# Every number that crosses the wire has bounds, so that sums and products of them stay finite, and an integer fits the
# 64 bits of a snapshot (MessagePack).
#: The default of `priority`: the lowest gives way first.
DEFAULT_PRIORITY: Final = 5
#: Counters of one workload that are watched for leaks, and as many gauges.
MOST_WATCHED: Final = 64
#: The largest count of a workload's own; up to there a double holds every whole number.
LARGEST_AMOUNT: Final = 10**15
Seconds = Annotated[float, Meta(ge=0, le=10**12)]
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Whole = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Amount = Annotated[float, Meta(ge=-LARGEST_AMOUNT, le=LARGEST_AMOUNT)]
Pid = Annotated[int, Meta(ge=0, le=2**31)]
Action = Literal["run", "throttle", "pause"]
Cleanup = Literal["none", "soft", "hard", "emergency"]
OnSilence = Literal["hold", "run", "pause"]

#: The order of the fields of every stream entry; mirrors CloudEvents 1.0.
ENTRY_FIELDS: Final = ("id", "type", "source", "subject", "time", "text", "data")

_NAME = re.compile(NAME_PATTERN)


def checked_name(name: str) -> str:
    """Return `name` if it may stand in a key.

    :raises ValueError: when it does not match `NAME_PATTERN`.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a usable name: 1 to 64 of the characters A-Z a-z 0-9 . _ -")
    return name


def inbox_key(shard: int = 0) -> str:
    """Stream in which workloads speak."""
    return f"flyball:inbox:{{{shard}}}"


def directive_key(host: str, target: str, shard: int = 0) -> str:
    """Hash with the standing directive of one target."""
    return f"flyball:directive:{{{shard}}}:{host}:{target}"


def reservation_key(host: str, shard: int = 0) -> str:
    """Hash with the ledger of a host: allocation id → `Reservation` as JSON."""
    return f"flyball:reservation:{{{shard}}}:{host}"


def status_key(host: str, shard: int = 0) -> str:
    """String: the latest state of a host as JSON, with a TTL: gone means unknown."""
    return f"flyball:status:{{{shard}}}:{host}"


def memory_channel(host: str) -> str:
    """Channel with every `LedgerAnswer` of a host: who asked finds their own by `request`."""
    return f"flyball:memory:{host}"


def throttle_channel(host: str, target: str) -> str:
    """Channel with every change of a directive, and the same one again every 10 s."""
    return f"flyball:throttle:{host}:{target}"


def pause_channel(host: str, target: str) -> str:
    """Channel with only the changes into and out of pause."""
    return f"flyball:pause:{host}:{target}"


def ask_channel(host: str, workload: str) -> str:
    """Channel with every `Ask` of the supervisor to the processes of one workload."""
    return f"flyball:ask:{host}:workload.{workload}"


class Directive(Struct, frozen=True, kw_only=True):
    """The standing order for a target: its slowest demand.

    `seq` only grows for a target: a lower one is dropped, an equal one renews. Life (`ttl_s`) counts from receipt;
    with 0 it stands until the next one and silence does not end it: the last word of a supervisor that leaves.
    """

    id: str
    seq: Count
    time: str
    host: Name
    target: Target
    action: Action
    speed: Speed
    cleanup: Cleanup = "none"
    reason: str = ""
    cause: str = ""
    ttl_s: Seconds = 30.0


class Join(Struct, frozen=True, kw_only=True):
    """A workload has started and obeys directives for these targets."""

    workload: Name
    pid: Pid
    start_time_s: Seconds
    targets: tuple[Target, ...]
    priority: Whole = DEFAULT_PRIORITY
    on_silence: OnSilence = "hold"
    sdk_version: str = ""


class Leave(Struct, frozen=True, kw_only=True):
    """A workload has ended in good order."""

    workload: Name
    pid: Pid
    start_time_s: Seconds
    reason: str = ""


class Acknowledgement(Struct, frozen=True, kw_only=True):
    """A workload heard a directive (`accepted`), or its loop reached it (`applied`)."""

    workload: Name
    pid: Pid
    directive: str
    seq: Count
    target: Target
    stage: Literal["accepted", "applied"]
    speed: Speed


class Counters(Struct, frozen=True, kw_only=True):
    """Cumulative counts of a workload since it joined, by name, and its own levels."""

    workload: Name
    pid: Pid
    start_time_s: Seconds
    counts: dict[str, Amount] = field(default_factory=dict)
    gauges: dict[str, Amount] = field(default_factory=dict)


class CleanupResult(Struct, frozen=True, kw_only=True):
    """What a workload freed when it was asked to."""

    workload: Name
    pid: Pid
    directive: str
    cleanup: Cleanup
    freed_bytes: Whole
    ok: bool
    text: str = ""


class Reserve(Struct, frozen=True, kw_only=True):
    """Memory is asked for: all `parts` (target → bytes; VRAM of a card, or RAM as `host`) or nothing.

    The reservation ends after `ttl_s`, and with the process (`pid`, `start_time_s`) where one is named (`pid` > 0). A
    process that the supervisor cannot see (it has ended, or lives in another pid namespace, as in a container) is as
    good as none: then `ttl_s` must be given. With `exclusive_start` it is granted only while no other one is in its
    start-up on the same cards. What is carried out more than `valid_s` after it was asked is denied.
    """

    allocation_id: Name
    owner: Name
    parts: dict[Target, Annotated[int, Meta(gt=0, le=2**50)]]
    pid: Pid = 0
    start_time_s: Seconds = 0.0
    ttl_s: Annotated[float, Meta(gt=0, le=10**9)] | None = None
    exclusive_start: bool = False
    valid_s: Annotated[float, Meta(gt=0, le=3600)] = 60.0


class Started(Struct, frozen=True, kw_only=True):
    """The owner of a reservation with `exclusive_start` has started up: the next one may."""

    allocation_id: Name


class Release(Struct, frozen=True, kw_only=True):
    """A reservation is given back: the one that the request `of` made, or without `of` whichever bears the name."""

    allocation_id: Name
    of: str = ""


class Reservation(Struct, frozen=True, kw_only=True):
    """An entry of the ledger, as it stands in `reservation_key`."""

    allocation_id: Name
    owner: Name
    parts: dict[Target, Count]
    #: id of the request that it answers
    request: str
    #: Unix times
    since_s: Seconds
    expires_s: Seconds | None = None
    pid: Pid = 0
    start_time_s: Seconds = 0.0
    #: in its start-up, which no other one may begin on the same cards
    starting: bool = False


class LedgerAnswer(Struct, frozen=True, kw_only=True):
    """What became of a request to the ledger, or of a reservation that ended by itself; `text` says it to people.

    duplicate: there is one of that name (or, by the same request, this very one: then it is `reserved`) · unknown:
    there is none of that name. `reservation` is the one that it is about, also where it has just ended. `available` is
    what could be had now (target → bytes; what is not known is absent), `holders` the largest of those who have the
    rest.
    """

    request: str
    allocation_id: Name
    outcome: Literal["reserved", "denied", "duplicate", "started", "released", "expired", "unknown"]
    text: str = ""
    reservation: Reservation | None = None
    available: dict[Target, Whole] = {}
    holders: tuple[Reservation, ...] = ()


class Ask(Struct, frozen=True, kw_only=True):
    """The supervisor asks a process of a workload for something, once; who does not hear it does not answer.

    evidence: what its Python allocates and keeps, see `InnerEvidence`.
    """

    #: id of the command that it serves
    id: str
    host: Name
    workload: Name
    pid: Pid
    start_time_s: Seconds
    what: Literal["evidence"] = "evidence"
    #: longest time to look
    within_s: Seconds = 10.0


class Allocated(Struct, frozen=True, kw_only=True):
    """Memory that a line of Python allocated and did not free while it was watched."""

    where: str
    size_bytes: Whole
    count: Whole


class Growing(Struct, frozen=True, kw_only=True):
    """Objects of a type: how many there are, and how many more than when the watch began."""

    type: str
    count: Whole
    more: Whole


class InnerEvidence(Struct, frozen=True, kw_only=True):
    """What a process found in itself when it was asked; `missing` says what it could not find out, and why."""

    ask: str
    workload: Name
    pid: Pid
    start_time_s: Seconds
    allocations: tuple[Allocated, ...] = ()
    objects: tuple[Growing, ...] = ()
    missing: tuple[str, ...] = ()
    #: how long was looked, and the longest time for which the program stood still
    took_s: Seconds = 0.0
    stopped_s: Seconds = 0.0


#: The `type` of an inbox entry, and the Struct in its `data`.
INBOX_TYPES: Final[dict[str, type[Struct]]] = {
    "flyball.workload.join": Join,
    "flyball.workload.leave": Leave,
    "flyball.workload.acknowledge": Acknowledgement,
    "flyball.workload.count": Counters,
    "flyball.workload.cleaned": CleanupResult,
    "flyball.workload.evidence": InnerEvidence,
    "flyball.memory.reserve": Reserve,
    "flyball.memory.started": Started,
    "flyball.memory.release": Release,
}
