"""What had to wait for the bus is still true when it is carried out, and a handler is told when the bus is there."""

import asyncio
from typing import ClassVar

import msgspec

from schemas.envelope import Event
from schemas.workload import Release
from supervisor.bus.commit import Commit, HashChange
from supervisor.bus.keys import record_key
from supervisor.clock import rfc3339
from supervisor.errors import BusLost
from supervisor.handler import Context, Decisions, LedgerEntry, Record, Stream
from tests.runtime.rig import HOST, Toy, World, a_sample, eventually, life, until


class Meter(Toy):
    """Says with every sample what is free, and but for one what it has marked; counts how often the bus was there."""

    streams: ClassVar[tuple[Stream, ...]] = ("samples",)

    def __init__(self) -> None:
        super().__init__()
        self.restarts = 0

    async def handle(self, event: Event, context: Context) -> Decisions | None:
        tick = event.id.rpartition("/")[2]
        free = Record("capacity", f"{HOST}:gpu{tick}", {"used_bytes": tick}, 60.0)
        marked = Record("override", f"{HOST}:gpu{tick}", {"operator": "me"}, 60.0)
        return Decisions(records=[free] if tick == "9" else [free, marked])

    def restated(self, context: Context) -> Decisions | None:
        self.restarts += 1
        change = Release(allocation_id=f"n{self.restarts}")
        return Decisions(ledger=[LedgerEntry(request=f"start-{self.restarts}", change=change)])


def held(age_s: float, ttl_s: float, name: str, now_s: float) -> Commit:
    """A commit of so long ago that sets a hash for so long."""
    key = record_key("override", name)
    change = HashChange(key, ["operator", "me"], int(ttl_s * 1000))
    return Commit(f"token-{name}", f"{HOST}/toy", name, 0, HOST, rfc3339(now_s - age_s), hashes=[change])


async def test_a_hash_lives_no_longer_for_having_waited(world: World) -> None:
    async with life(world, begun=False) as one:
        now_s = one.clock.wall()
        for commit in (held(50, 40, "over", now_s), held(30, 40, "left", now_s), held(50, 0, "stays", now_s)):
            one.link.hold(commit)
        one.start()
        await until(lambda: one.link.up)
        left_ms = {name: await world.client.pttl(record_key("override", name)) for name in ("over", "left", "stays")}
        assert (left_ms["over"], left_ms["stays"]) == (-2, -1)
        assert 0 < left_ms["left"] <= 10_000


async def test_what_is_free_now_is_not_kept_for_later(world: World) -> None:
    """Neither is an input from which nothing else follows."""
    async with life(world, Meter(), begun=False) as one:
        for tick in (7, 8, 9):
            one.publisher.deliver(a_sample(tick, one.identity.boot_id))
        one.link.lost(BusLost("not there yet"))
        runner, publisher = one.runners[0], one.publisher
        one._tasks = [asyncio.create_task(publisher.run()), asyncio.create_task(runner.run())]
        await until(lambda: runner.status().handled == 3)
        commits = [
            msgspec.msgpack.decode(waiting.payload, type=Commit)
            for waiting in one.spool.pending()
            if waiting.kind == "commit"
        ]
        assert [[change.key for change in commit.hashes] for commit in commits] == [
            [record_key("override", f"{HOST}:gpu7")], [record_key("override", f"{HOST}:gpu8")],
        ]  # fmt: skip


async def test_a_handler_is_told_whenever_the_bus_is_there(world: World) -> None:
    handler = Meter()
    async with life(world, handler) as one:
        await one.ready()
        await until(lambda: handler.restarts == 1)
        await world.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await until(lambda: handler.restarts == 2)
        await eventually(lambda: _is_known(world, handler.restarts))


async def _is_known(world: World, times: int) -> bool:
    """Whether each of its commits has arrived, by their tokens: it releases what nobody has, which is no event."""
    return len([key async for key in world.client.scan_iter("flyball:idempotency:*")]) == times
