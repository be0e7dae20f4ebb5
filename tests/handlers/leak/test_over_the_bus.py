"""The handler on a real bus, through crashes: every leak is told once, and every request made once."""

import time
from collections.abc import Sequence

import pytest

from handlers.leak.handler import LeakWatch
from handlers.leak.settings import Settings
from schemas.command import Command
from schemas.envelope import event_from_entry
from schemas.leak import LeakReport
from schemas.sample import Sample
from schemas.workload import Directive
from supervisor.bus.keys import commands_key, samples_key
from supervisor.clock import rfc3339
from supervisor.handler import Declared
from tests.handlers.leak.scripted import Scripted, process, verdict
from tests.handlers.samples import sampled
from tests.runtime.rig import HOST, Life, World, life

GROUP = f"leak.{HOST}"
DECLARED = [Declared(name="search-docs", may=("throttle",), on_leak="throttle")]


def _watch() -> LeakWatch:
    return LeakWatch(Settings(), DECLARED, Scripted)


class Course:
    """Samples a second apart, the first one now."""

    def __init__(self, one: Life) -> None:
        self.boot_id = one.identity.boot_id
        self.begin_s = time.monotonic()

    def at_s(self, number: int) -> float:
        return self.begin_s + number

    async def tell(self, one: Life, numbers: Sequence[int]) -> None:
        """These samples, until the handler is done with them."""
        for number in numbers:
            sample = Sample(
                host=HOST, boot_id=self.boot_id, tick=number, time=rfc3339(time.time()),
                monotonic_s=self.at_s(number), interval_s=1.0, processes=(process(),),
            )  # fmt: skip
            await one.world.tell(sampled(sample), stream=samples_key())
        await one.world.until_acknowledged(GROUP, samples_key())


async def _reports(world: World) -> list[LeakReport]:
    types = [f"flyball.leak.{stage}" for stage in ("suspected", "confirmed", "cleared")]
    return [event.decode(LeakReport) for event in await world.events(*types)]


async def _commands(world: World) -> list[Command]:
    rows = await world.client.xrange(commands_key(HOST))
    return [event_from_entry(fields).decode(Command) for _, fields in rows]


@pytest.mark.parametrize("crashes", [(2,), (3,), (4,), (10,), (11,), (2, 3, 4, 10, 11)])
async def test_whenever_it_crashes_a_leak_is_told_once(world: World, crashes: tuple[int, ...]) -> None:
    Scripted.script, Scripted.fed = {}, []
    course: Course | None = None
    done = 0
    for end in (*crashes, 14):
        async with life(world, _watch()) as one:
            await one.ready()
            if course is None:
                course = Course(one)
                Scripted.script[course.at_s(3), "threads"] = verdict("suspected")
                Scripted.script[course.at_s(10), "threads"] = verdict("confirmed")
            await course.tell(one, range(done + 1, end + 1))
        done = end
    reports = await _reports(world)
    assert [report.stage for report in reports] == ["suspected", "confirmed"]
    commands = await _commands(world)
    assert [command.action for command in commands] == ["evidence", "evidence"]
    assert len({command.id for command in commands}) == 2
    directive: Directive = await world.retained("workload.search-docs")
    assert (directive.action, directive.speed) == ("throttle", 0.5)
