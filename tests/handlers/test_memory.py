"""The handler of reservations: what goes to the ledger, what is given back, and what each target has."""

import asyncio
import os
import subprocess
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
import pytest

from handlers.memory import effects
from handlers.memory.handler import STALE_INTERVALS, Memory
from handlers.memory.settings import MIB, Settings
from schemas.envelope import MalformedEntry
from schemas.event import EVENT_TYPES, LedgerRead
from schemas.sample import Gpu, GpuBackend, GpuProcess, Host, Process, Sample
from schemas.workload import LedgerAnswer, Release, Reservation, Reserve, Started
from supervisor.handler import Decisions, LedgerEntry, Reconcile
from tests.handlers.samples import BOOT, GIB, HOST, WALL_S, context, event, sample, sampled

ME: Final = Process(pid=os.getpid(), start_time_s=effects.start_time_s(os.getpid()) or 0.0, vms_bytes=1)
#: No process has it: the kernel's largest is 2^22.
NOBODY: Final = 2**30


TYPES: Final[dict[type[Any], str]] = {Reserve: "reserve", Release: "release", Started: "started"}


class Room:
    """A handler, and what it is told; time goes by a second a sample."""

    def __init__(self, **settings: Any) -> None:
        self.handler = Memory(Settings(**settings), ())
        self.second = 100.0
        self.told = 0

    async def look(
        self, *gpus: Gpu, processes: Sequence[Process] = (ME,), figures: Host | None = None, **fields: Any
    ) -> Decisions | None:
        """A full sample."""
        self.second += 1
        one = sample(self.second, gpus, processes=processes, figures=figures, **fields)
        return await self.hear(one)

    async def hear(self, one: Sample, **surroundings: Any) -> Decisions | None:
        return await self.handler.handle(sampled(one), context(self.second, **surroundings))

    async def ask(self, message: Any, *, source: str = f"{HOST}/llm", id: str = "") -> Decisions | None:
        """A message in the inbox."""
        self.told += 1
        entry = event(f"flyball.memory.{TYPES[type(message)]}", message, id=id or f"m{self.told}", source=source)
        return await self.handler.handle(entry, context(self.second, "inbox"))

    async def entry(self, message: Any) -> LedgerEntry:
        """What a message becomes."""
        decisions = await self.ask(message)
        assert decisions is not None
        (entry,) = decisions.ledger
        return entry

    async def answer(self, outcome: str, one: Reservation, *, source: str = f"{HOST}/memory") -> None:
        """An event of the ledger."""
        names = {"reserved": "reserved", "started": "start_finished", "released": "released", "expired": "expired"}
        answer = answered(outcome, one)
        entry = event(f"flyball.memory.{names[outcome]}", answer, source=source)
        assert await self.handler.handle(entry, context(self.second, "events")) is None

    def row(self, target: str = "gpu0") -> dict[str, Any]:
        rows: list[dict[str, Any]] = self.handler.view()["memory"]
        return next(row for row in rows if row["target"] == target)


def answered(outcome: str, one: Reservation) -> LedgerAnswer:
    given = {"request": "r", "allocation_id": one.allocation_id, "outcome": outcome}
    return msgspec.structs.replace(msgspec.convert(given, LedgerAnswer), reservation=one)


def reservation(name: str = "a", size: int = GIB, **fields: Any) -> Reservation:
    fields.setdefault("parts", {"gpu0": size})
    return Reservation(
        allocation_id=name, owner=fields.pop("owner", "llm"), request=fields.pop("request", f"{name} asked"),
        since_s=WALL_S, **fields,
    )  # fmt: skip


def card(used: int = 0, *processes: GpuProcess, index: int = 0, **fields: Any) -> Gpu:
    """A card of 8 GiB, of which the driver keeps half a GiB."""
    figures = {"memory_total_bytes": 8 * GIB, "memory_used_bytes": used, "memory_reserved_bytes": GIB // 2}
    return Gpu(index=index, uuid=f"GPU-{index}", **{**figures, **fields}, processes=processes)


def wants(name: str = "a", **fields: Any) -> Reserve:
    fields.setdefault("parts", {"gpu0": GIB})
    return Reserve(allocation_id=name, owner="llm", **fields)


def records(decisions: Decisions | None) -> dict[str, dict[str, str] | None]:
    """The capacity that was written, by target."""
    found = () if decisions is None else decisions.records
    assert {record.kind for record in found} <= {"capacity"}
    return {record.name.partition(":")[2]: record.fields for record in found}


def given_back(decisions: Decisions | None) -> list[tuple[str, str, str]]:
    """What was given back: allocation id, of which request, and why."""
    entries = () if decisions is None else decisions.ledger
    return [
        (entry.change.allocation_id, entry.of, entry.reason) for entry in entries if isinstance(entry.change, Release)
    ]


@pytest.fixture
def child() -> Iterator[Process]:
    """A process that lives, as a sample shows it."""
    with subprocess.Popen(["sleep", "60"]) as process:
        started_s = effects.start_time_s(process.pid)
        assert started_s is not None
        try:
            yield Process(pid=process.pid, start_time_s=started_s, vms_bytes=1)
        finally:
            process.kill()


# -- requests ---------------------------------------------------------------------------------------------------------


async def test_requests_go_to_the_ledger_under_their_own_id() -> None:
    room = Room()
    decisions = await room.ask(Release(allocation_id="a"), id="r7")
    assert decisions == Decisions(
        ledger=[LedgerEntry(request="r7", change=Release(allocation_id="a"), entered_ms=int((WALL_S + 100) * 1000))]
    )
    assert (await room.entry(Started(allocation_id="a"))).change == Started(allocation_id="a")
    assert (await room.entry(Release(allocation_id="a", of="r3"))).of == "r3"


async def test_without_process_and_time_it_ends_by_default() -> None:
    room = Room(default_ttl_s=90.0)
    assert (await room.entry(wants())).change == wants(ttl_s=90.0)
    assert (await room.entry(wants(ttl_s=5.0))).change == wants(ttl_s=5.0)


async def test_a_process_that_lives_ends_it() -> None:
    asked = wants(pid=ME.pid, start_time_s=ME.start_time_s)
    entry = await Room().entry(asked)
    assert (entry.change, entry.reason) == (asked, "")
    with_time = msgspec.structs.replace(asked, ttl_s=5.0)
    assert (await Room().entry(with_time)).change == with_time


@pytest.mark.parametrize(("pid", "start_time_s"), [(NOBODY, 1.0), (2**31, 1.0), (ME.pid, ME.start_time_s + 1)])
async def test_a_process_that_nobody_sees_is_as_good_as_none(pid: int, start_time_s: float) -> None:
    entry = await Room().entry(wants(pid=pid, start_time_s=start_time_s))
    assert entry.reason == f"its process {pid} has ended, or cannot be seen from here (as in a container); name a ttl_s"
    entry = await Room().entry(wants(pid=pid, start_time_s=start_time_s, ttl_s=5.0))
    assert (entry.change, entry.reason) == (wants(ttl_s=5.0), "")


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({}, "it asks for nothing; name at least one of gpu0… and host, with the bytes"),
        ({"workload.x": 1}, "workload.x has no memory of its own; ask for that of a card (gpu0…) or of the host"),
        ({"gpu7": 1}, "there is no gpu7 here; the cards are: gpu0, gpu1"),
        ({f"gpu{number}": 1 for number in range(65)}, "it has 65 parts; allowed are 64"),
    ],
)
async def test_what_cannot_be_is_denied_with_a_reason(parts: dict[str, int], reason: str) -> None:
    room = Room()
    await room.look(card(), card(index=1))
    assert (await room.entry(wants(parts=parts))).reason == reason


async def test_cards_that_cannot_be_listed_may_be_there() -> None:
    room = Room()
    assert (await room.entry(wants(parts={"gpu7": 1}))).reason == ""
    await room.look(backend=GpuBackend("unavailable", "driver", "hint"))
    assert (await room.entry(wants(parts={"gpu7": 1}))).reason == ""


async def test_requests_of_other_hosts_are_not_ours() -> None:
    assert await Room().ask(wants(), source="other/llm") is None


async def test_what_was_asked_before_a_restart_was_decided_then() -> None:
    entry = event("flyball.memory.reserve", wants())
    assert await Room().handler.handle(entry, context(0, "inbox", replaying=True)) is None


@pytest.mark.parametrize(
    "data",
    [{"allocation_id": "a b", "owner": "o", "parts": {}}, {"allocation_id": "a" * 70_000, "owner": "o", "parts": {}}],
)
async def test_what_no_schema_accepts_is_malformed(data: dict[str, Any]) -> None:
    with pytest.raises(MalformedEntry):
        await Room().handler.handle(event("flyball.memory.reserve", data), context(0, "inbox"))


# -- what each target has ---------------------------------------------------------------------------------------------


async def test_each_target_is_written_with_who_uses_it(child: Process) -> None:
    room = Room(memory_reserve_mb=256, ram_reserve_mb=128)
    mine = reservation("a", 2 * GIB, pid=child.pid, start_time_s=child.start_time_s)
    await room.answer("reserved", mine)
    worker = Process(pid=NOBODY, start_time_s=1.0, workload="@a", rss_bytes=9 * MIB, rss_anon_bytes=8 * MIB)
    one = msgspec.structs.replace(child, workload="@a", rss_bytes=4 * MIB)
    figures = Host(memory_total_bytes=64 * GIB, memory_available_bytes=60 * GIB)
    use = GpuProcess(child.pid, GIB), GpuProcess(worker.pid, GIB // 2), GpuProcess(ME.pid, GIB // 4)
    decisions = await room.look(card(2 * GIB, *use), processes=[one, worker, ME], figures=figures)
    written = records(decisions)
    assert written["gpu0"] == {
        "limit_bytes": str(8 * GIB - GIB // 2), "reserve_bytes": str(256 * MIB), "used_bytes": str(2 * GIB),
        "held": f'{{"a asked":{GIB + GIB // 2}}}', "sample": f"{HOST}/{BOOT[:8]}/{int(room.second * 10)}",
    }  # fmt: skip
    assert written["host"] is not None
    assert (written["host"]["used_bytes"], written["host"]["held"]) == (str(4 * GIB), "{}")
    assert decisions is not None
    assert [(one.name, one.ttl_s) for one in decisions.records] == [
        (f"{HOST}:gpu0", STALE_INTERVALS), (f"{HOST}:host", STALE_INTERVALS),
    ]  # fmt: skip


async def test_only_what_changed_is_written_until_it_would_be_too_old() -> None:
    room = Room()
    assert "gpu0" in records(await room.look(card(GIB)))
    assert records(await room.look(card(GIB + MIB))) == {}
    assert "gpu0" in records(await room.look(card(GIB + MIB))), "after half its life it is written again"
    assert "gpu0" in records(await room.look(card(2 * GIB)))
    assert records(await room.look(card(2 * GIB))) == {}
    room.handler.restated(context(room.second))
    assert "gpu0" in records(await room.look(card(2 * GIB))), "the bus may have lost it"


async def test_what_cannot_be_read_is_not_written_and_a_lost_card_is_taken_away() -> None:
    room = Room()
    await room.look(card(), card(index=1))
    blind = Gpu(index=0, uuid="GPU-0", reading="blind", reason="no answer")
    lost = Gpu(index=1, uuid="GPU-1", reading="lost", reason="fell off")
    assert records(await room.look(blind, lost)) == {"gpu1": None}
    assert records(await room.look(blind, lost)) == {}
    assert [row["available_bytes"] for row in room.handler.view()["memory"]] == [None, None, None]


async def test_fast_samples_and_those_of_others_tell_nothing() -> None:
    room = Room()
    assert await room.look(card(), scope="fast") is None
    assert await room.look(card(), host="other") is None
    assert await room.look(card(), boot_id="b" * 36) is None


# -- what ends by itself ----------------------------------------------------------------------------------------------


async def test_what_belongs_to_a_process_that_ended_is_given_back_once(child: Process) -> None:
    room = Room()
    await room.answer("reserved", reservation(pid=child.pid, start_time_s=child.start_time_s))
    assert room.handler.view()["registered"] == {child.pid: (child.start_time_s, "@a")}
    assert given_back(await room.look(card(), processes=[child])) == []
    os.kill(child.pid, 9)
    await asyncio.to_thread(os.waitid, os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    zombie = msgspec.structs.replace(child, vms_bytes=0)
    told = [("a", "a asked", f"process {child.pid} of llm has ended")]
    assert given_back(await room.look(card(), processes=[zombie])) == told
    assert given_back(await room.look(card(), processes=[])) == []
    room.handler.restated(context(room.second))
    assert given_back(await room.look(card(), processes=[])) == told, "what was said before may be lost"
    await room.answer("expired", reservation())
    assert room.handler.view()["registered"] == {}


async def test_a_sample_that_is_older_than_the_reservation_ends_nothing() -> None:
    """It does not show a process that nobody had asked for yet; the process itself is looked at."""
    room = Room()
    await room.answer("reserved", reservation(pid=ME.pid, start_time_s=ME.start_time_s))
    assert given_back(await room.look(card(), processes=[])) == []


async def test_another_process_with_its_pid_is_not_its_own() -> None:
    room = Room()
    await room.answer("reserved", reservation(pid=ME.pid, start_time_s=ME.start_time_s - 1))
    assert len(given_back(await room.look(card(), processes=[ME]))) == 1


async def test_processes_that_could_not_be_read_have_not_ended() -> None:
    room = Room()
    await room.answer("reserved", reservation(pid=NOBODY, start_time_s=1.0))
    assert given_back(await room.look(card(), processes=[], unread=("processes",))) == []
    old = sample(room.second, [card()])
    assert given_back(await room.hear(old, replaying=True)) == []
    assert len(given_back(await room.look(card(), processes=[]))) == 1


async def test_what_is_over_is_given_back() -> None:
    room = Room()
    await room.answer("reserved", reservation(expires_s=WALL_S + 110))
    room.second = 109.0
    assert room.handler.tick(context(room.second)) is None
    room.second = 110.0
    assert given_back(room.handler.tick(context(room.second))) == [("a", "a asked", "its time is over")]
    assert room.handler.tick(context(room.second)) is None


# -- the ledger as its events tell it ---------------------------------------------------------------------------------


async def test_answers_may_come_twice_and_in_any_order() -> None:
    """The API's first, and then the events; one that has ended never comes to stand again."""
    room, one = Room(), reservation(starting=True)
    for outcome in ("reserved", "started"):
        room.handler.take(answered(outcome, msgspec.structs.replace(one, starting=outcome == "reserved")))
    await room.answer("reserved", one)
    assert [each.starting for each in room.handler.book.standing()] == [False]
    room.handler.take(answered("released", one))
    for outcome in ("reserved", "started"):
        await room.answer(outcome, one)
    assert room.handler.book.standing() == []
    again = reservation(request="second")
    room.handler.take(answered("reserved", again))
    await room.answer("released", one)
    assert room.handler.book.standing() == [again]


async def test_events_of_other_hosts_are_not_ours() -> None:
    room = Room()
    await room.answer("reserved", reservation(), source="other/memory")
    assert room.handler.book.standing() == []


async def test_a_denial_changes_nothing() -> None:
    room = Room()
    for outcome in ("denied", "duplicate", "unknown"):
        room.handler.take(answered(outcome, reservation()))
    assert room.handler.book.standing() == []


async def test_the_ledger_is_compared_at_a_start_and_where_events_are_missing() -> None:
    room, one = Room(), reservation()
    await room.answer("reserved", one)
    for decisions in (room.handler.restated(context()), room.handler.missed("events", context())):
        assert decisions is not None
        assert [entry.change for entry in decisions.ledger] == [Reconcile((one,))]
    assert room.handler.missed("samples", context()) is None


async def test_what_stands_is_taken_over_as_it_is_told() -> None:
    room, gone, new = Room(), reservation("gone"), reservation("new")
    await room.answer("reserved", gone)
    await room.answer("released", reservation("late"))
    read = LedgerRead(reservations=(new, reservation("late")), restored=(), cause="start")
    decisions = await room.handler.handle(event("flyball.memory.ledger_read", read), context(0, "events"))
    assert room.handler.book.standing() == [new]
    assert decisions is not None, "what had ended, and the bus still has, is given back"
    assert [(entry.change, entry.of) for entry in decisions.ledger] == [
        (Release(allocation_id="late"), reservation("late").request)
    ]


async def test_the_ledger_survives_a_restart() -> None:
    room, after = Room(), Room()
    await room.answer("reserved", reservation())
    await room.answer("released", reservation("b"))
    after.handler.restore(room.handler.snapshot())
    await after.answer("reserved", reservation("b"))
    assert after.handler.book.standing() == [reservation()]


@pytest.mark.parametrize(
    "stored", [b"", b"\xff", b"\x01", msgspec.msgpack.encode({"version": 9, "book": {}, "watch": {}})]
)
def test_an_unusable_snapshot_is_refused(stored: bytes) -> None:
    with pytest.raises(ValueError):
        Room().handler.restore(stored)


# -- what people see --------------------------------------------------------------------------------------------------


async def test_the_status_shows_what_is_left_while_it_is_known() -> None:
    room = Room(memory_reserve_mb=512)
    await room.answer("reserved", reservation("a", 2 * GIB))
    await room.look(card(GIB))
    assert room.row() == {
        "target": "gpu0", "limit_bytes": 7 * GIB + GIB // 2, "reserved_bytes": 2 * GIB, "available_bytes": 4 * GIB,
        "reservations": ["a"],
    }  # fmt: skip
    room.handler.tick(context(room.second + STALE_INTERVALS + 0.1))
    row = room.row()
    assert (row["limit_bytes"], row["available_bytes"], row["reserved_bytes"]) == (None, None, 2 * GIB)


async def test_other_limits_hold_from_the_next_sample_on() -> None:
    room = Room()
    await room.look(card())
    assert room.handler.reconfigure(Settings(memory_limit_mb=1024, memory_reserve_mb=0))
    written = records(await room.look(card()))["gpu0"]
    assert written is not None
    assert (written["limit_bytes"], written["reserve_bytes"]) == (str(GIB), "0")


async def test_use_beyond_a_reservation_is_told_with_its_end(child: Process) -> None:
    room = Room(overuse_mb=100, confirm_samples=2)
    await room.answer("reserved", reservation("a", GIB, pid=child.pid, start_time_s=child.start_time_s))
    sizes = [GIB, GIB + 101 * MIB, GIB + 100 * MIB, GIB + 101 * MIB, GIB + 101 * MIB, GIB, GIB]
    said = []
    for size in sizes:
        decisions = await room.look(card(size, GpuProcess(child.pid, size)), processes=[child])
        said.append([draft.text for draft in decisions.events] if decisions else [])
        for draft in decisions.events if decisions else ():
            assert type(draft.data) is EVENT_TYPES[draft.type]
    assert said == [
        [], [], [], [], ["a of llm uses 1125 MiB of gpu0, and has reserved 1024 MiB"], [],
        ["a of llm uses no more of gpu0 than it has reserved (1024 MiB)"],
    ]  # fmt: skip


async def test_vram_that_nobody_alive_owns_is_told_with_its_end() -> None:
    room = Room(orphan_mb=512, confirm_samples=2)
    dead = card(2 * GIB, GpuProcess(NOBODY, GIB), GpuProcess(ME.pid, GIB))
    fine = card(GIB, GpuProcess(ME.pid, GIB))
    unknown = card(2 * GIB, GpuProcess(ME.pid, None))
    said = []
    for one in (dead, unknown, dead, fine, unknown, fine):
        decisions = await room.look(one)
        said += [draft.text for draft in decisions.events] if decisions else []
    assert said == [
        f"gpu0: 1024 MiB of 2048 MiB in use belong to no living process; the driver still lists pid {NOBODY} "
        "(ended, or in another pid namespace than Flyball)",
        "gpu0: what is in use belongs to living processes again",
    ]


async def test_what_is_simulated_is_nobodys() -> None:
    room = Room(confirm_samples=1)
    decisions = await room.look(card(7 * GIB), simulated=True)
    assert decisions is not None and decisions.events == []
