# Generated from schemas/workload.py by `flyball schemas --write`; edit that file.
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


def throttle_channel(host: str, target: str) -> str:
    """Channel with every change of a directive, and the same one again every 10 s."""
    return f"flyball:throttle:{host}:{target}"


def pause_channel(host: str, target: str) -> str:
    """Channel with only the changes into and out of pause."""
    return f"flyball:pause:{host}:{target}"


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
    """Cumulative counts of a workload since it joined, by name."""

    workload: Name
    pid: Pid
    start_time_s: Seconds
    counts: dict[str, Amount] = field(default_factory=dict)


class CleanupResult(Struct, frozen=True, kw_only=True):
    """What a workload freed when it was asked to."""

    workload: Name
    pid: Pid
    directive: str
    cleanup: Cleanup
    freed_bytes: Whole
    ok: bool
    text: str = ""


#: The `type` of an inbox entry, and the Struct in its `data`.
INBOX_TYPES: Final[dict[str, type[Struct]]] = {
    "flyball.workload.join": Join,
    "flyball.workload.leave": Leave,
    "flyball.workload.acknowledge": Acknowledgement,
    "flyball.workload.count": Counters,
    "flyball.workload.cleaned": CleanupResult,
}
