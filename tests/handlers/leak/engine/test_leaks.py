"""What leaks: found, soon enough, with its begin and its pace; and over when it is."""

from itertools import pairwise

import pytest

from schemas.leak import Resource
from tests.handlers.leak.engine.programs import BEGIN_S, MIB, Life, Observed, live, memory, since


@pytest.mark.parametrize("seed", range(10))
def test_a_leak_after_a_calm(seed: int) -> None:
    life = live(memory(lambda i: 100 + 0.3 * since(i, 400), seed=seed), 1500)
    found = life.first("confirmed")
    assert found is not None
    assert 400 < found <= 400 + 320
    verdict = life.confirmed()
    assert verdict.rate_per_s is not None
    assert verdict.rate_per_s.low <= verdict.rate_per_s.value <= verdict.rate_per_s.high
    assert verdict.rate_per_s.value == pytest.approx(0.3 * MIB, rel=0.05)
    assert verdict.since_s == pytest.approx(BEGIN_S + 400, abs=64)
    assert verdict.cause is not None
    assert (verdict.cause.driver, verdict.cause.per_call, verdict.cause.alike) == ("time", None, ())
    assert verdict.cause.explained > 0.95


def test_a_leak_is_told_once() -> None:
    life = live(memory(lambda i: 100 + 0.3 * since(i, 400)), 3000)
    assert [verdict.stage for _, verdict in life.changes if verdict.stage == "confirmed"] == ["confirmed"]


def test_observe_returns_what_changed_and_nothing_else() -> None:
    life = live(memory(lambda i: 100 + 0.3 * since(i, 400)), 2000)
    stages = [verdict.stage for _, verdict in life.changes]
    assert all(before != after for before, after in pairwise(stages))
    assert stages[-1] == life.stage()


@pytest.mark.parametrize(
    ("resource", "begin", "a_second"),
    [("rss", 150 * MIB, 0.5 * MIB), ("vram", 8000 * MIB, 50 * MIB), ("vram", 8000 * MIB, 5 * MIB),
     ("handles", 40, 0.25), ("threads", 12, 0.25)],
)  # fmt: skip
def test_every_resource(resource: Resource, begin: float, a_second: float) -> None:
    life = live(lambda i: Observed({resource: float(int(begin + a_second * since(i, 300)))}), 900)
    verdict = life.confirmed(resource)
    assert verdict.rate_per_s is not None
    assert verdict.rate_per_s.value == pytest.approx(a_second, rel=0.1)


@pytest.mark.parametrize("step_s", [0.1, 1.0, 10.0, 60.0])
def test_the_same_at_every_pace_of_samples(step_s: float) -> None:
    life = live(memory(lambda i: 100 + 0.3 * since(i, 400)), 900, step_s=step_s)
    one = live(memory(lambda i: 100 + 0.3 * since(i, 400)), 900)
    assert life.first("confirmed") == one.first("confirmed") is not None
    rate = life.confirmed().rate_per_s
    assert rate is not None
    assert rate.value == pytest.approx(0.3 * MIB / step_s, rel=0.05)


def test_a_leak_from_the_start_is_confirmed_once_it_has_lasted() -> None:
    life = live(memory(lambda i: 100 + 0.3 * i), 1500)
    assert life.stage() == "confirmed"
    assert (life.first("confirmed") or 0) > 200, "nothing tells it from a warm-up so soon"


@pytest.mark.parametrize("seed", range(5))
def test_the_troughs_of_a_saw_tooth_rise(seed: int) -> None:
    life = live(memory(lambda i: 100 + 2 * (i % 40) + 0.1 * i, seed=seed), 1500)
    assert life.alarms()
    rate = life.confirmed().rate_per_s
    assert rate is not None
    assert rate.value == pytest.approx(0.1 * MIB, rel=0.2)


def test_a_saw_tooth_that_leaks_is_not_cleared_by_every_collection() -> None:
    life = live(memory(lambda i: 100 + 2 * (i % 40) + 0.1 * i), 1500)
    assert len(life.alarms()) == 1


def test_a_leak_that_stops_is_over() -> None:
    life = live(memory(lambda i: 100 + 0.3 * min(300, since(i, 400))), 2500)
    assert len(life.alarms()) == 1
    assert life.stage() in ("steady", "warming")
    cleared = next(verdict for _, verdict in reversed(life.changes) if "stayed" in verdict.reason)
    assert cleared.stage == "steady"


def test_a_leak_that_is_given_back_is_over() -> None:
    life = live(memory(lambda i: 100 + (0.3 * since(i, 400) if i < 900 else 0)), 900)
    assert life.stage() == "confirmed"
    life.feed(memory(lambda _: 100), 100)
    assert life.stage() == "steady"
    assert any("given back" in verdict.reason for _, verdict in life.changes)


def test_a_leak_that_comes_again_is_told_again() -> None:
    life = live(memory(lambda i: 100 + 0.3 * since(i, 400) % 120), 800)
    life.feed(memory(lambda _: 100), 600)
    assert life.stage() == "steady"
    life.feed(memory(lambda i: 100 + 0.3 * since(i, 1700)), 1600)
    assert life.stage() == "confirmed"
    assert len(life.alarms()) == 2


def test_a_restart_in_the_middle() -> None:
    """The program begins anew: its counters fall, its memory drops, and it leaks as before."""

    def program(i: int) -> Observed:
        of_life = i % 800
        return Observed(
            {"rss": (100 + 0.3 * since(of_life, 250)) * MIB, "threads": 5.0}, {"X": of_life // 2, "Y": of_life // 3}
        )

    life = live(program, 800)
    assert life.stage() == "confirmed"
    life.feed(program, 100)
    assert life.stage() != "confirmed", "what was known of the one that ended is over"
    life.feed(program, 700)
    verdict = life.confirmed()
    assert len(life.alarms()) == 2
    assert verdict.since_s is not None
    assert verdict.since_s > BEGIN_S + 800
    assert verdict.rate_per_s is not None
    assert verdict.rate_per_s.value == pytest.approx(0.3 * MIB, rel=0.1)


def test_memory_of_another_process_does_not_come_in() -> None:
    leaking, calm = Life(), Life()
    leaking.feed(memory(lambda i: 100 + 0.3 * since(i, 400)), 900)
    calm.feed(memory(lambda _: 100), 900)
    assert (leaking.stage(), calm.stage()) == ("confirmed", "steady")


@pytest.mark.parametrize("begin", [237, 459, 533])
def test_a_leak_that_begins_without_a_jump_has_none(begin: int) -> None:
    life = live(memory(lambda i: 200 + 5 * since(i, begin), noise=0.2), begin + 500)
    assert life.confirmed().jumps == ()
