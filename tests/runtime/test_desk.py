"""What is decided at once is carried out once or not at all, whatever the bus does meanwhile, and who asked is told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
import pytest

from schemas.demand import Demand
from schemas.workload import LedgerAnswer, Release, Reservation, Reserve, reservation_key
from supervisor.bus.keys import capacity_key, events_key, idempotency_key
from supervisor.errors import BusLost
from supervisor.handler import Decisions, LedgerEntry, Reconcile
from supervisor.route import Refusal
from supervisor.runtime import desk as desk_module
from supervisor.runtime.desk import Desk
from supervisor.runtime.results import Origin
from tests.busservers import BusServer
from tests.runtime.rig import HOST, Life, World, eventually, life, until

GIB: Final = 2**30
LEDGER: Final = reservation_key(HOST)


class Counter:
    """A desk in a world, and what the tests ask there."""

    def __init__(self, world: World, life: Life, *, dry_run: bool = False) -> None:
        self.world = world
        self.life = life
        self.replies: list[object] = []
        self.desk = Desk(
            life.link, life.connection(), lambda handler: Origin(HOST, handler, 0, 10_000), life.clock,
            dry_run=dry_run, committed=self.replies.append,
        )  # fmt: skip

    async def begin(self) -> None:
        """The bus is there, the ledger is known, and gpu0 has 8 GiB."""
        await until(lambda: self.life.link.up)
        fields: dict[Any, Any] = {"limit_bytes": 8 * GIB, "reserve_bytes": 0, "used_bytes": 0, "held": "{}"}
        await self.world.client.hset(capacity_key(HOST, "gpu0"), mapping=fields)
        await self.desk.decide("memory", Decisions(ledger=[LedgerEntry(request="start", change=Reconcile(()))]))

    async def reserve(self, name: str, gib: int = 1) -> LedgerAnswer:
        change = Reserve(allocation_id=name, owner="llm", parts={"gpu0": gib * GIB}, ttl_s=60.0)
        (answer,) = await self.desk.decide(
            "memory", Decisions(ledger=[LedgerEntry(request=f"{name} asked", change=change)])
        )
        return answer

    async def release(self, name: str) -> LedgerAnswer:
        entry = LedgerEntry(request=f"{name} back", change=Release(allocation_id=name))
        (answer,) = await self.desk.decide("memory", Decisions(ledger=[entry]))
        return answer

    async def standing(self) -> dict[str, Reservation]:
        entries = await self.world.client.hgetall(LEDGER)
        return {name.decode(): msgspec.json.decode(text, type=Reservation) for name, text in entries.items()}

    async def told(self) -> list[str]:
        """What was told of reservations, in order: `<id> <outcome>`."""
        events = await self.world.events()
        answers = [
            event.decode(LedgerAnswer)
            for event in events
            if event.type.startswith("flyball.memory.") and event.type != "flyball.memory.ledger_read"
        ]
        return [f"{answer.allocation_id} {answer.outcome}" for answer in answers]


@asynccontextmanager
async def counter(world: World, *, timeout_s: float = 5.0, dry_run: bool = False) -> AsyncIterator[Counter]:
    async with life(world, timeout_s=timeout_s, begun=False) as one:
        counter = Counter(world, one, dry_run=dry_run)
        one.start()
        await counter.begin()
        yield counter


async def test_answers_come_in_the_order_of_the_requests(world: World) -> None:
    async with counter(world) as here:
        entries = [
            LedgerEntry(request="1", change=Reserve(allocation_id="a", owner="o", parts={"gpu0": 1})),
            LedgerEntry(request="2", change=Release(allocation_id="x")),
            LedgerEntry(request="3", change=Release(allocation_id="a")),
        ]
        answers = await here.desk.decide("memory", Decisions(ledger=entries))
        assert [(one.request, one.outcome) for one in answers] == [
            ("1", "reserved"),
            ("2", "unknown"),
            ("3", "released"),
        ]


async def test_those_who_come_at_once_take_turns(world: World) -> None:
    async with counter(world) as here:
        answers = await asyncio.gather(*(here.reserve(f"n{number}") for number in range(50)))
        assert sum(answer.outcome == "reserved" for answer in answers) == 8
        assert len(await here.standing()) == 8
        assert len(await here.told()) == 50


async def test_demands_are_carried_out_too_and_told_to_who_follows_them(world: World) -> None:
    demand = Demand(issuer="page", target="gpu0", action="throttle", speed=0.5, reason="so")
    async with counter(world) as here:
        assert await here.desk.decide("page", Decisions(demands=[demand])) == []
        assert (await world.retained()).speed == 0.5
        assert len(here.replies) == 2


async def test_a_dry_run_demands_nothing(world: World) -> None:
    demand = Demand(issuer="page", target="gpu0", action="throttle", speed=0.5, reason="so")
    async with counter(world, dry_run=True) as here:
        await here.desk.decide("page", Decisions(demands=[demand]))
        assert await world.directives() == []


async def test_without_a_bus_nothing_is_done_and_that_is_said(world: World) -> None:
    async with life(world, begun=False) as one:
        here = Counter(world, one)
        with pytest.raises(Refusal) as refused:
            await here.reserve("a")
    assert (refused.value.status, refused.value.headers) == (503, {"Retry-After": "1"})
    assert refused.value.detail == ("the bus is away (not connected yet), so nothing was done; ask again in a moment")
    assert await here.standing() == {}


async def test_what_the_server_does_not_let_us_is_not_done(world: World) -> None:
    async with counter(world) as here:
        here.life.link.epoch += 7  # as one who never took the lease
        with pytest.raises(Refusal, match=r"another supervisor took the lease of this host.*; nothing was done"):
            await here.reserve("a")
        assert await here.standing() == {}


async def test_a_bus_that_is_killed_and_back_answers_in_the_end(mortal_world: World, mortal: BusServer) -> None:
    async with counter(mortal_world) as here:
        await here.reserve("a")
        mortal.kill()
        asked = asyncio.create_task(here.reserve("b"))
        await until(lambda: not here.life.link.up)
        mortal.restart()
        assert (await asked).outcome == "reserved"
        assert sorted(await here.standing()) == ["a", "b"]
        assert await here.told() == ["a reserved", "b reserved"]


async def test_a_request_that_was_carried_out_unheard_is_answered_and_not_repeated(
    mortal_world: World, mortal: BusServer
) -> None:
    """The server stands still, and carries it out when it wakes; the same request comes again over a new connection."""
    async with counter(mortal_world, timeout_s=0.5) as here:
        await here.reserve("a")
        mortal.pause()
        asked = asyncio.create_task(here.release("a"))
        await until(lambda: not here.life.link.up)
        mortal.resume()
        assert (await asked).outcome == "released"
        assert await here.told() == ["a reserved", "a released"]


async def test_what_nobody_can_be_told_is_taken_back(
    mortal_world: World, mortal: BusServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 503 means that nothing is reserved in the end, and that what was given back is."""
    async with counter(mortal_world, timeout_s=0.3) as here:
        await here.reserve("old", 4)
        monkeypatch.setattr(desk_module, "PATIENCE_S", 0.1)
        mortal.pause()
        with pytest.raises(Refusal) as refused:
            await here.reserve("new", 4)
        assert refused.value.status == 503
        assert "what came of it is taken back when the bus is there again; ask again then" in refused.value.detail
        with pytest.raises(Refusal, match="so nothing was done"):
            await here.release("old")
        mortal.resume()
        await until(lambda: here.life.link.up)
        assert list(await here.standing()) == ["old"]
        assert await here.told() == ["old reserved", "new reserved", "new expired"]

        mortal.pause()
        with pytest.raises(Refusal, match="it is carried out when the bus is there again"):
            await here.release("old")
        mortal.resume()
        await until(lambda: here.life.link.up)
        assert await here.standing() == {}


async def test_what_a_killed_server_forgot_stands_again(world: World) -> None:
    """What was answered within the last seconds goes out again as it was answered, though less is free by now."""
    async with counter(world) as here:
        await here.reserve("kept", 2)
        await here.reserve("back", 2)
        await here.release("back")
        stood = await here.standing()
        forgotten = [key async for key in world.client.scan_iter(idempotency_key("*").replace("{0}", "*"))]
        await world.client.delete(LEDGER, events_key(), *forgotten)
        await world.client.hset(capacity_key(HOST, "gpu0"), "used_bytes", 8 * GIB)
        here.life.link.lost(BusLost("it was killed"))
        await until(lambda: here.life.link.up)
        assert await here.standing() == stood
        assert await here.told() == ["kept reserved", "back reserved", "back released"]


async def test_what_ended_since_it_was_answered_does_not_come_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has asked for anything for longer than a killed server may forget, nor is the token known any more."""
    async with counter(world) as here:
        await here.reserve("gone")
        known = [key async for key in world.client.scan_iter(idempotency_key("*").replace("{0}", "*"))]
        await world.client.delete(LEDGER, *known)
        monkeypatch.setattr("supervisor.runtime.desk.RESEND_S", 0.0)
        here.life.link.lost(BusLost("it was killed"))
        await until(lambda: here.life.link.up)
        assert await here.standing() == {}


async def test_what_the_server_knows_no_longer_is_not_sent_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The outage was longer than it remembers a request."""
    async with counter(world) as here:
        await here.reserve("gone")
        known = [key async for key in world.client.scan_iter(idempotency_key("*").replace("{0}", "*"))]
        await world.client.delete(LEDGER, *known)
        monkeypatch.setattr("supervisor.runtime.desk.REMEMBERED_S", 0)
        here.life.link.lost(BusLost("it was away for long"))
        await until(lambda: here.life.link.up)
        assert await here.standing() == {}


async def test_a_loss_that_is_over_is_not_taken_for_another(mortal_world: World, mortal: BusServer) -> None:
    """Its connection broke with the others; the next request finds that out, and the bus is there."""
    async with counter(mortal_world) as here:
        await here.reserve("a")
        mortal.restart()
        here.life.link.lost(BusLost("it was restarted"))
        await until(lambda: here.life.link.up)
        outages = len(here.life.outages)
        assert (await here.reserve("b")).outcome == "reserved"
        assert (here.life.link.up, len(here.life.outages)) == (True, outages)


async def test_a_loss_that_others_noticed_first_is_one_loss(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own connection breaks when the link is up again already."""
    async with counter(world) as here:
        await here.reserve("a")
        connection, ask = here.desk._connection, here.desk._connection.ask

        async def broken(*command: bytes | str | int | float) -> None:
            monkeypatch.setattr(connection, "ask", ask)
            here.life.link.lost(BusLost("somebody noticed"))
            await until(lambda: here.life.link.up)
            raise BusLost("and so did we")

        monkeypatch.setattr(connection, "ask", broken)
        outages = len(here.life.outages)
        assert (await here.reserve("b")).outcome == "reserved"
        assert (here.life.link.up, len(here.life.outages)) == (True, outages + 1)


async def test_whoever_is_cut_off_in_the_middle_leaves_nothing_behind(mortal_world: World, mortal: BusServer) -> None:
    async with counter(mortal_world, timeout_s=0.5) as here:
        mortal.pause()
        asked = asyncio.create_task(here.reserve("a"))
        await asyncio.sleep(0)  # it is sent
        await asyncio.sleep(0)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        mortal.resume()
        here.life.link.lost(BusLost("a restart of ours"))
        await until(lambda: here.life.link.up)
        await eventually(lambda: _is_empty(here))
        assert (await here.reserve("b", 8)).outcome == "reserved"


async def _is_empty(here: Counter) -> bool:
    return not await here.standing()
