"""The measured rate is the speed that was ordered, relative to the full rate of the same machine a moment ago."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from itertools import islice, repeat
from statistics import median

import pytest

from flyball import Workload
from flyball.pace import MOST_CREDIT_S, Debt
from flyball.wire import Action
from tests.sdk.supervision import Heard, Lines, Supervisor

STEP_S = 0.004
ROUNDS = 5


def test_debt_is_work_times_what_is_missing() -> None:
    debt = Debt()
    debt.work(0.9)
    assert debt.owed_s(0.5) == pytest.approx(0.9)
    assert debt.owed_s(0.9) == pytest.approx(0.1)
    debt.rest(0.3, 0.5)
    assert debt.owed_s(0.5) == pytest.approx(0.6)
    assert debt.owed_s(0.75) == pytest.approx(0.2), "what is left is recomputed at the new speed"


def test_a_late_rest_is_made_good_but_nothing_bursts() -> None:
    debt = Debt()
    debt.work(0.010)
    debt.rest(0.012, 0.5)
    debt.work(0.010)
    assert debt.owed_s(0.5) == pytest.approx(0.008)
    debt.rest(3600, 0.5)
    debt.work(MOST_CREDIT_S)
    assert debt.owed_s(0.5) == pytest.approx(0)
    debt.work(1)
    debt.forgive()
    assert debt.owed_s(0.5) == 0


def rate(workload: Workload, steps: int, step_s: float = STEP_S) -> float:
    """Steps a second of a loop whose work is to wait, so that a busy machine slows both sides alike."""
    began_s = time.perf_counter()
    for _ in workload.pace(range(steps)):
        time.sleep(step_s)
    return steps / (time.perf_counter() - began_s)


def order(supervisor: Supervisor, heard: Heard, action: Action, speed: float) -> None:
    """Give an order and wait until it stands."""
    supervisor.say(action, speed)
    assert heard.next().speed == speed


@pytest.mark.parametrize(("action", "speed"), [("throttle", 0.8), ("throttle", 0.5), ("throttle", 0.2)])
def test_rate_within_ten_percent(supervisor: Supervisor, action: Action, speed: float) -> None:
    """Full and slowed stretches in turn, so that both see the same machine."""
    heard, ratios = Heard(), []
    with Workload("trainer") as workload:
        workload.on_change(heard)
        for _ in range(ROUNDS):
            order(supervisor, heard, "run", 1.0)
            full = rate(workload, 50)
            order(supervisor, heard, action, speed)
            ratios.append(rate(workload, 50) / full)
    assert median(ratios) == pytest.approx(speed, rel=0.1), ratios


def test_rate_of_tiny_steps(supervisor: Supervisor) -> None:
    """Steps far shorter than a sleep can be: rests are saved up.

    A loop that computes gets more of a busy machine when it rests in between, so the full rate is that of the same
    stretch: steps a second of work.
    """
    supervisor.say("throttle", 0.5)
    ratios = []
    with Workload("trainer") as workload:
        for _ in range(ROUNDS):
            worked_s, began_s = 0.0, time.perf_counter()
            for _ in workload.pace(range(3000)):
                step_s = time.perf_counter()
                sum(range(2500))
                worked_s += time.perf_counter() - step_s
            ratios.append(worked_s / (time.perf_counter() - began_s))
    assert median(ratios) == pytest.approx(0.5, rel=0.1), ratios


def test_rate_counts_the_making_of_the_items(supervisor: Supervisor) -> None:
    """A loader that takes as long as the training is work too."""

    def batches(count: int) -> Iterator[int]:
        for number in range(count):
            time.sleep(STEP_S)
            yield number

    def loaded(workload: Workload, steps: int) -> float:
        began_s = time.perf_counter()
        for _ in workload.pace(batches(steps)):
            time.sleep(STEP_S)
        return steps / (time.perf_counter() - began_s)

    heard, ratios = Heard(), []
    with Workload("trainer") as workload:
        workload.on_change(heard)
        for _ in range(ROUNDS):
            order(supervisor, heard, "run", 1.0)
            full = loaded(workload, 25)
            order(supervisor, heard, "throttle", 0.5)
            ratios.append(loaded(workload, 25) / full)
    assert median(ratios) == pytest.approx(0.5, rel=0.1), ratios


@pytest.mark.parametrize("plain", [True, False], ids=["plain", "asynchronous"])
async def test_rate_of_async_for(supervisor: Supervisor, plain: bool) -> None:
    async def source(count: int) -> AsyncIterator[int]:
        for number in range(count):
            yield number

    async def paced(workload: Workload, steps: int) -> float:
        began_s = time.perf_counter()
        items = aiter(workload.pace(range(steps))) if plain else workload.pace(source(steps))
        async for _ in items:
            await asyncio.sleep(STEP_S)
        return steps / (time.perf_counter() - began_s)

    heard, ratios = Heard(), []
    async with Workload("trainer") as workload:
        workload.on_change(heard)
        for _ in range(ROUNDS):
            await asyncio.to_thread(order, supervisor, heard, "run", 1.0)
            full = await paced(workload, 50)
            await asyncio.to_thread(order, supervisor, heard, "throttle", 0.5)
            ratios.append(await paced(workload, 50) / full)
    assert median(ratios) == pytest.approx(0.5, rel=0.1), ratios


def test_every_item_comes_once_and_in_order(supervisor: Supervisor) -> None:
    supervisor.say("throttle", 0.5)
    with Workload("trainer") as workload:
        assert workload.speed == 0.5, "what stood before the start is known at the start"
        assert list(workload.pace(range(100))) == list(range(100))
        assert list(workload.pace([])) == []


def test_a_rest_ends_when_the_speed_changes(supervisor: Supervisor) -> None:
    """At speed 0.00001 a step of some ms is followed by a rest of minutes, which the next order cuts short."""
    heard = Heard()
    with Workload("trainer") as workload:
        workload.on_change(heard)
        order(supervisor, heard, "throttle", 0.00001)
        steps = iter(workload.pace(repeat(None)))
        next(steps)
        supervisor.until_applied(0.00001)
        time.sleep(0.005)  # the work of this step
        supervisor.later(lambda: supervisor.say("run", 1.0))
        next(steps)
        assert workload.speed == 1.0


def test_no_burst_after_a_pause(supervisor: Supervisor) -> None:
    """The time of a pause is neither a debt nor a credit."""
    heard = Heard()
    with Workload("trainer") as workload:
        workload.on_change(heard)
        full = rate(workload, 50)
        order(supervisor, heard, "throttle", 0.5)
        steps = iter(workload.pace(repeat(None)))
        next(steps)
        order(supervisor, heard, "pause", 0.0)
        supervisor.later(lambda: supervisor.say("throttle", 0.5), after_s=0.5)
        next(steps)
        assert heard.next().speed == 0.5
        began_s = time.perf_counter()
        for _ in islice(steps, 50):
            time.sleep(STEP_S)
        assert 50 / (time.perf_counter() - began_s) < full * 0.7


def test_a_directive_that_comes_while_the_item_is_made_holds_it_back(supervisor: Supervisor) -> None:
    heard = Heard()
    with Workload("trainer") as workload:
        workload.on_change(heard)

        def source() -> Iterator[str]:
            order(supervisor, heard, "pause", 0.0)
            supervisor.later(lambda: supervisor.say("run", 1.0))
            yield "item"

        for _ in workload.pace(source()):
            assert not workload.paused


def test_batches_shrink(supervisor: Supervisor) -> None:
    heard = Heard()
    with Workload("trainer") as workload:
        workload.on_change(heard)
        assert workload.batch_size(64) == 64
        for speed, full, size in [(0.5, 64, 32), (0.29, 100, 29), (0.8, 64, 51), (0.01, 64, 1), (0.5, 1, 1)]:
            order(supervisor, heard, "throttle", speed)
            assert workload.batch_size(full) == size
        order(supervisor, heard, "pause", 0.0)
        supervisor.later(lambda: supervisor.say("throttle", 0.5))
        assert workload.batch_size(64) == 32


def test_not_slowed_down_twice(supervisor: Supervisor, lines: Lines) -> None:
    """At speed 0.00001 a rest would outlast the test."""
    supervisor.say("throttle", 0.00001)
    with Workload("trainer") as workload:
        for _ in workload.pace(range(3)):
            assert workload.batch_size(64) == 1
            time.sleep(STEP_S)
        assert workload.batch_size(64) == 1
    assert [line for line in lines.warnings if "pace() only waits" in line] == lines.warnings[:1]
