"""What a runner does with what a handler does: retries, dead letters, ticks, gaps, snapshots."""

import asyncio
import base64
from typing import ClassVar

import pytest

from schemas.envelope import Event
from schemas.event import HandlerFailed, StreamGap
from supervisor.bus.keys import events_key, inbox_key, snapshot_key
from supervisor.handler import Context, Decisions, Draft, Handler, Record, Stream
from supervisor.runtime import runner as runner_module
from tests.runtime.rig import HOST, SAID, Said, Toy, World, an_input, eventually, life, until


async def test_inputs_become_results_in_order(world: World) -> None:
    async with life(world, Toy()):
        await world.tell(an_input(1), an_input(2, "say"), an_input(3), an_input(4, "say", speed=0.5))
        await world.until_acknowledged()
    assert await world.said() == [(2, 2), (4, 4)]
    assert [directive.speed for directive in await world.directives()] == [0.5]
    assert [event.source for event in await world.events(SAID)] == ["box/toy"] * 2


async def test_a_failure_is_tried_again(world: World) -> None:
    toy = Toy()
    async with life(world, toy) as one:
        await world.tell(an_input(1, "fail twice"), an_input(2, "say"))
        await world.until_acknowledged()
        assert one.runners[0].status().last_error == "RuntimeError: input 1 is too much"
    assert await world.said() == [(1, 1), (2, 2)]
    assert toy.attempts[1] == 3
    assert await world.dead() == []


async def test_what_fails_five_times_is_a_dead_letter(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    sleep = asyncio.sleep

    async def noting(seconds: float) -> None:
        waited.append(seconds)
        await sleep(0)

    monkeypatch.setattr("supervisor.runtime.runner.asyncio.sleep", noting)
    toy = Toy()
    async with life(world, toy) as one:
        await world.tell(an_input(1, "fail"), an_input(2, "say"))
        await world.until_acknowledged()
        assert one.runners[0].status().failed == 1
    assert toy.attempts[1] == 5
    assert [pause for pause in waited if pause in runner_module.RETRY_AFTER_S] == list(runner_module.RETRY_AFTER_S)
    assert await world.said() == [(2, 1)]
    (dead,) = await world.dead()
    assert (dead["handler"], dead["stream"], dead["attempts"]) == ("toy", "inbox", "5")
    assert dead["error"] == "RuntimeError: input 1 is too much"
    assert dead["id"] == "input-1"
    (event,) = await world.events("flyball.handler.failed")
    failed = event.decode(HandlerFailed)
    assert (failed.handler, failed.entry, failed.attempts) == ("toy", dead["entry"], 5)
    assert "input 1 is too much" in event.text


@pytest.mark.parametrize(
    "fields",
    [
        {"id": "x"},
        {"id": "x", "type": "t", "source": "", "subject": "", "time": "", "text": b"\xff", "data": "{}"},
        {"id": "x", "type": "t", "source": "", "subject": "", "time": "", "text": "", "data": "no json"},
        {f"field {n}": "x" * 10 for n in range(10_000)},
        {"id": "x", "type": "t" * 10_000_000},
    ],
    ids=["missing", "no utf-8", "data", "many fields", "long field"],
)
async def test_a_malformed_entry_is_a_dead_letter_at_once(world: World, fields: dict[str, str]) -> None:
    toy = Toy()
    async with life(world, toy):
        await world.client.xadd(inbox_key(), fields)
        await world.tell(an_input(2, "say"))
        await world.until_acknowledged()
    assert await world.said() == [(2, 1)]
    (dead,) = await world.dead()
    assert dead["attempts"] == "1"
    (event,) = await world.events("flyball.handler.failed")
    assert len(event.text) < 1000


async def test_types_that_it_does_not_want_are_acknowledged_unseen(world: World) -> None:
    class Picky(Toy):
        types: ClassVar[frozenset[str]] = frozenset({"toy.other"})

    toy = Picky()
    async with life(world, toy):
        await world.tell(an_input(1, "say"))
        await world.until_acknowledged()
    assert toy.shown == []


async def test_it_ticks_without_inputs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_module, "TICK_S", 0.01)
    toy = Toy()
    async with life(world, toy):
        await until(lambda: toy.ticks > 3)


async def test_what_time_alone_led_to_is_not_forgotten(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot be read again, so it is stored at once."""
    monkeypatch.setattr(runner_module, "TICK_S", 0.01)

    class Clockwork(Toy):
        def tick(self, context: Context) -> Decisions | None:
            if self.counts.get("ticks") or not self.go_on.is_set():
                return None
            self.counts["ticks"] = 1
            return Decisions([Draft(SAID, "toy", "it is time", Said(0, 1))])

    toy = Clockwork()
    async with life(world, toy):
        await eventually(lambda: world.client.exists(snapshot_key(HOST, "toy")))
        toy.go_on.set()
        await eventually(lambda: said(world, 1))
        await eventually(lambda: stores(world, b"ticks"))
    toy = Clockwork()
    toy.go_on.set()
    async with life(world, toy, begun=False) as one:
        await one.link.connect()
        one.start()
        await world.tell(an_input(1, "say"))
        await eventually(lambda: said(world, 2))
    assert await world.said() == [(0, 1), (1, 1)]


async def stores(world: World, what: bytes) -> bool:
    state = await world.client.hget(snapshot_key(HOST, "toy"), "state")
    return state is not None and what in base64.b64decode(state)


async def test_a_handler_that_fails_in_its_tick_ends_its_run_and_can_run_again(world: World) -> None:
    class Moody(Toy):
        def tick(self, context: Context) -> Decisions | None:
            self.ticks += 1
            if self.ticks == 2:
                raise RuntimeError("a bad moment")
            return None

    toy = Moody()
    async with life(world, toy, begun=False) as one:
        await one.link.connect()
        (runner,) = one.runners
        await world.tell(an_input(1, "say"))
        with pytest.raises(RuntimeError, match="a bad moment"):
            await runner.run()
        await world.tell(an_input(2, "say"))
        one.start()
        await world.until_acknowledged()
    assert await world.said() == [(1, 1), (2, 2)]


async def test_what_the_server_refuses_is_said_and_the_rest_goes_on(world: World) -> None:
    class Careless(Handler):
        name: ClassVar[str] = "toy"
        streams: ClassVar[tuple[Stream, ...]] = ("inbox",)

        def __init__(self) -> None:
            pass

        async def handle(self, event: Event, context: Context) -> Decisions | None:
            return Decisions(records=[Record("override", event.id, {"a": "b"})])

    await world.client.set("flyball:override:{0}:input-1", "in the way")
    async with life(world, Careless()) as one:
        await world.tell(an_input(1), an_input(2))
        await world.until_acknowledged()
        assert one.runners[0].status().failed == 1
    assert await world.client.hgetall("flyball:override:{0}:input-2") == {b"a": b"b"}
    (event,) = await world.events("flyball.handler.failed")
    assert "WRONGTYPE" in event.decode(HandlerFailed).error


async def test_the_loss_of_all_data_in_flight_is_survived(world: World) -> None:
    toy = Toy()
    async with life(world, toy):
        await world.tell(an_input(1, "say", speed=0.5))
        await world.until_acknowledged()
        before = await world.retained()
        await world.client.flushall()
        await eventually(lambda: world.client.exists(inbox_key()))  # its group is made again
        await world.tell(an_input(2, "say"))
        await eventually(lambda: said(world, 2))  # what was said last is sent again, too
        await eventually(lambda: world.client.exists("flyball:directive:{0}:box:gpu0"))
        after = await world.retained()
    assert await world.said() == [(1, 1), (2, 2)]
    assert (after.action, after.speed) == (before.action, before.speed)
    assert after.seq > before.seq


async def test_what_was_trimmed_unread_is_said(world: World) -> None:
    async with life(world, Toy()):
        await world.tell(an_input(1))
        await world.until_acknowledged()
    await world.tell(an_input(2), an_input(3), an_input(4, "say"))
    await world.client.xtrim(inbox_key(), maxlen=1, approximate=False)
    toy = Toy()
    async with life(world, toy):
        await world.until_acknowledged()
        await eventually(lambda: world.events("flyball.stream.gap"))
    assert toy.missed_streams == ["inbox"]
    (event,) = await world.events("flyball.stream.gap")
    gap = event.decode(StreamGap)
    assert (gap.handler, gap.stream, gap.lost) == ("toy", "inbox", 2)


async def test_one_that_took_the_daemon_down_each_time_is_put_aside(world: World) -> None:
    async with life(world, Toy()):
        await world.until_acknowledged()
    await world.tell(an_input(1, "say"), an_input(2, "say"))
    for _ in range(runner_module.ATTEMPTS):
        await world.client.xreadgroup(f"toy.{HOST}", "flyball", {inbox_key(): ">"})
        await world.client.xreadgroup(f"toy.{HOST}", "flyball", {inbox_key(): "0"}, count=1)
    toy = Toy()
    async with life(world, toy):
        await world.until_acknowledged()
    assert [n for n, _ in toy.shown] == [2]
    (dead,) = await world.dead()
    assert dead["id"] == "input-1"


async def test_a_stop_acknowledges_everything_and_stores_the_state(world: World) -> None:
    toy = Toy()
    async with life(world, toy) as one:
        await world.tell(an_input(1, "say"), an_input(2))
        await until(lambda: len(toy.shown) == 2)
        await one.stop()
        assert (await world.client.xpending(inbox_key(), f"toy.{HOST}"))["pending"] == 0
    again = Toy()
    async with life(world, again):
        await world.tell(an_input(3, "say"))
        await eventually(lambda: said(world, 2))
    assert await world.said() == [(1, 1), (3, 3)]
    assert again.shown == [(3, False)]


async def said(world: World, count: int) -> bool:
    return len(await world.said()) == count


async def test_what_came_after_the_snapshot_is_shown_again_silently(world: World) -> None:
    async with life(world, Toy()) as one:
        await world.tell(an_input(1, "say", speed=0.5))
        await until(lambda: one.runners[0].status().handled == 1)
        await one.stop()
    async with life(world, Toy()):
        await world.tell(an_input(2), an_input(3, "say", speed=0.8))
        await world.until_acknowledged()  # and now a crash
    toy = Toy()
    async with life(world, toy):
        await world.tell(an_input(4, "say"))
        await world.until_acknowledged()
    assert toy.shown == [(2, True), (3, True), (4, False)]
    assert await world.said() == [(1, 1), (3, 3), (4, 4)]
    assert [directive.speed for directive in await world.directives()] == [0.5, 0.8]


async def test_a_failure_of_the_past_does_not_stop_the_replay(world: World) -> None:
    async with life(world, Toy()):
        await world.tell(an_input(1, "say"), an_input(2, "fail"), an_input(3, "say"))
        await world.until_acknowledged()
    toy = Toy()
    async with life(world, toy):
        await world.tell(an_input(4, "say"))
        await world.until_acknowledged()
    assert await world.said() == [(1, 1), (3, 2), (4, 3)]


async def test_a_snapshot_that_cannot_be_used_is_a_start_from_nothing(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.client.hset(snapshot_key(HOST, "toy"), mapping={"positions": "{}", "state": "bm9uc2Vuc2U="})
    async with life(world, Toy()):
        await world.tell(an_input(1, "say"))
        await world.until_acknowledged()
    assert await world.said() == [(1, 1)]
    assert "its snapshot cannot be used" in caplog.text


async def test_demands_that_nobody_remembers_are_withdrawn(world: World) -> None:
    async with life(world, Toy()):
        await world.tell(an_input(1, speed=0.5))
        await world.until_acknowledged()
    await world.client.delete(snapshot_key(HOST, "toy"))
    async with life(world, Toy()):
        await eventually(lambda: directives(world, 2))
    assert [(one.action, one.reason) for one in await world.directives()][1] == ("run", "nobody demands anything")


async def directives(world: World, count: int) -> bool:
    return len(await world.directives()) == count


async def test_a_stream_that_was_quiet_at_the_snapshot_is_shown_again_too(world: World) -> None:
    class Both(Toy):
        streams: ClassVar[tuple[Stream, ...]] = ("inbox", "events")
        types: ClassVar[frozenset[str]] = frozenset({"toy.input"})

    async with life(world, Both()):
        await world.tell(an_input(1))
        await world.until_acknowledged()
        await eventually(lambda: world.client.exists(snapshot_key(HOST, "toy")))
        await world.tell(an_input(2, speed=0.5), stream=events_key())
        await world.until_acknowledged(stream=events_key())
    toy = Both()
    async with life(world, toy):
        await until(lambda: len(toy.shown) == 2)
    assert {(2, True), (1, True)} == set(toy.shown)
    assert [directive.speed for directive in await world.directives()] == [0.5], "the demand stands as it stood"


async def test_a_snapshot_is_stored_now_and_then(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Handler, "snapshot_every_s", 0.0)
    async with life(world, Toy()):
        for n in range(3):
            await world.tell(an_input(n))
            await world.until_acknowledged()

        async def stored() -> bool:
            state = await world.client.hget(snapshot_key(HOST, "toy"), "positions")
            newest = (await world.client.xrevrange(inbox_key(), count=1))[0][0]
            return state is not None and newest in state

        await eventually(stored)
