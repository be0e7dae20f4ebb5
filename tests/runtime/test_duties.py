"""What is done on the bus once a second: state, lease, directives said again, memory; and handlers kept running."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import msgspec
import pytest

from schemas.sample import GpuBackend
from schemas.status import BusStatus, HandlerStatus, LeaseStatus, Status
from schemas.workload import Directive, directive_key, throttle_channel
from supervisor.bus import lease
from supervisor.bus.keys import events_key, handler_key, lease_key, status_key
from supervisor.configuration.kept import Kept
from supervisor.configuration.layers import Sources
from supervisor.configuration.stack import Stack
from supervisor.errors import Fenced
from supervisor.handler import Decisions, Draft
from supervisor.identity import own_identity
from supervisor.runtime import daemon as daemon_module
from supervisor.runtime import duties as duties_module
from supervisor.runtime.daemon import Daemon
from supervisor.runtime.duties import Duties
from supervisor.runtime.results import Origin, to_commit
from supervisor.runtime.runner import Runner
from supervisor.runtime.standing import Standing
from tests.runtime.rig import HOST, PATIENCE_S, SAID, Said, Toy, World, an_input, eventually, life, until


def a_status() -> Status:
    return Status(
        host=HOST, time="2026-11-21T12:00:00.000Z", bus=BusStatus(url="", kind=""), lease=LeaseStatus(1),
        gpu_backend=GpuBackend("ok"),
    )  # fmt: skip


@asynccontextmanager
async def at_work(
    world: World, *, targets: set[str], standing: Standing
) -> AsyncIterator[tuple[Duties, asyncio.Task[None]]]:
    """The duties of a daemon that demands something of `targets`, at a quicker beat."""
    async with life(world, begun=False) as one:
        await one.link.connect()
        duties = Duties(
            host=HOST, shard=0, clock=one.clock, standing=standing, status=a_status,
            handlers=lambda: [HandlerStatus(name="toy", state="running", lag=None, handled=3)], targets=lambda: targets,
        )  # fmt: skip
        duties.link = one.link
        connection = one.connection()
        await connection.open()
        work = asyncio.create_task(duties.run(connection))
        try:
            yield duties, work
            if work.done():
                work.result()
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A beat each hundredth of a second."""
    monkeypatch.setattr(duties_module, "EVERY_S", 0.01)


async def test_the_state_is_reported_with_a_time_to_live(world: World) -> None:
    async with at_work(world, targets=set(), standing=Standing()):
        await eventually(lambda: world.client.exists(status_key(HOST)))
        assert msgspec.json.decode(await world.client.get(status_key(HOST)), type=Status) == a_status()
        assert 0 < await world.client.pttl(status_key(HOST)) <= 15_000
        await eventually(lambda: world.client.exists(handler_key("toy")))
        fields = await world.client.hgetall(handler_key("toy"))
    assert fields[b"state"] == b"running"
    assert fields[b"handled"] == b"3"
    assert fields[b"lag"] == b""
    assert fields[b"host"] == HOST.encode()


async def test_the_lease_is_renewed(world: World) -> None:
    async with at_work(world, targets=set(), standing=Standing()):
        await world.client.hset(lease_key(HOST), "expires_ms", "1")

        async def renewed() -> bool:
            return int(await world.client.hget(lease_key(HOST), "expires_ms")) > 1

        await eventually(renewed)


async def test_what_stood_before_we_came_is_said_again(world: World) -> None:
    """A restart demands what is demanded already, so nothing is issued; who listens must hear it all the same."""
    async with life(world, Toy()):
        await world.tell(an_input(1, speed=0.5))
        await world.until_acknowledged()
    before, standing, targets = await world.retained(), Standing(), set[str]()
    async with world.client.pubsub() as listener:
        await listener.subscribe(throttle_channel(HOST, "gpu0"))
        async with at_work(world, targets=targets, standing=standing):
            await eventually(lambda: world.client.exists(status_key(HOST)))
            targets.add("gpu0")  # only now has a handler demanded it
            await until(lambda: standing.of("gpu0"))
            async with asyncio.timeout(PATIENCE_S):
                while (message := await listener.get_message(timeout=1)) is None or message["type"] == "subscribe":
                    pass
    assert standing.of("gpu0") == before
    assert msgspec.json.decode(message["data"], type=Directive) == before


async def test_junk_in_the_place_of_a_directive_stops_nothing(world: World) -> None:
    await world.client.hset(directive_key(HOST, "gpu0"), mapping={"speed": "fast"})
    standing = Standing()
    async with at_work(world, targets={"gpu0"}, standing=standing):
        await eventually(lambda: world.client.exists(status_key(HOST)))
    assert standing.of("gpu0") is None


async def test_what_the_daemon_has_to_say_goes_out_once(world: World) -> None:
    async with at_work(world, targets=set(), standing=Standing()) as (duties, work):
        decisions = Decisions([Draft(SAID, "box", "back again", Said(1, 1))])
        commit, _ = to_commit(Origin(HOST, "link", 0, 100), "restored/1", decisions, wall_s=0)
        duties.also.append(commit)
        await until(lambda: not duties.also or work.done())
    assert [event.text for event in await world.events()] == ["back again"]


async def test_memory_is_kept(world: World) -> None:
    script = "for i = 1, 3000 do redis.call('XADD', KEYS[1], '*', 'text', string.rep('x', 1000)) end"
    await world.client.eval(script, 1, events_key())
    used = int((await world.client.info("memory"))["used_memory"])
    await world.client.config_set("maxmemory", int(used / 0.95))
    try:
        async with at_work(world, targets=set(), standing=Standing()):

            async def trimmed() -> bool:
                return int(await world.client.xlen(events_key())) <= 1000

            await eventually(trimmed)
    finally:
        await world.client.config_set("maxmemory", 0)


async def test_another_holder_ends_it(world: World) -> None:
    with pytest.raises(Fenced):
        async with at_work(world, targets=set(), standing=Standing()) as (_, work):
            await eventually(lambda: world.client.exists(status_key(HOST)))
            async with life(world, begun=False) as other:
                await lease.acquire(other.connection(), HOST, {"pid": 2}, is_dead=lambda holder: True)
            await work


class Flaky:
    """A runner whose run fails a few times."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.noted: list[str] = []
        self.handler = Toy()

    async def run(self) -> None:
        if self.errors:
            raise self.errors.pop(0)

    def failed_with(self, error: Exception) -> None:
        self.noted.append(str(error))


@pytest.fixture
def daemon(tmp_path: Path) -> Daemon:
    stack = Stack.read(Sources(environ={}, sections={}, path=Path(os.devnull)), Kept(tmp_path))
    return Daemon(stack, state=tmp_path, identity=own_identity(tmp_path, HOST))


async def test_a_handler_is_started_again_each_time_it_fails(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def noting(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr("supervisor.runtime.daemon.asyncio.sleep", noting)
    flaky = Flaky(*(RuntimeError(str(n)) for n in range(5)))
    await daemon._kept(cast(Runner, flaky))
    assert flaky.noted == ["0", "1", "2", "3", "4"]
    assert waits == [*daemon_module.RESTART_AFTER_S, daemon_module.RESTART_AFTER_S[-1]]


async def test_who_lost_the_lease_is_not_started_again(daemon: Daemon) -> None:
    with pytest.raises(Fenced):
        await daemon._kept(cast(Runner, Flaky(Fenced("another one has it"))))
