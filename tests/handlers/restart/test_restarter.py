"""Restarts over a real bus: a program that is really started anew, and never twice by one command."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from handlers.restart.handler import Restarter
from handlers.restart.settings import Settings
from schemas.command import Command
from schemas.event import WorkloadRestarted
from schemas.sample import Process, Sample
from supervisor.bus.keys import commands_key, samples_key
from supervisor.clock import rfc3339
from supervisor.handler import Declared
from tests.handlers.samples import event, sampled
from tests.runtime.rig import HOST, Life, World, eventually, life

NAME = "search"
GROUP = f"restart.{HOST}"


class Service:
    """A program that a script of its own starts anew; each run of the script is counted in a file."""

    def __init__(self, place: Path) -> None:
        self.place = place
        (place / "runs").touch()
        (place / "pid").write_text("")

    def arguments(self, before: str = "", after: str = "") -> tuple[str, ...]:
        """The argument list that starts it anew."""
        script = (
            f"cd {self.place}; echo run >> runs; {before} test -s pid && kill $(cat pid); "
            f"sleep 300 >/dev/null 2>&1 & echo $! > pid.new; mv pid.new pid; {after}"
        )
        return "sh", "-c", script

    @property
    def pid(self) -> int:
        """Its process; 0 where it has none."""
        return int((self.place / "pid").read_text() or 0)

    @property
    def runs(self) -> int:
        """How often the script was run."""
        return len((self.place / "runs").read_text().split())

    def end(self) -> None:
        """Leave nothing behind."""
        if self.pid:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    """One that runs."""
    (tmp_path / "service").mkdir()
    one = Service(tmp_path / "service")
    process = await asyncio.create_subprocess_exec("sleep", "300")
    (one.place / "pid").write_text(str(process.pid))
    yield one
    one.end()
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()


def _handler(arguments: tuple[str, ...], **settings: Any) -> Restarter:
    return Restarter(Settings(**settings), [Declared(name=NAME, may=("restart",), restart=arguments)])


@asynccontextmanager
async def _sampled(one: Life, service: Service) -> AsyncIterator[None]:
    """Samples of the service come as they do from a sampler, but more often."""

    async def go_on() -> None:
        tick = time.monotonic_ns() // 1_000_000
        while True:
            tick += 1
            pid = service.pid
            processes = (Process(pid=pid, start_time_s=1.0, workload=NAME),) if pid else ()
            now = Sample(
                host=HOST, boot_id=one.identity.boot_id, tick=tick, time=rfc3339(time.time()),
                monotonic_s=time.monotonic(), interval_s=0.05, processes=processes,
            )  # fmt: skip
            await one.world.tell(sampled(now), stream=samples_key())
            await asyncio.sleep(0.05)

    task = asyncio.create_task(go_on())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _ask(world: World, id: str = "c1", **fields: Any) -> None:
    command = Command(
        id=id, time=rfc3339(time.time()), ttl_s=fields.pop("ttl_s", 30.0), host=HOST, issuer="test", action="restart",
        target=f"workload.{NAME}", **fields,
    )  # fmt: skip
    asked = event("flyball.command.requested", command, id=id, source="test")
    await world.tell(asked, stream=commands_key(HOST))


async def _outcomes(world: World) -> list[tuple[str, WorkloadRestarted]]:
    return [(one.text, one.decode(WorkloadRestarted)) for one in await world.events("flyball.workload.restarted")]


async def _outcome(world: World) -> tuple[str, WorkloadRestarted]:
    async def told() -> bool:
        return bool(await _outcomes(world))

    await eventually(told)
    (only,) = await _outcomes(world)
    return only


async def test_a_program_is_started_anew_and_the_event_tells_its_pids(world: World, service: Service) -> None:
    before = service.pid
    async with life(world, _handler(service.arguments())) as one, _sampled(one, service):
        await _ask(world, arguments={"reason": "it leaks"}, cause="e1")
        text, told = await _outcome(world)
    assert (told.outcome, told.pids_before, told.pids_after, told.cause) == (
        "restarted", (before,), (service.pid,), "c1",
    )  # fmt: skip
    assert service.pid != before
    expected = f"search was restarted: its processes were pid {before}, and are pid {service.pid} now"
    assert text == f"{expected} (asked for because it leaks)"
    assert told.took_s is not None and 0 < told.took_s < 15
    assert service.runs == 1


async def test_an_argument_list_that_fails_is_told_with_its_words(world: World, service: Service) -> None:
    before = service.pid
    failing = ("sh", "-c", f"echo run >> {service.place}/runs; echo Unit search.service not found.; exit 5")
    async with life(world, _handler(failing)) as one, _sampled(one, service):
        await _ask(world)
        text, told = await _outcome(world)
    assert text == "the restart of search failed: 'sh' ended with code 5: Unit search.service not found."
    assert (told.pids_before, told.pids_after) == ((before,), (before,))


async def test_one_that_changes_nothing_is_told_to_have_failed(world: World, service: Service) -> None:
    async with life(world, _handler(("true",), appear_s=0.3)) as one, _sampled(one, service):
        await _ask(world)
        text, _ = await _outcome(world)
    assert text == (f"the restart of search failed: its argument list ended well, but pid {service.pid} still runs")


async def test_the_same_command_again_and_another_one_meanwhile(world: World, service: Service) -> None:
    waits = service.arguments(before="while ! test -e go; do sleep 0.02; done;")
    async with life(world, _handler(waits)) as one, _sampled(one, service):
        await _ask(world)
        await eventually(lambda: _is(service.runs == 1))
        await _ask(world)
        await _ask(world, "c2")
        text, _ = await _outcome(world)
        assert text == "search was not restarted: another restart of it is under way"
        (service.place / "go").touch()

        async def both() -> bool:
            return len(await _outcomes(world)) == 2

        await eventually(both)
        await _ask(world)
        await world.until_acknowledged(GROUP, commands_key(HOST))
    assert [told.cause for _, told in await _outcomes(world)] == ["c2", "c1"]
    assert service.runs == 1


@pytest.mark.parametrize("when", ["accepted", "running", "ended", "told"])
async def test_a_crash_at_any_moment_runs_nothing_twice_and_tells_one_outcome(
    world: World, service: Service, when: str
) -> None:
    before = service.pid
    waits = service.arguments(after="while ! test -e go; do sleep 0.02; done")
    if when != "running":
        (service.place / "go").touch()
    async with life(world, _handler(waits)) as one:
        await one.ready()
        await _ask(world)
        await world.until_acknowledged(GROUP, commands_key(HOST))
        if when != "accepted":
            async with _sampled(one, service):
                await eventually(lambda: _is(service.runs == 1 and service.pid != before))
                if when == "told":
                    await _outcome(world)
    (service.place / "go").touch()
    runs = service.runs
    async with life(world, _handler(waits, appear_s=1.0)) as one, _sampled(one, service):
        _, told = await _outcome(world)
        await _ask(world)
        await world.until_acknowledged(GROUP, commands_key(HOST))
    assert [told.cause for _, told in await _outcomes(world)] == ["c1"]
    assert service.runs == runs == (0 if when == "accepted" else 1)
    assert told.outcome == ("failed" if when == "accepted" else "restarted")


async def test_an_expired_command_of_a_bus_that_was_away_is_refused(world: World, service: Service) -> None:
    await _ask(world, ttl_s=0.01)
    await asyncio.sleep(0.02)
    async with life(world, _handler(service.arguments())) as one, _sampled(one, service):
        text, _ = await _outcome(world)
    assert text.startswith("search was not restarted: it has expired")
    assert service.runs == 0


async def _is(happened: bool) -> bool:
    return happened
