"""What follows the load, and which of several candidates drives a growth, on data that were made so."""

import math
import random

import pytest

from handlers.leak.attribution import explain
from handlers.leak.load import Following, filled, follows, rates, steps

POINTS = 60


def _counts(pace: float, seed: int, points: int = POINTS) -> list[float]:
    chance, total, counted = random.Random(seed), 0.0, []
    for _ in range(points):
        total += sum(chance.random() < pace for _ in range(20))
        counted.append(total)
    return counted


TIME = [10.0 * i for i in range(POINTS)]


def _following(level: list[float], load: list[float]) -> Following:
    return follows(steps(level), steps(load))


@pytest.mark.parametrize("seed", range(5))
def test_the_counter_that_drives_it(seed: int) -> None:
    chance = random.Random(seed)
    x, y = _counts(0.3, seed + 10), _counts(0.5, seed + 20)
    levels = [50 + 0.25 * count + chance.gauss(0, 0.1) for count in x]
    cause, runner_up = explain(levels, {"time": TIME, "calls.X": x, "calls.Y": y})
    assert (cause.driver, cause.alike, cause.tell_apart) == ("calls.X", (), "")
    assert cause.per_call is not None
    assert cause.per_call.low < 0.25 < cause.per_call.high
    assert cause.explained > 0.99
    assert runner_up in ("time", "calls.Y")


def test_the_interval_holds_the_truth_in_most_cases() -> None:
    held, runs = 0, 100
    for seed in range(runs):
        chance, off = random.Random(seed), 0.0
        x, levels = _counts(0.3, 1000 + seed), []
        for count in x:
            off = 0.6 * off + chance.gauss(0, 1)
            levels.append(0.5 * count + off)
        cause, _ = explain(levels, {"time": TIME, "calls.X": x})
        if cause.per_call is not None:
            held += cause.per_call.low < 0.5 < cause.per_call.high
        else:
            runs -= 1
    assert runs > 60
    assert held / runs > 0.9


def test_a_half_in_which_nothing_was_called_says_nothing() -> None:
    chance = random.Random(5)
    x = [0.0] * 12 + [100.0 * i for i in range(1, 13)]
    levels = [count + chance.gauss(0, 5) for count in x]
    cause, _ = explain(levels, {"time": TIME[:24], "calls.X": x})
    assert cause.per_call is not None
    assert 0.95 < cause.per_call.low < 1 < cause.per_call.high < 1.05


def test_halves_that_differ_are_uncertainty() -> None:
    """An amount a call that grows is more than a line and noise: the interval reaches to what it was and is."""
    x = _counts(0.3, 7)
    half = x[POINTS // 2]
    levels = [0.4 * min(count, half) + 0.6 * max(0.0, count - half) for count in x]
    cause, _ = explain(levels, {"time": TIME, "calls.X": x})
    assert cause.driver == "calls.X"
    assert cause.per_call is not None
    assert cause.per_call.low < 0.4 < 0.5 < 0.6 < cause.per_call.high


@pytest.mark.parametrize("seed", range(5))
def test_time_alone(seed: int) -> None:
    chance = random.Random(seed)
    levels = [50 + 0.3 * t + chance.gauss(0, 0.5) for t in TIME]
    cause, _ = explain(levels, {"time": TIME, "calls.X": _counts(0.3, seed)})
    assert (cause.driver, cause.per_call) == ("time", None)


def test_candidates_that_are_the_same_are_alike() -> None:
    x = _counts(0.3, 4)
    chance = random.Random(4)
    levels = [50 + count + chance.gauss(0, 0.2) for count in x]
    cause, _ = explain(levels, {"time": TIME, "calls.X": x, "calls.Z": list(x), "calls.Y": _counts(0.5, 5)})
    assert {cause.driver, *cause.alike} == {"calls.X", "calls.Z"}
    assert "X" in cause.tell_apart
    assert "Z" in cause.tell_apart


def test_even_calls_are_alike_with_time() -> None:
    even = [float(2 * i) for i in range(POINTS)]
    cause, _ = explain([100 + 3.0 * i for i in range(POINTS)], {"time": TIME, "calls.X": even})
    assert {cause.driver, *cause.alike} == {"time", "calls.X"}
    assert "pace of X" in cause.tell_apart


def test_whole_numbers_a_call_are_no_chance() -> None:
    even = [float(2 * i) for i in range(POINTS)]
    cause, _ = explain([5 + x for x in even], {"time": TIME, "calls.X": even}, whole=True)
    assert cause.driver == "calls.X"
    assert cause.per_call is not None
    assert cause.per_call.value == pytest.approx(1)


def test_threads_that_leak_explain_memory() -> None:
    x = _counts(0.3, 6)
    chance = random.Random(6)
    threads = [5 + count for count in x]
    levels = [8 * count + chance.gauss(0, 2) for count in threads]
    candidates = {"time": TIME, "calls.X": x, "threads": threads}
    assert explain(levels, candidates, ["threads"])[0].driver == "threads"
    assert explain(levels, candidates, ["threads"])[1] == "calls.X"


def test_what_stands_still_or_falls_is_no_driver() -> None:
    falling = [-t for t in TIME]
    cause, _ = explain(TIME, {"time": TIME, "calls.X": [7.0] * POINTS, "threads": falling}, ["threads"])
    assert cause.driver == "time"
    assert cause.alike == ()


def test_a_level_that_moves_with_a_gauge() -> None:
    chance, queue = random.Random(1), [50.0]
    for _ in range(POINTS - 1):
        queue.append(queue[-1] + chance.gauss(0, 5))
    found = _following([200 + 1.5 * q + chance.gauss(0, 1) for q in queue], queue)
    assert found.closeness > 0.9
    assert found.amount == pytest.approx(1.5, rel=0.15)


def test_a_level_that_does_not_follow() -> None:
    chance = random.Random(2)
    noise = [chance.gauss(0, 1) for _ in range(POINTS)]
    assert _following([3.0 * i for i in range(POINTS)], noise).closeness < 0.5
    assert _following([chance.gauss(0, 1) for _ in range(POINTS)], noise).closeness < 0.5
    assert _following([5.0] * POINTS, noise).closeness == 0


def test_one_coincidence_is_none() -> None:
    """A restart moves everything at once."""
    chance = random.Random(3)
    values = [(100 if i > 30 else 0) + chance.gauss(0, 1) for i in range(POINTS)]
    load = [(50 if i > 30 else 0) + chance.gauss(0, 1) for i in range(POINTS)]
    assert _following(values, load).closeness < 0.5


def test_rates_of_a_counter() -> None:
    assert rates([10, 20, 30, 40], [0, 5, 25, 3])[1:3] == [0.5, 2.0]
    assert [math.isnan(rate) for rate in rates([10, 20, 30, 40], [0, 5, 25, 3])] == [True, False, False, True]
    assert filled([math.nan, 2.0, math.nan, 4.0]) == [2.0, 2.0, 2.0, 4.0]
    assert filled([math.nan]) == []
