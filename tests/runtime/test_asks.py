"""A handler's asks: said while the bus is there, never in a dry run, and never after an outage."""

import asyncio
from typing import Any

import msgspec

from schemas.envelope import Event
from schemas.workload import Ask, ask_channel
from supervisor.handler import Context, Decisions, Draft
from supervisor.runtime.runner import Runner
from tests.busservers import BusServer
from tests.runtime.rig import HOST, PATIENCE_S, SAID, Said, Toy, World, an_input, eventually, life, until


class Asker(Toy):
    """Asks, and says so."""

    async def handle(self, event: Event, context: Context) -> Decisions | None:
        n = event.decode(dict)["n"]
        self.shown.append((n, context.replaying))
        ask = Ask(id=f"ask-{n}", host=HOST, workload="trainer", pid=1, start_time_s=1.0)
        return Decisions(events=[Draft(SAID, "toy", f"asked {n}", Said(n, n))], asks=[ask])


async def listen(world: World) -> Any:
    pubsub = world.client.pubsub()
    await pubsub.subscribe(ask_channel(HOST, "trainer"))
    assert (await pubsub.get_message(timeout=PATIENCE_S))["type"] == "subscribe"
    return pubsub


async def next_ask(pubsub: Any) -> str:
    message = await pubsub.get_message(timeout=PATIENCE_S)
    return msgspec.json.decode(message["data"], type=Ask).id


async def test_an_outage_lets_no_ask_through_later(mortal: BusServer, mortal_world: World) -> None:
    handler = Asker()
    async with life(mortal_world, handler) as one:
        await one.ready()
        pubsub = await listen(mortal_world)
        await mortal_world.tell(an_input(1))
        assert await next_ask(pubsub) == "ask-1"
        await pubsub.aclose()
        await asyncio.to_thread(mortal.kill)
        await until(lambda: not one.link.up)
        one.say_locally("inbox", an_input(2))
        await until(lambda: (2, False) in handler.shown)
        await asyncio.to_thread(mortal.start)
        pubsub = await listen(mortal_world)
        await until(lambda: one.link.up)
        await mortal_world.tell(an_input(3))
        # 1, which was answered just before, and 2 are committed anew, and say nothing
        assert await next_ask(pubsub) == "ask-3"
        await pubsub.aclose()

    async def all_said() -> bool:
        return sorted(n for n, _ in await mortal_world.said()) == [1, 2, 3]

    await eventually(all_said)


async def test_a_dry_run_asks_nothing(world: World) -> None:
    handler = Asker()
    async with life(world, handler, begun=False) as one:
        runner: Runner = one.runners[0]
        runner._dry_run = True
        one.start()
        await one.ready()
        pubsub = await listen(world)
        await world.tell(an_input(1))
        await world.until_acknowledged()
        end = Ask(id="end", host=HOST, workload="trainer", pid=1, start_time_s=1.0)
        await world.client.publish(ask_channel(HOST, "trainer"), msgspec.json.encode(end))
        assert await next_ask(pubsub) == "end"
        await pubsub.aclose()
    assert [n for n, _ in await world.said()] == [1]
