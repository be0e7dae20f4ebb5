"""The API of reservations, asked without a server: what it has decided, and how it tells what came of it."""

import os
import time
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import pytest

from handlers.memory import effects
from handlers.memory.handler import Memory
from handlers.memory.routes import Allocate, Allocation, AllocationChanged, MemoryAvailable
from handlers.memory.settings import Settings
from schemas.sample import Gpu, GpuBackend, Host, Sample
from schemas.workload import LedgerAnswer, Release, Reservation, Reserve, Started
from supervisor.handler import Asked, Decisions, GpuQuery, Refusal
from tests.handlers.samples import BOOT, GIB, HOST, context, sampled

MIB: Final = 2**20


def a_sample(**fields: Any) -> Sample:
    """Now, of a card of 8 GiB with a GiB in use, and of a host with 16 GiB."""
    card = Gpu(
        index=0, uuid="GPU-abc", pci_bus_id="00000000:01:00.0", memory_total_bytes=8 * GIB, memory_used_bytes=GIB,
        memory_reserved_bytes=0,
    )  # fmt: skip
    given: dict[str, Any] = {
        "gpus": (card,),
        "host_figures": Host(memory_total_bytes=16 * GIB, memory_available_bytes=12 * GIB),
    }
    return Sample(
        host=HOST, boot_id=BOOT, tick=1, time="2026-11-21T12:00:00.000Z", monotonic_s=time.monotonic(), interval_s=1.0,
        **(given | fields),
    )  # fmt: skip


class Desk:
    """A handler that has seen a sample, and a desk that gives these answers."""

    def __init__(self, *answers: LedgerAnswer) -> None:
        self.memory = Memory(Settings(), ())
        self.latest: Sample | None = a_sample()
        self.decided: list[Decisions] = []
        self._answers = answers

    async def look(self) -> None:
        assert self.latest is not None
        await self.memory.handle(sampled(self.latest), context(0.0))

    async def decide(self, decisions: Decisions) -> Sequence[LedgerAnswer]:
        self.decided.append(decisions)
        return self._answers

    async def call(self, path: str, **asked: Any) -> Any:
        """What the route at the end of this path answers."""
        (route,) = [route for route in self.memory.routes() if route.path == f"/api/gpu/memory/{path}"]
        answer = route.call(Asked(latest=self.latest, decide=self.decide, **asked))
        answer = answer if route.method == "GET" else await answer
        assert type(answer) is route.answer
        return answer

    @property
    def change(self) -> Any:
        """The one that was decided."""
        ((entry,),) = [decisions.ledger for decisions in self.decided]
        return entry.change


def answer(outcome: str, **fields: Any) -> LedgerAnswer:
    given = {"request": "r", "allocation_id": "a", "outcome": outcome, "text": f"a: {outcome}", **fields}
    return msgspec.convert(given, LedgerAnswer)


RESERVATION: Final = Reservation(allocation_id="a", owner="llm", parts={"gpu0": 2 * GIB}, request="r", since_s=1.0)


async def test_allocate_asks_in_bytes_and_answers_with_what_stands() -> None:
    desk = Desk(answer("reserved", reservation=RESERVATION, available={"gpu0": 5 * GIB + 1}))
    told = await desk.call("allocate", body=Allocate(allocation_id="a", size_mb=2048, gpu_id="GPU-ABC", owner="llm"))
    assert desk.change == Reserve(allocation_id="a", owner="llm", parts={"gpu0": 2 * GIB}, ttl_s=3600.0)
    assert told == AllocationChanged(
        allocation_id="a", outcome="reserved", text="a: reserved", reservation=RESERVATION, available_mb={"gpu0": 5120}
    )
    assert desk.memory.book.standing() == [RESERVATION], "whoever asks next sees it"


async def test_allocate_takes_ram_a_process_and_a_time() -> None:
    desk = Desk(answer("reserved", reservation=RESERVATION))
    pid, started_s = os.getpid(), effects.start_time_s(os.getpid())
    body = Allocate(allocation_id="a", size_mb=1, gpu_id=0, ram_mb=3, pid=pid, ttl_s=9.5, exclusive_start=True)
    await desk.call("allocate", body=body)
    assert desk.change == Reserve(
        allocation_id="a", owner="a", parts={"gpu0": MIB, "host": 3 * MIB}, pid=pid, start_time_s=started_s or 0.0,
        ttl_s=9.5, exclusive_start=True,
    )  # fmt: skip


@pytest.mark.parametrize("outcome", ["denied", "duplicate"])
async def test_a_denial_is_a_409_with_what_there_is_and_who_has_the_rest(outcome: str) -> None:
    there = RESERVATION if outcome == "duplicate" else None
    desk = Desk(answer(outcome, available={"gpu0": -5, "host": 7 * MIB}, holders=[RESERVATION], reservation=there))
    with pytest.raises(Refusal) as refused:
        await desk.call("allocate", body=Allocate(allocation_id="a", size_mb=1))
    assert (refused.value.status, refused.value.detail) == (409, f"a: {outcome}")
    assert refused.value.members == {
        "outcome": outcome, "available_mb": {"gpu0": 0, "host": 7}, "holders": (RESERVATION,), "reservation": there,
    }  # fmt: skip
    assert desk.memory.book.standing() == []


@pytest.mark.parametrize(
    ("path", "kind", "outcome"), [("deallocate", Release, "released"), ("started", Started, "started")]
)
async def test_the_others_name_a_reservation(path: str, kind: type[Any], outcome: str) -> None:
    desk = Desk(answer(outcome, reservation=RESERVATION))
    told = await desk.call(path, body=Allocation(allocation_id="a"))
    assert (desk.change, told.outcome) == (kind(allocation_id="a"), outcome)
    unknown = Desk(answer("unknown"))
    with pytest.raises(Refusal) as refused:
        await unknown.call(path, body=Allocation(allocation_id="a"))
    assert (refused.value.status, refused.value.detail) == (404, "a: unknown")


async def test_what_is_not_there_is_refused_before_anyone_is_asked() -> None:
    for body, status in (
        (Allocate(allocation_id="a", size_mb=1, gpu_id=4), 404),
        (Allocate(allocation_id="a", size_mb=1, gpu_id="GPU-x"), 404),
        (Allocate(allocation_id="a", size_mb=1, pid=2**30), 422),
    ):
        desk = Desk()
        with pytest.raises(Refusal) as refused:
            await desk.call("allocate", body=body)
        assert (refused.value.status, desk.decided) == (status, [])
    for latest in (None, a_sample(gpus=(), gpu_backend=GpuBackend("unavailable", "starting"))):
        desk = Desk()
        desk.latest = latest
        with pytest.raises(Refusal) as refused:
            await desk.call("allocate", body=Allocate(allocation_id="a", size_mb=1))
        assert refused.value.status == 503, "in a second there may be one"


@pytest.mark.parametrize(
    "given",
    ['{"allocation_id":"a","size_mb":0}', '{"allocation_id":"a","size_mb":-1}', '{"allocation_id":"a b","size_mb":1}',
     '{"allocation_id":"a","size_mb":1,"ttl_s":0}', '{"allocation_id":"a","size_mb":1.5}', '{"size_mb":1}',
     '{"allocation_id":"a","size_mb":1,"pid":0}', '{"allocation_id":"a","size_mb":1,"size":1}',
     '{"allocation_id":"a","size_mb":1,"ram_mb":-1}', '{"allocation_id":"a","size_mb":1073741825}',
     '{"allocation_id":"a","size_mb":1,"gpu_id":""}', '{"allocation_id":"a","size_mb":1,"gpu_id":-1}'],
)  # fmt: skip
def test_bodies_that_mean_nothing_are_none(given: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(given, type=Allocate)


async def test_available_tells_what_is_left_and_what_the_rest_is() -> None:
    desk = Desk()
    desk.memory.take(answer("reserved", reservation=RESERVATION))
    await desk.look()
    told: MemoryAvailable = await desk.call("available", query=GpuQuery(gpu_id="0"))
    assert (told.gpu_id, told.uuid, told.gpu.target, told.gpu.state) == (0, "GPU-abc", "gpu0", "known")
    assert (told.gpu.limit_bytes, told.gpu.reserve_bytes) == (8 * GIB, GIB // 2)
    assert (told.gpu.reserved_bytes, told.gpu.used_by_others_bytes) == (2 * GIB, GIB)
    assert (told.gpu.available_bytes, told.gpu.available_mb) == (4 * GIB + GIB // 2, 4608)
    assert told.gpu.reservations == (RESERVATION,)
    assert told.gpu.age_s is not None and 0 <= told.gpu.age_s < 3
    assert (told.host.available_mb, told.host.reservations) == (11 * 1024, ())


async def test_what_is_not_known_is_not_made_up() -> None:
    desk = Desk()
    desk.memory.take(answer("reserved", reservation=RESERVATION))
    told: MemoryAvailable = await desk.call("available", query=GpuQuery())
    assert (told.gpu.state, told.gpu.reason) == ("unknown", "there is no fresh reading of gpu0")
    assert (told.gpu.available_bytes, told.gpu.available_mb, told.gpu.age_s) == (None, None, None)
    assert (told.gpu.reserved_bytes, told.gpu.reservations) == (2 * GIB, (RESERVATION,))
    desk.latest = a_sample(gpus=(Gpu(index=0, uuid="GPU-abc", reading="blind", reason="no answer in 0.25 s"),))
    await desk.look()
    told = await desk.call("available", query=GpuQuery())
    assert (told.gpu.state, told.gpu.reason, told.host.state) == ("unknown", "no answer in 0.25 s", "known")
