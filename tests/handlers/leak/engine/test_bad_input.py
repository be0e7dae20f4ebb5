"""Whatever a program tells: nothing raises, nothing that is told is not a number, and what is kept stays small."""

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handlers.leak.policy import Subject
from handlers.leak.settings import Settings
from schemas.leak import Interval, Resource, Verdict
from tests.handlers.leak.engine.programs import MIB, Life, Observed, Program, live, memory, since

INFINITY = math.inf
NAN = math.nan


def check(verdict: Verdict) -> None:
    """Everything in it is finite, intervals are in order, shares are shares."""
    numbers = [verdict.at_s, verdict.since_s or 0.0, verdict.undecided_until_s or 0.0]
    intervals = [verdict.rate_per_s, verdict.cause.per_call if verdict.cause else None]
    for interval in (each for each in intervals if each is not None):
        assert isinstance(interval, Interval)
        numbers += [interval.value, interval.low, interval.high]
        assert interval.low <= interval.value <= interval.high, verdict
    for jump in verdict.jumps:
        numbers += [jump.at_s, jump.amount]
    if verdict.cause is not None:
        assert 0 <= verdict.cause.explained <= 1
        assert verdict.cause.driver not in verdict.cause.alike
    assert all(math.isfinite(number) for number in numbers), verdict
    assert verdict.reason or verdict.stage == "unknown"


def check_all(life: Life) -> None:
    for _, verdict in life.changes:
        check(verdict)
    for resource, verdict in life.subject.verdicts.items():
        assert verdict.resource == resource
        check(verdict)
    Subject.unpack(life.subject.pack(), Settings())


def rss(curve: Callable[[int], float]) -> Program:
    return lambda i: Observed({"rss": curve(i)})


def threads(counter: Callable[[int], float]) -> Program:
    return lambda i: Observed({"threads": 5 + i // 3}, {"X": counter(i)})


def gauge(value: Callable[[int], float]) -> Program:
    return lambda i: Observed({"rss": (100 + i) * MIB}, {}, {"queue": value(i)})


@pytest.mark.parametrize(
    "program",
    [
        rss(lambda _: NAN), rss(lambda _: INFINITY), rss(lambda i: NAN if i % 7 == 3 else (100 + i) * MIB),
        rss(lambda i: INFINITY if i % 7 == 3 else (100 + i) * MIB), rss(lambda i: -INFINITY if i == 300 else i * MIB),
        rss(lambda i: -(100 + i) * MIB), rss(lambda i: (i - 450) * MIB), rss(lambda _: 0), rss(lambda i: 1e-300 * i),
        rss(lambda i: 1e18 + 1e15 * since(i, 300)), rss(lambda i: float(2**63 - 1 if i % 2 else 0)),
        threads(lambda i: NAN if i % 7 == 0 else i), threads(lambda i: INFINITY if i % 7 == 0 else i),
        threads(lambda _: NAN), threads(lambda i: 1e9 - i), threads(lambda i: -i), threads(lambda i: i * 1e15),
        threads(lambda i: float(2**62 + i)), threads(lambda i: random.Random(i).random()),
        gauge(lambda i: NAN if i % 5 == 0 else i), gauge(lambda i: INFINITY if i % 5 == 0 else i),
        gauge(lambda i: -(2.0**62) * (i % 2)), gauge(lambda i: 1e18 * (i % 3)),
        lambda i: Observed({}), lambda i: Observed({}, {"X": i}, {"queue": i}),
    ],
)  # fmt: skip
def test_values_of_all_kinds(program: Program) -> None:
    check_all(live(program, 900))


@pytest.mark.parametrize(
    "program",
    [rss(lambda i: 1e300 * (1 + 0.01 * since(i, 300))), rss(lambda i: 1e308 * (1 + 0.0005 * i)),
     threads(lambda i: 1e300 * i), gauge(lambda i: 1e200 * (i % 3)), rss(lambda i: 10**400 + i),
     threads(lambda i: 2**70 * (i + 1))],
)  # fmt: skip
def test_values_that_are_too_large_to_be_meant(program: Program) -> None:
    check_all(live(program, 900))


def test_one_value_that_is_no_number_changes_nothing() -> None:
    plain = memory(lambda i: 100 + 0.5 * since(i, 300))
    spoiled = memory(lambda i: NAN if i % 97 == 5 else 100 + 0.5 * since(i, 300))
    life, other = live(plain, 900), live(spoiled, 900)
    assert other.first("confirmed") == pytest.approx(life.first("confirmed"), abs=64)
    cause = other.confirmed().cause
    assert cause is not None
    assert cause.explained > 0.95


def test_a_count_that_is_no_number_is_as_good_as_none() -> None:
    def program(i: int) -> Observed:
        calls = since(i, 300) // 2
        return Observed({"threads": 5 + calls}, {"X": NAN if i % 7 == 3 else calls})

    cause = live(program, 1000).confirmed("threads").cause
    assert cause is not None
    assert cause.driver == "calls.X"


def test_sixty_counters_of_which_one_is_it() -> None:
    chance = random.Random(2)
    calls = [0] * 60

    def program(i: int) -> Observed:
        for k in range(60):
            calls[k] += chance.random() < (k % 17 + 1) / 20 * (i >= 200 or k != 47)
        return Observed({"threads": 5 + calls[47]}, {f"n{k}": calls[k] for k in range(60)})

    life = live(program, 600)
    check_all(life)
    cause = life.confirmed("threads").cause
    assert cause is not None
    assert cause.driver == "calls.n47"


def test_more_names_than_can_be_kept() -> None:
    """A counter named after each request: what is kept stays small, and what is measured is judged all the same."""

    def program(i: int) -> Observed:
        names = range(i - i % 200, i + 1)
        return Observed({"threads": 5 + i // 3}, {f"n{k}": k for k in names}, {f"g{k}": k for k in names})

    life = live(program, 900)
    check_all(life)
    assert set(life.subject.verdicts) == {"threads"}
    assert len(life.subject.pack()) < 600_000


def test_names_that_come_late_and_resources_that_vanish_and_come_back() -> None:
    def program(i: int) -> Observed:
        levels: dict[Resource, float] = {"rss": (100 + i) * MIB} if i // 100 % 2 else {"threads": 5 + i // 3}
        return Observed(levels, {f"n{k}": i // (k + 1) for k in range(i // 90)}, {f"g{i // 200}": i})

    check_all(live(program, 1200))


def test_a_resource_that_is_not_measured_for_long_is_taken_up_again() -> None:
    life = live(lambda i: Observed({"rss": (100 + 0.3 * since(i, 900)) * MIB} if not 300 < i < 600 else {}), 1500)
    assert life.stage() == "confirmed"


@pytest.mark.parametrize("times", [[5.0] * 400, [400.0 - i for i in range(400)], [NAN, INFINITY, -INFINITY] * 100])
def test_times_that_do_not_go_on_are_passed_over(times: list[float]) -> None:
    subject = Subject(Settings())
    for i, t_s in enumerate(times):
        assert subject.observe(t_s, {"rss": i * MIB}, {}, {}) == ()
    assert subject.verdicts == {}


def test_times_that_go_back_now_and_then() -> None:
    plain, uneasy = Subject(Settings()), Subject(Settings())
    chance = random.Random(4)
    for i in range(900):
        level: dict[Resource, float] = {"rss": (100 + 0.3 * since(i, 300) + chance.gauss(0, 0.5)) * MIB}
        assert plain.observe(float(i), level, {}, {}) == uneasy.observe(float(i), level, {}, {})
        uneasy.observe(i - 3.0, {"rss": 0}, {}, {})
        uneasy.observe(float(i), {"rss": 1e12}, {}, {})
    assert plain.pack() == uneasy.pack()


def test_times_that_jump_by_days() -> None:
    life = Life()
    for i in range(1200):
        t_s = i + 86_400.0 * (i // 200)
        if i and i % 200 == 0:
            life.subject.interrupt()
        for verdict in life.subject.observe(t_s, {"rss": 200 * MIB, "threads": 5}, {"X": i}, {}):
            check(verdict)
    assert life.stage() == "steady"


def test_interrupted_at_random() -> None:
    chance = random.Random(6)
    life = Life()
    program = memory(lambda i: 100 + 0.5 * since(i, 400))
    for _ in range(1500):
        life.feed(program, 1)
        if chance.random() < 0.02:
            life.subject.interrupt()
    check_all(life)
    assert life.stage() == "confirmed"


def test_interrupted_before_every_sample() -> None:
    life = Life()
    for _ in range(300):
        life.subject.interrupt()
        life.feed(memory(lambda i: i), 1)
    check_all(life)


def test_one_observation_says_nothing() -> None:
    subject = Subject(Settings())
    assert subject.observe(7.0, {"rss": 1e8}, {"X": 1.0}, {"queue": 3.0}) == ()
    assert subject.verdicts == {}
    assert Subject.unpack(subject.pack(), Settings()).pack() == subject.pack()


ODD = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True, width=32), st.integers(-(2**62), 2**62).map(float),
    st.sampled_from([0.0, -0.0, NAN, INFINITY, -INFINITY, 1e18]),
)  # fmt: skip
SHAPES = st.tuples(
    st.sampled_from(["rss", "vms", "threads", "handles", "vram"]), ODD, ODD, st.floats(-10, 10), st.booleans()
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    shapes=st.lists(SHAPES, min_size=1, max_size=3),
    odd=st.lists(st.tuples(st.integers(0, 149), ODD), max_size=12),
    counts=st.lists(ODD, max_size=3),
    interrupts=st.sets(st.integers(0, 149), max_size=4),
)
def test_random_lives(
    shapes: list[tuple[Resource, float, float, float, bool]],
    odd: list[tuple[int, float]],
    counts: list[float],
    interrupts: set[int],
) -> None:
    """Whatever the start, the slope and what comes in between."""
    life = Life()
    strange = dict(odd)

    def program(i: int) -> Observed:
        levels = {
            resource: strange.get(i, start + slope * i + bend * i * i) if kept or i % 3 else start
            for resource, start, slope, bend, kept in shapes
        }
        return Observed(
            levels, {f"n{k}": strange.get(i + k, count * i) for k, count in enumerate(counts)},
            {"queue": strange.get(i, i % 7)},
        )  # fmt: skip

    for i in range(150):
        if i in interrupts:
            life.subject.interrupt()
        life.feed(program, 1)
    check_all(life)
