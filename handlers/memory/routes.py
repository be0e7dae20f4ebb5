"""The HTTP API of reservations: what could be had, `allocate`, `deallocate`, and that a start-up is over.

Sizes in `_mb` are MiB, as in the GPU manager that the paths come from.
"""

import time
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final, Literal

from msgspec import Meta, Struct, field

from handlers.memory import effects
from handlers.memory.capacity import room
from handlers.memory.settings import MIB
from schemas.workload import LedgerAnswer, Name, Release, Reservation, Reserve, Started
from supervisor.handler import Asked, Decisions, Example, GpuId, GpuQuery, Refusal, Route, find_gpu

if TYPE_CHECKING:
    from handlers.memory.handler import Memory

Size = Annotated[int, Meta(gt=0, le=2**30, description="MiB")]
Index = Annotated[int, Meta(ge=0, le=9999)]


class MemoryLeft(Struct, frozen=True, kw_only=True):
    """What could be reserved of one target, and what the rest is; without a fresh reading that is unknown, and null."""

    target: str
    state: Literal["known", "unknown"]
    reason: str = ""
    #: since it was measured
    age_s: float | None = None
    limit_bytes: int | None = None
    #: never promised to anyone
    reserve_bytes: int | None = None
    reserved_bytes: int
    #: really in use by those who have reserved nothing, or more than they reserved
    used_by_others_bytes: int | None = None
    available_bytes: int | None = None
    available_mb: int | None = None
    reservations: tuple[Reservation, ...] = ()


class MemoryAvailable(Struct, frozen=True, kw_only=True):
    """The memory of a card and of the host."""

    gpu_id: int
    uuid: str
    gpu: MemoryLeft
    host: MemoryLeft


class Allocate(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Memory is asked for; all of it is granted, or nothing."""

    allocation_id: Name
    #: VRAM of one card
    size_mb: Size
    gpu_id: GpuId | Index = "0"
    #: RAM of the host
    ram_mb: Annotated[int, Meta(ge=0, le=2**30, description="MiB")] = 0
    #: the workload that uses it; by default it is called as the allocation
    owner: Name | None = None
    #: a process on this host with which the reservation ends
    pid: Annotated[int, Meta(gt=0, le=2**31 - 1)] | None = None
    #: seconds after which it ends; without it and `pid`, `memory.default_ttl_s`
    ttl_s: Annotated[float, Meta(gt=0, le=10**9)] | None = None
    #: only while no other one is in its start-up on the same card; it is over with `started`
    exclusive_start: bool = False


class Allocation(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which reservation is meant."""

    allocation_id: Name


class AllocationChanged(Struct, frozen=True, kw_only=True):
    """What became of a request."""

    allocation_id: str
    outcome: str
    text: str
    reservation: Reservation | None
    #: what could be had after it, by target; what is not known is absent
    available_mb: dict[str, int] = field(default_factory=dict)


_AWAY: Final = "the bus is away, or there is no sample yet"
_UNKNOWN: Final = "there is no reservation of that name"


def routes(memory: "Memory") -> Sequence[Route]:
    """`memory` knows the ledger."""
    desk = _Desk(memory)
    one = Example(body=Allocation(allocation_id="llm_model"))
    return (
        Route(
            method="GET", path="/api/gpu/memory/available", query=GpuQuery, answer=MemoryAvailable, call=desk.available,
            summary="What could be reserved of a card and of the host's RAM, and who has the rest.",
            problems={404: "there is no such GPU", 503: _AWAY},
        ),
        Route(
            method="POST", path="/api/gpu/memory/allocate", body=Allocate, answer=AllocationChanged, status=201,
            call=desk.allocate, summary="Reserve VRAM of a card, and RAM of the host.",
            problems={
                404: "there is no such GPU", 409: "there is not so much, or there is a reservation of that name",
                422: "there is no such process", 503: _AWAY,
            },
            example=Example(body=Allocate(allocation_id="llm_model", size_mb=2048, ttl_s=600.0)),
        ),
        Route(
            method="POST", path="/api/gpu/memory/deallocate", body=Allocation, answer=AllocationChanged,
            call=desk.deallocate, summary="Give a reservation back.", problems={404: _UNKNOWN, 503: _AWAY}, example=one,
        ),
        Route(
            method="POST", path="/api/gpu/memory/started", body=Allocation, answer=AllocationChanged,
            call=desk.started, summary="The owner of a reservation with an exclusive start has started up.",
            problems={404: _UNKNOWN, 503: _AWAY}, example=one,
        ),
    )  # fmt: skip


class _Desk:
    """Answers for one handler."""

    def __init__(self, memory: "Memory") -> None:
        self._memory = memory

    def available(self, asked: Asked) -> MemoryAvailable:
        gpu = asked.gpu()
        return MemoryAvailable(
            gpu_id=gpu.index, uuid=gpu.uuid, gpu=self._left(f"gpu{gpu.index}", gpu.reason), host=self._left("host")
        )

    async def allocate(self, asked: Asked) -> AllocationChanged:
        body: Allocate = asked.body
        gpu = find_gpu(asked.latest, str(body.gpu_id))
        parts = {f"gpu{gpu.index}": body.size_mb * MIB} | ({"host": body.ram_mb * MIB} if body.ram_mb else {})
        started_s = 0.0
        if body.pid is not None:
            found_s = effects.start_time_s(body.pid)
            if found_s is None:
                raise Refusal(
                    422, f"there is no process {body.pid} on this host; leave pid out, or name one that lives"
                )
            started_s = found_s
        return await self._carry_out(
            asked,
            Reserve(
                allocation_id=body.allocation_id, owner=body.owner or body.allocation_id, parts=parts,
                pid=body.pid or 0, start_time_s=started_s, ttl_s=body.ttl_s, exclusive_start=body.exclusive_start,
            ),
        )  # fmt: skip

    async def deallocate(self, asked: Asked) -> AllocationChanged:
        return await self._carry_out(asked, Release(allocation_id=asked.body.allocation_id))

    async def started(self, asked: Asked) -> AllocationChanged:
        return await self._carry_out(asked, Started(allocation_id=asked.body.allocation_id))

    async def _carry_out(self, asked: Asked, change: Reserve | Release | Started) -> AllocationChanged:
        """Have it decided on the bus.

        :raises Refusal: 404 for one that there is not, 409 where it is denied.
        """
        assert asked.decide is not None, "the server hands it to every route that changes something"
        (answer,) = await asked.decide(Decisions(ledger=[self._memory.entry(change, uuid.uuid4().hex)]))
        self._memory.take(answer)
        match answer.outcome:
            case "unknown":
                raise Refusal(404, answer.text)
            case "denied" | "duplicate":
                members = {
                    "outcome": answer.outcome, "available_mb": _available_mb(answer), "holders": answer.holders,
                    "reservation": answer.reservation,
                }  # fmt: skip
                raise Refusal(409, answer.text, members)
        return AllocationChanged(
            allocation_id=answer.allocation_id, outcome=answer.outcome, text=answer.text,
            reservation=answer.reservation, available_mb=_available_mb(answer),
        )  # fmt: skip

    def _left(self, target: str, reason: str = "") -> MemoryLeft:
        standing = [one for one in self._memory.book.standing() if target in one.parts]
        known = self._memory.known(target, time.monotonic())
        if known is None:
            return MemoryLeft(
                target=target, state="unknown", reason=reason or f"there is no fresh reading of {target}",
                reserved_bytes=sum(one.parts[target] for one in standing), reservations=tuple(standing),
            )  # fmt: skip
        capacity, age_s = known
        left = room(capacity, standing)
        available = max(0, left.available_bytes)
        return MemoryLeft(
            target=target, state="known", age_s=round(age_s, 3), limit_bytes=capacity.limit_bytes,
            reserve_bytes=capacity.reserve_bytes, reserved_bytes=left.reserved_bytes,
            used_by_others_bytes=left.others_bytes, available_bytes=available, available_mb=available // MIB,
            reservations=tuple(standing),
        )  # fmt: skip


def _available_mb(answer: LedgerAnswer) -> dict[str, int]:
    return {target: max(0, size) // MIB for target, size in answer.available.items()}
