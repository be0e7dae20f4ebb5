"""The ledger's part of a commit: what is asked of the server, and what it answered, made ready to be said again."""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct

from schemas.workload import LedgerAnswer, Release, Reservation, Reserve
from supervisor.handler import LedgerEntry, Reconcile

_to_json = msgspec.json.Encoder().encode
_decode_answer = msgspec.json.Decoder(LedgerAnswer).decode

Kind = Literal["reserve", "started", "release", "reconcile", "settled"]


class LedgerChange(Struct, frozen=True, array_like=True):
    """One change, complete in itself; `flyball.lua` reads the fields by name in this order.

    `reservation` is the `Reservation` to be made, as JSON. `known` is what a `reconcile` takes the ledger to hold: the
    allocation id, request and JSON of each. A `settled` one was answered before, with `outcome`, `text` and `answer`.
    """

    kind: Kind
    request: str
    allocation_id: str = ""
    reason: str = ""
    of: str = ""
    owner: str = ""
    #: target and bytes
    parts: Sequence[tuple[str, int]] = ()
    exclusive_start: bool = False
    entered_ms: int = 0
    valid_ms: int = 0
    reservation: str = ""
    known: Sequence[tuple[str, str, str]] = ()
    outcome: str = ""
    text: str = ""
    answer: str = ""


def ledger_change(entry: LedgerEntry, wall_s: float) -> LedgerChange:
    """What a handler decided, as the server takes it; a reservation's times count from `wall_s`."""
    change = entry.change
    if isinstance(change, Reconcile):
        known = [(one.allocation_id, one.request, _to_json(one).decode()) for one in change.reservations]
        return LedgerChange("reconcile", entry.request, known=known)
    if not isinstance(change, Reserve):
        kind: Kind = "release" if isinstance(change, Release) else "started"
        return LedgerChange(kind, entry.request, change.allocation_id, entry.reason, entry.of)
    since_s = round(wall_s, 3)
    made = Reservation(
        allocation_id=change.allocation_id, owner=change.owner, parts=dict(sorted(change.parts.items())),
        request=entry.request, since_s=since_s, expires_s=None if change.ttl_s is None else since_s + change.ttl_s,
        pid=change.pid, start_time_s=change.start_time_s, starting=change.exclusive_start,
    )  # fmt: skip
    return LedgerChange(
        "reserve", entry.request, change.allocation_id, entry.reason, owner=change.owner,
        parts=list(made.parts.items()), exclusive_start=change.exclusive_start, entered_ms=entry.entered_ms,
        valid_ms=int(change.valid_s * 1000), reservation=_to_json(made).decode(),
    )  # fmt: skip


def read_answer(text: bytes) -> LedgerAnswer:
    """An answer of the server."""
    return _decode_answer(text)


def settled(changes: Sequence[LedgerChange], replies: Sequence[bytes]) -> list[LedgerChange]:
    """The changes as they turned out: a server that lost them does not decide anew, for the askers know its answer."""
    if len(replies) != len(changes):
        return [*changes]  # it knew the commit, and not what it had answered
    done = []
    for change, reply in zip(changes, replies, strict=True):
        if change.kind in ("reconcile", "settled"):
            done.append(change)
            continue
        answer = read_answer(reply)
        kept = "" if answer.reservation is None else _to_json(answer.reservation).decode()
        done.append(
            LedgerChange(
                "settled", change.request, change.allocation_id, reservation=kept, outcome=answer.outcome,
                of="" if answer.reservation is None else answer.reservation.request, text=answer.text,
                answer=reply.decode(),
            )
        )  # fmt: skip
    return done


def packed(change: LedgerChange, ledger: int, places: Sequence[int]) -> list[Any]:
    """As the server-side function takes it: `ledger` and `places` are the indices of the ledger and of each part."""
    parts = [[target, size, place] for (target, size), place in zip(change.parts, places, strict=True)]
    return [
        ledger, change.kind, change.request, change.allocation_id, change.reason, change.of, change.owner, parts,
        change.exclusive_start, change.entered_ms, change.valid_ms, change.reservation, change.known, change.outcome,
        change.text, change.answer,
    ]  # fmt: skip
