"""The bus goes away and comes back: decisions go on, and everything is in the streams in the end, in order and once."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import ClassVar

import pytest

from schemas.command import Command
from schemas.envelope import Event, event_id
from supervisor.bus import lease
from supervisor.bus.connection import Connection
from supervisor.bus.keys import commands_key, dead_key, samples_key
from supervisor.bus.spool import Spool
from supervisor.errors import Fenced, HostTaken, SpoolError
from supervisor.handler import Context, Decisions, Draft, Stream, sample_of
from tests.busservers import BusServer
from tests.runtime.rig import HOST, SAID, Life, Said, Toy, World, a_sample, an_input, eventually, life, until


class Watcher(Toy):
    """Says every sample, and demands by it: pause on each third, else half speed."""

    name: ClassVar[str] = "watcher"
    streams: ClassVar[tuple[Stream, ...]] = ("samples",)

    def has_seen(self, tick: int) -> bool:
        """Whether this was the last sample."""
        return bool(self.shown) and self.shown[-1][0] == tick

    async def handle(self, event: Event, context: Context) -> Decisions | None:
        sample = sample_of(event)
        self.shown.append((sample.tick, context.replaying))
        self.counts["samples"] = count = self.counts.get("samples", 0) + 1
        speed = 0 if sample.tick % 3 == 0 else 0.5
        demands = [self.demand(speed, f"tick {sample.tick}")]
        return Decisions([Draft(SAID, "watcher", f"tick {sample.tick}", Said(sample.tick, count))], demands)


class Gossip(Toy):
    """Says again what the watcher said."""

    name: ClassVar[str] = "gossip"
    streams: ClassVar[tuple[Stream, ...]] = ("events",)
    types: ClassVar[frozenset[str]] = frozenset({SAID})

    async def handle(self, event: Event, context: Context) -> Decisions | None:
        said = event.decode(Said)
        self.shown.append((said.n, context.replaying))
        return Decisions([Draft("toy.heard", "gossip", event.text, said)])


async def sampled(one: Life, *ticks: int) -> None:
    """The sampler delivers these, one after the other is seen."""
    watcher = one.runners[0].handler
    assert isinstance(watcher, Watcher)
    for tick in ticks:
        one.publisher.deliver(a_sample(tick, one.identity.boot_id))
        await until(partial(watcher.has_seen, tick))


async def ticks(world: World) -> list[int]:
    """The samples in the stream."""
    rows = await world.client.xrange(samples_key())
    return [int(fields[b"id"].rpartition(b"/")[2]) for _, fields in rows]


async def heard(world: World, count: int) -> bool:
    return len(await world.events("toy.heard")) == count


async def in_order_and_once(world: World, upto: int) -> None:
    """Every sample, every event, and of the directives the newest."""
    await eventually(lambda: heard(world, upto))
    assert await ticks(world) == list(range(1, upto + 1))
    assert await world.said() == [(n, n) for n in range(1, upto + 1)]
    assert [event.decode(Said).n for event in await world.events("toy.heard")] == list(range(1, upto + 1))
    events = await world.events()
    assert len({event.id for event in events}) == len(events)
    directives = await world.directives()
    assert await world.retained() == directives[-1]
    seqs = [directive.seq for directive in directives]
    assert seqs == sorted(set(seqs))


def gone(server: BusServer) -> None:
    server.kill()


def silent(server: BusServer) -> None:
    server.pause()


def back(server: BusServer) -> None:
    try:
        server.resume()
    except AssertionError:
        server.start()


@pytest.mark.parametrize("away", [gone, silent])
async def test_decisions_go_on_and_are_told_later(
    mortal: BusServer, mortal_world: World, away: Callable[[BusServer], None]
) -> None:
    watcher, gossip = Watcher(), Gossip()
    async with life(mortal_world, watcher, gossip, timeout_s=1.0) as one:
        await one.ready()
        await sampled(one, 1, 2, 3)
        await eventually(lambda: heard(mortal_world, 3))
        away(mortal)
        await sampled(one, 4, 5, 6, 7, 8)
        await until(lambda: (8, False) in gossip.shown)
        counts = one.spool.counts()
        assert counts.samples >= 4
        assert counts.commits >= 8
        assert one.runners[0].status().state == "running in process"
        await asyncio.to_thread(back, mortal)
        await until(lambda: one.link.up)
        await sampled(one, 9)
        await in_order_and_once(mortal_world, 9)
        assert one.spool.counts().samples == one.spool.counts().commits == 0
        outage = one.outages[-1]
        assert outage.samples >= 4
        assert outage.commits >= 8
        assert outage.dropped == 0
        assert len(one.outages) == 2, "one start, one outage"
    reasons = [directive.reason for directive in await mortal_world.directives()]
    assert reasons[:3] == ["tick 1", "tick 2", "tick 3"]
    assert reasons[-2:] == ["tick 8", "tick 9"]
    assert not {"tick 5", "tick 6", "tick 7"} & set(reasons), "an old directive was said"
    assert watcher.shown == [(n, False) for n in range(1, 10)], "a sample was decided on twice, or late"


async def test_it_starts_without_a_bus(mortal: BusServer, mortal_world: World) -> None:
    await asyncio.to_thread(mortal.kill)
    async with life(mortal_world, Watcher(), Gossip()) as one:
        await sampled(one, 1, 2)
        await asyncio.to_thread(mortal.start)
        await one.ready()
        await sampled(one, 3)
        await eventually(lambda: said_upto(mortal_world, 3))
        assert await ticks(mortal_world) == [1, 2, 3]


async def said_upto(world: World, last: int) -> bool:
    return [n for n, _ in await world.said()][-1:] == [last]


async def test_several_outages_in_a_row(mortal: BusServer, mortal_world: World) -> None:
    async with life(mortal_world, Watcher(), Gossip()) as one:
        await one.ready()
        await sampled(one, 1)
        for round_ in range(3):
            await eventually(partial(heard, mortal_world, 1 + 3 * round_))
            await asyncio.to_thread(mortal.kill)
            await sampled(one, 3 * round_ + 2, 3 * round_ + 3)
            await asyncio.to_thread(mortal.start)
            await until(lambda: one.link.up)
            await sampled(one, 3 * round_ + 4)
        await in_order_and_once(mortal_world, 10)
        assert one.link.epoch >= 4


async def test_a_crash_during_an_outage_loses_nothing(mortal: BusServer, mortal_world: World) -> None:
    async with life(mortal_world, Watcher(), Gossip()) as one:
        await one.ready()
        await sampled(one, 1, 2)
        await eventually(lambda: heard(mortal_world, 2))
        await asyncio.to_thread(mortal.kill)
        await sampled(one, 3, 4)
    watcher = Watcher()
    async with life(mortal_world, watcher, Gossip()) as one:
        await sampled(one, 6)
        await asyncio.to_thread(mortal.start)
        await until(lambda: one.link.up)
        await sampled(one, 7)
        await eventually(lambda: said_upto(mortal_world, 7))
        assert await ticks(mortal_world) == [1, 2, 3, 4, 6, 7]
        assert [n for n, _ in await mortal_world.said()] == [1, 2, 3, 4, 6, 7]
        assert (await mortal_world.said())[-1] == (7, 6), "the state has seen every sample"
        directives = await mortal_world.directives()
        assert "tick 2" not in [one.reason for one in directives[2:]], "a state of the past spoke"
        assert (await mortal_world.retained()).reason == "tick 7"


async def test_what_was_in_hand_when_the_bus_went_is_decided_once(mortal: BusServer, mortal_world: World) -> None:
    toy = Toy()
    async with life(mortal_world, toy) as one:
        await mortal_world.tell(an_input(1, "wait"), an_input(2), an_input(3, "say"))
        await until(lambda: toy.shown)
        await asyncio.to_thread(mortal.kill)
        one.publisher.deliver(a_sample(1, one.identity.boot_id))  # somebody notices
        await until(lambda: not one.link.up)
        toy.go_on.set()
        await until(lambda: len(toy.shown) == 3)
        await asyncio.to_thread(mortal.start)
        await mortal_world.until_acknowledged()
        await mortal_world.tell(an_input(4, "say"))
        await mortal_world.until_acknowledged()
    assert [n for n, _ in toy.shown] == [1, 2, 3, 4]
    assert await mortal_world.said() == [(1, 1), (3, 3), (4, 4)]


async def test_what_a_killed_server_forgot_is_sent_again(world: World) -> None:
    """Its last writes may not have been on the disk yet; what it kept is not said twice."""
    async with life(world, Toy()) as one:
        await world.tell(an_input(1, "say", speed=0.5), an_input(2, "say", speed=0))
        await world.until_acknowledged()
        before = await world.retained()
        (last,) = [event for event in await world.events(SAID) if event.decode(Said).n == 2]
        rows = await world.client.xrange("flyball:events:{0}")
        forgotten = [entry for entry, fields in rows if fields[b"id"].decode() in (last.id, before.id)]
        await world.client.xdel("flyball:events:{0}", *forgotten)
        tokens = [key async for key in world.client.scan_iter("flyball:idempotency:*")]
        await world.client.delete(f"flyball:idempotency:{{0}}:{event_id('box/toy', 'input-2', -1)}")
        await world.client.hset("flyball:directive:{0}:box:gpu0", mapping={"action": "throttle", "speed": "0.5"})
        await world.client.hdel("flyball:demands:{0}:box:gpu0", "toy")
        assert len(tokens) >= 2
        await world.client.client_kill_filter(_type="normal", skipme=True)
        await until(lambda: one.outages and one.link.up and len(one.outages) > 1)
        await eventually(lambda: is_said(world, 2))
        after = await world.retained()
    assert await world.said() == [(1, 1), (2, 2)]
    assert (after.action, after.speed) == ("pause", 0)
    assert after.seq > before.seq


async def test_samples_that_a_killed_server_forgot_are_sent_again(mortal: BusServer, mortal_world: World) -> None:
    watcher = Watcher()
    async with life(mortal_world, watcher) as one:
        await one.ready()
        await sampled(one, 1, 2, 3)
        await eventually(lambda: said_upto(mortal_world, 3))
        rows = await mortal_world.client.xrange(samples_key())
        await mortal_world.client.xdel(samples_key(), rows[-1][0])
        await mortal_world.client.hset(f"flyball:lease:{{0}}:{HOST}", "tick", "2")
        await asyncio.to_thread(mortal.kill)
        await sampled(one, 4)
        await asyncio.to_thread(mortal.start)
        await until(lambda: one.link.up)
        await sampled(one, 5)
        await eventually(lambda: said_upto(mortal_world, 5))
        assert await ticks(mortal_world) == [1, 2, 3, 4, 5]
    assert [tick for tick, _ in watcher.shown] == [1, 2, 3, 4, 5]


async def is_said(world: World, count: int) -> bool:
    return len(await world.said()) == count and (await world.retained()).action == "pause"


async def test_over_the_limit_samples_go_and_decisions_stay(mortal: BusServer, mortal_world: World) -> None:
    async with life(mortal_world, Watcher(), Gossip(), spool_bytes=20_000) as one:
        await one.ready()
        await sampled(one, 1)
        await eventually(lambda: heard(mortal_world, 1))
        await asyncio.to_thread(mortal.kill)
        await sampled(one, *range(2, 60))
        assert one.spool.counts().dropped_samples > 0
        await asyncio.to_thread(mortal.start)
        await until(lambda: one.link.up)
        assert one.outages[-1].dropped > 0
        assert one.spool.counts().dropped_samples == 0
        await eventually(lambda: heard(mortal_world, 59))
        assert [n for n, _ in await mortal_world.said()] == list(range(1, 60))
        kept = await ticks(mortal_world)
        assert len(kept) < 59
        assert kept == sorted(kept)


async def test_on_a_full_disk_what_is_decided_waits_in_memory(
    mortal: BusServer, mortal_world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with life(mortal_world, Watcher(), Gossip()) as one:
        await one.ready()
        await sampled(one, 1)
        await eventually(lambda: heard(mortal_world, 1))
        await asyncio.to_thread(mortal.kill)
        full = SpoolError("the spool cannot be used", why="database or disk is full")

        def refuse(*_: object) -> None:
            raise full

        with monkeypatch.context() as patch:
            patch.setattr(Spool, "_add", refuse)
            await sampled(one, 2, 3)
            await until(lambda: len(one.link._in_memory) >= 6)
        assert caplog.text.count("waits in memory") == 1
        await asyncio.to_thread(mortal.start)
        await until(lambda: one.link.up)
        await sampled(one, 4)
        await in_order_and_once(mortal_world, 4)


async def test_what_another_version_spooled_is_dropped_and_the_rest_goes_on(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    with Spool(world.state / "spool.db", 1 << 20) as spool:
        spool.add_commit("old", b"\x93\x01\x02\x03")
        spool.add_sample("old", b"junk")
    async with life(world, Toy()) as one:
        await world.tell(an_input(1, "say"))
        await world.until_acknowledged()
        assert one.spool.counts().commits == 0
    assert await world.said() == [(1, 1)]
    assert caplog.text.count("is of another version") == 2


async def test_commands_are_not_told_late(mortal: BusServer, mortal_world: World) -> None:
    class Commander(Watcher):
        async def handle(self, event: Event, context: Context) -> Decisions | None:
            sample = sample_of(event)
            self.shown.append((sample.tick, False))
            command = Command(
                id=f"c{sample.tick}",
                time=event.time,
                ttl_s=5,
                host=HOST,
                issuer="watcher",
                action="clean",
                target="gpu0",
            )
            return Decisions(commands=[command])

    async with life(mortal_world, Commander()) as one:
        await one.ready()
        await sampled(one, 1)
        await eventually(lambda: mortal_world.client.xlen(commands_key(HOST)))
        await asyncio.to_thread(mortal.kill)
        await sampled(one, 2)
        await asyncio.to_thread(mortal.start)
        await until(lambda: one.link.up)
        await sampled(one, 3)
        await eventually(lambda: has_command(mortal_world, b"c3"))
        rows = await mortal_world.client.xrange(commands_key(HOST))
    assert [fields[b"id"] for _, fields in rows] == [b"c1", b"c3"]


async def has_command(world: World, id_: bytes) -> bool:
    return any(fields[b"id"] == id_ for _, fields in await world.client.xrange(commands_key(HOST)))


async def test_in_process_failures_are_dead_letters_too(mortal: BusServer, mortal_world: World) -> None:
    class Fussy(Gossip):
        async def handle(self, event: Event, context: Context) -> Decisions | None:
            raise RuntimeError("not today")

    async with life(mortal_world, Watcher(), Fussy()) as one:
        await until(lambda: one.link.up)
        await asyncio.to_thread(mortal.kill)
        await sampled(one, 1)
        await until(lambda: one.runners[1].status().failed == 1)
        await asyncio.to_thread(mortal.start)
        await eventually(lambda: mortal_world.client.xlen(dead_key()))
        (dead,) = await mortal_world.dead()
    assert (dead["handler"], dead["error"], dead["text"]) == ("gossip", "RuntimeError: not today", "tick 1")


async def test_who_lost_the_lease_says_nothing_and_ends(world: World) -> None:
    async with life(world, Toy(), begun=False) as one:
        await one.link.connect()
        other = Connection(world.url, timeout_s=5)
        try:
            await lease.acquire(other, HOST, {"pid": 2}, is_dead=lambda holder: True)
        finally:
            await other.close()
        one.start()
        await world.tell(an_input(1, "say"))
        with pytest.raises(Fenced):
            await one.ended()
        await one.crash()
        one._tasks.clear()
    assert await world.events() == []


async def test_a_second_one_does_not_start_to_speak(world: World) -> None:
    async with life(world, Toy()) as one:
        await until(lambda: one.link.up)
        await world.client.hset(f"flyball:lease:{{0}}:{HOST}", "holder", '{"pid": 1, "machine_id": "elsewhere"}')
        async with life(world, Toy(), begun=False) as second:
            with pytest.raises(HostTaken):
                await second.link.connect()


async def test_a_full_server_is_an_outage_and_decisions_go_on(
    mortal: BusServer, mortal_world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with life(mortal_world, Watcher(), Gossip()) as one:
        await one.ready()
        await sampled(one, 1)
        await eventually(lambda: heard(mortal_world, 1))
        await mortal_world.client.config_set("maxmemory", 1)
        await sampled(one, 2, 3)
        await mortal_world.client.client_kill_filter(_type="normal", skipme=True)  # even a new connection
        await sampled(one, 4, 5)
        await mortal_world.client.config_set("maxmemory", 0)
        await sampled(one, 6)
        await eventually(lambda: said_upto(mortal_world, 6))
        assert [n for n, _ in await mortal_world.said()] == list(range(1, 7))
