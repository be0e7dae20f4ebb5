"""The ledger as its events tell it, whose reservation is over, and what is refused before anyone looks; pure.

The ledger itself stands on the bus and is decided there (`supervisor/bus/ledger.lua`). An answer is known twice, from
the API's request and from the stream of events, in any order: a request that has ended never comes to stand again.
"""

from collections.abc import Collection
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from handlers.memory.capacity import is_same
from schemas.event import LedgerRead
from schemas.sample import Process, Sample
from schemas.workload import LedgerAnswer, Reservation, Reserve

#: Requests that are remembered after their reservation has ended.
REMEMBERED: Final = 4096
#: Targets of one reservation.
MOST_PARTS: Final = 64


class Book(Struct, kw_only=True):
    """The reservations that stand, by allocation id."""

    version: int = 1
    reservations: dict[str, Reservation] = {}
    #: requests whose reservation has ended
    ended: list[str] = []

    def standing(self) -> list[Reservation]:
        """All of them."""
        return list(self.reservations.values())


def take(book: Book, answer: LedgerAnswer) -> None:
    """Take note of what became of a request."""
    one, name = answer.reservation, answer.allocation_id
    known = book.reservations.get(name)
    if answer.outcome in ("reserved", "started") and one is not None and one.request not in book.ended:
        if known is not None and known.request == one.request and not known.starting:
            one = replace(one, starting=False)
        book.reservations[name] = one
    elif answer.outcome in ("released", "expired"):
        if one is not None:
            book.ended.append(one.request)
            del book.ended[:-REMEMBERED]
        if known is not None and (one is None or one.request == known.request):
            del book.reservations[name]


def take_all(book: Book, read: LedgerRead) -> list[Reservation]:
    """Take note of everything that stands; returns what should not: it has ended, and is to be given back."""
    book.reservations = {one.allocation_id: one for one in read.reservations if one.request not in book.ended}
    return [one for one in read.reservations if one.request in book.ended]


def over(book: Book, now_s: float) -> list[Reservation]:
    """Those whose time is over at this Unix time."""
    return [one for one in book.standing() if one.expires_s is not None and one.expires_s <= now_s]


def bereft(book: Book, sample: Sample) -> list[Reservation]:
    """Those whose process does not live, as far as a full sample shows, which may be older than the reservation."""
    if "processes" in sample.unread:
        return []
    living = {process.pid: process for process in sample.processes if _lives(process)}
    return [one for one in book.standing() if one.pid and not _is_there(one, living.get(one.pid))]


def refusal(wanted: Reserve, cards: Collection[str] | None) -> str:
    """Why nobody need look what is free; empty where that decides. `cards` are known, or None where nobody looked."""
    if not wanted.parts:
        return "it asks for nothing; name at least one of gpu0… and host, with the bytes"
    if len(wanted.parts) > MOST_PARTS:
        return f"it has {len(wanted.parts)} parts; allowed are {MOST_PARTS}"
    for target in wanted.parts:
        if target.startswith("workload."):
            return f"{target} has no memory of its own; ask for that of a card (gpu0…) or of the host"
        if cards is not None and target != "host" and target not in cards:
            known = ", ".join(sorted(cards, key=lambda card: int(card[3:]))) or "none"
            return f"there is no {target} here; the cards are: {known}"
    return ""


def bound(wanted: Reserve, started_s: float | None, default_ttl_s: float) -> tuple[Reserve, str]:
    """The request with what ends it, or why nothing would.

    `started_s` is the start time of the process that now has its pid here, None where none has.
    """
    if wanted.pid == 0:
        return (replace(wanted, ttl_s=default_ttl_s), "") if wanted.ttl_s is None else (wanted, "")
    seen = Process(pid=wanted.pid, start_time_s=started_s) if started_s is not None else None
    asked = Reservation(
        allocation_id=wanted.allocation_id, owner=wanted.owner, parts={}, request="", since_s=0, pid=wanted.pid,
        start_time_s=wanted.start_time_s,
    )  # fmt: skip
    if _is_there(asked, seen):
        return wanted, ""
    if wanted.ttl_s is not None:
        return replace(wanted, pid=0, start_time_s=0.0), ""
    why = f"its process {wanted.pid} has ended, or cannot be seen from here (as in a container); name a ttl_s"
    return wanted, why


def _is_there(one: Reservation, process: Process | None) -> bool:
    return process is not None and is_same(one, process)


def _lives(process: Process) -> bool:
    """Whether it has any memory: one that has ended, and whose parent has not asked for it yet, has none."""
    return process.vms_bytes != 0
