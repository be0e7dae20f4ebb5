"""What drives a leak: calls, threads, or time; how much a call; and what cannot be told apart."""

import math
import random

import pytest

from schemas.leak import Cause
from tests.handlers.leak.engine.programs import BEGIN_S, MIB, Life, Observed, Program, calling, live, since


def cause(life: Life, resource: str = "rss") -> Cause:
    found = life.confirmed(resource).cause  # type: ignore[arg-type]
    assert found is not None
    return found


@pytest.mark.parametrize("seed", range(6))
def test_a_thread_a_call(seed: int) -> None:
    found = cause(live(calling(begin=300, chance_of_call=0.3, seed=seed), 1200), "threads")
    assert (found.driver, found.alike, found.tell_apart) == ("calls.X", (), "")
    assert found.per_call is not None
    assert found.per_call.low <= 1 <= found.per_call.high or found.per_call.value == pytest.approx(1, abs=0.02)
    assert found.explained > 0.98


@pytest.mark.parametrize("seed", range(6))
def test_memory_is_explained_through_the_threads(seed: int) -> None:
    found = cause(live(calling(begin=300, chance_of_call=0.3, seed=seed), 1200))
    assert (found.driver, found.through) == ("threads", "calls.X")
    assert found.per_call is not None
    assert found.per_call.value == pytest.approx(0.25 * MIB, rel=0.05)


@pytest.mark.parametrize("seed", range(6))
def test_a_pool_that_starts_with_the_first_call_is_told_apart(seed: int) -> None:
    life = live(calling(begin=300, chance_of_call=0.15, seed=seed, pool=34), 1300)
    threads = life.confirmed("threads")
    found = cause(life, "threads")
    assert found.driver == "calls.X"
    assert found.per_call is not None
    assert found.per_call.value == pytest.approx(1, abs=0.1)
    jump = max(threads.jumps, key=lambda each: each.amount)
    assert jump.first_call == "calls.X"
    assert jump.amount == pytest.approx(34, abs=8)
    assert jump.at_s == pytest.approx(BEGIN_S + 300, abs=64)


def _memory_by_calls(seed: int) -> Program:
    """Two counters at paces of their own; each X keeps 0.3 MiB from sample 400 on."""
    chance, x, y, kept = random.Random(seed), 0, 0, 0

    def program(i: int) -> Observed:
        nonlocal x, y, kept
        call = chance.random() < (0.2 if i % 600 < 300 else 0.8)
        x += call
        y += chance.random() < 0.5
        kept += call and i >= 400
        return Observed({"rss": (100 + 0.3 * kept + chance.gauss(0, 0.5)) * MIB}, {"X": x, "Y": y})

    return program


@pytest.mark.parametrize("seed", range(6))
def test_calls_at_a_changing_pace_are_told_from_time(seed: int) -> None:
    found = cause(live(_memory_by_calls(seed), 1500))
    assert (found.driver, found.alike) == ("calls.X", ())
    assert found.per_call is not None
    assert found.per_call.low < 0.3 * MIB < found.per_call.high or found.per_call.value == pytest.approx(
        0.3 * MIB, rel=0.03
    )
    assert found.per_call.low < found.per_call.value < found.per_call.high


def test_a_leak_by_time_is_not_blamed_on_calls_at_another_pace() -> None:
    chance, calls = random.Random(3), 0

    def program(i: int) -> Observed:
        nonlocal calls
        calls += chance.random() < 0.4 + 0.35 * math.sin(i / 50)
        return Observed({"rss": (100 + 0.2 * since(i, 400) + chance.gauss(0, 0.5)) * MIB}, {"X": calls})

    found = cause(live(program, 1500))
    assert found.driver == "time"
    assert found.per_call is None


def test_a_confounder_that_is_called_beside_the_culprit() -> None:
    """Both at the same swinging pace (their correlation is above .99), but each on its own."""
    chance, x, z = random.Random(1), 0, 0

    def program(i: int) -> Observed:
        nonlocal x, z
        pace = (2 + 1.5 * math.sin(i / 60)) / 4
        if i >= 300:
            x += chance.random() < pace
            z += chance.random() < pace
        return Observed({"rss": (100 + 0.6 * x + chance.gauss(0, 0.25)) * MIB}, {"X": x, "Z": z})

    assert cause(live(program, 1500)).driver == "calls.X"


@pytest.mark.parametrize("from_the_start", [True, False])
def test_two_counters_that_move_together_cannot_be_told_apart(from_the_start: bool) -> None:
    chance, calls, kept = random.Random(1), 0, 0

    def program(i: int) -> Observed:
        nonlocal calls, kept
        call = (from_the_start or i >= 300) and chance.random() < 0.4 + 0.35 * math.sin(i / 60)
        calls += call
        kept += call and i >= 300
        return Observed({"rss": (100 + 0.5 * kept + chance.gauss(0, 0.25)) * MIB}, {"X": calls, "Z": calls})

    found = cause(live(program, 1500))
    assert {found.driver, *found.alike} >= {"calls.X", "calls.Z"}
    assert found.tell_apart


def test_one_counter_that_is_reset_alone_goes_on_from_where_it_was() -> None:
    def program(i: int) -> Observed:
        calls = since(i, 300) // 2
        return Observed({"threads": 5 + calls}, {"X": calls if i < 700 else calls - 200, "Y": i // 3})

    life = live(program, 1200)
    found = cause(life, "threads")
    assert found.driver == "calls.X"
    assert found.per_call is not None
    assert found.per_call.value == pytest.approx(1, abs=0.02)
    assert len(life.alarms()) == 1


def test_a_counter_that_comes_late() -> None:
    """The status server of a program is reached only once it is up."""

    def program(i: int) -> Observed:
        calls = since(i, 300) // 2
        return Observed({"threads": 5 + calls}, {"X": calls} if i >= 200 else {})

    assert cause(live(program, 1200), "threads").driver == "calls.X"


def test_a_counter_that_stands_still_is_no_driver() -> None:
    life = live(lambda i: Observed({"rss": (100 + 0.3 * since(i, 300)) * MIB}, {"X": 17}), 1000)
    assert cause(life).driver == "time"
