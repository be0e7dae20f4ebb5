"""When prediction is trusted, when it is not, and what holds for every sequence of samples."""

from collections.abc import Callable, Sequence
from functools import cache
from math import isfinite
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bench.thermal_sim.card import Card, Nature
from bench.thermal_sim.controllers import Flyball
from bench.thermal_sim.drive import drive
from bench.thermal_sim.fleet import fleet
from handlers.throttle.ladder import CRITICAL, Ladder
from handlers.throttle.policy import Governor, Move, observe, watch
from handlers.throttle.settings import Settings
from schemas.sample import Sample
from tests.handlers.courses import courses
from tests.handlers.samples import BOOT, gpu, sample

SETTINGS = Settings(policy="predictive")
LADDER = Settings(policy="ladder")
WARM = Nature(
    kind="warm",
    memory_bound=False,
    tau_s=30.0,
    rise_celsius=55.0,
    idle_ratio=0.15,
    fan_lag_s=5.0,
    sensor_delay_s=1,
    sensor_noise_celsius=0.3,
    ambient_celsius=((0, 25.0),),
)


class Drive:
    """One card at work under a governor, second by second; `tamper` may change a sample before it is taken in."""

    def __init__(self, nature: Nature = WARM, settings: Settings = SETTINGS) -> None:
        self.card = Card(nature, seed=1)
        self.governor, self.settings, self.second = Governor(), settings, 1000.0
        self.moves: list[Move] = []

    def go(self, seconds: int, tamper: Callable[[Sample], Sample] = lambda sample: sample) -> list[Move]:
        """The moves of so many seconds."""
        new: list[Move] = []
        for _ in range(seconds):
            self.second += 1
            one = sample(self.second, [gpu(self.card.reading_celsius(), self.card.memory_percent)], boot_id=BOOT)
            new += observe(self.governor, tamper(one), one.id, self.settings)
            self.card.step(self.speed)
        self.moves += new
        return new

    def until_trusted(self) -> None:
        for _ in range(300):
            self.go(1)
            if self.trusted:
                return
        raise AssertionError("not trusted within five minutes")

    @property
    def ladder(self) -> Ladder:
        return self.governor.gpus[0]

    @property
    def speed(self) -> float:
        assert self.ladder.demand is not None
        return self.ladder.demand.speed

    @property
    def trusted(self) -> bool:
        return self.ladder.prediction is not None and self.ladder.prediction.trusted


def test_until_it_has_proven_right_the_ladder_decides_and_then_that_is_said() -> None:
    course = Drive()
    course.until_trusted()
    # how long it took is the trials' business; that it goes by forecasts only from now on is said at once
    assert "forecasts have come true for 60 s, so it goes by them" in course.moves[-1].text
    assert 60 <= course.second - 1000 <= 300
    assert all("forecasts have come true" not in move.text for move in course.moves[:-1])


def test_a_warm_card_works_faster_than_the_ladder_lets_it_and_stays_below_its_limit() -> None:
    course, baseline = Drive(), Drive(settings=LADDER)
    course.go(1200)
    baseline.go(1200)
    assert course.speed > baseline.speed
    assert course.card.work > 1.2 * baseline.card.work
    assert course.card.seconds_above_85 == 0


def test_states_are_still_those_of_the_ladder() -> None:
    course = Drive()
    course.until_trusted()
    course.go(400)
    assert course.ladder.state == "THROTTLED" and course.card.celsius >= 75
    assert course.speed > 0.5


def test_a_dying_fan_is_survived_and_said() -> None:
    dying = replace(WARM, fan_dies_at_s=600.0, fan_dies_within_s=10.0, fan_left_ratio=0.0)
    course = Drive(dying)
    course.go(600)
    before = course.speed
    assert course.trusted and before > 0.8
    said = course.go(200)
    assert any("so it falls back to the ladder until forecasts come true again" in move.text for move in said)
    course.go(1200)
    assert course.card.seconds_above_90 == 0
    assert course.speed < before
    assert course.trusted  # it has learned the card as it now is


def test_what_was_forecast_and_what_came_stand_in_the_sentence() -> None:
    course = Drive()
    course.until_trusted()
    (move, *_) = course.go(30, lambda one: _hotter(one, 12.0))
    assert "°C where" in move.text and "were forecast, so it falls back to the ladder" in move.text
    assert not course.trusted
    assert course.speed <= course_ladder_speed(course)


def course_ladder_speed(course: Drive) -> float:
    """What the ladder alone would give now."""
    return (1.0, 0.8, 0.5, 0.0)[course.ladder.rung]


def _hotter(one: Sample, celsius: float) -> Sample:
    (card,) = one.gpus
    assert card.temperature_celsius is not None
    return replace(one, gpus=(replace(card, temperature_celsius=card.temperature_celsius + celsius),))


def _blind(one: Sample) -> Sample:
    return replace(one, gpus=(gpu(None, None, reading="blind"),))


def test_blind_is_no_faster_than_the_ladder() -> None:
    course = Drive()
    course.until_trusted()
    course.go(400)
    assert course.speed > 0.5
    (move,) = course.go(1, _blind)
    assert "keeps" not in move.text, "it is slower than it was"
    assert course.ladder.state == "BLIND" and course.speed == 0.5
    assert move.demand is not None and move.demand.speed == 0.5
    assert course.go(40, _blind) == []
    assert course.ladder.prediction is None  # what it knew is void
    course.go(30)
    assert not course.trusted and course.speed <= 0.5


def test_a_gap_voids_what_was_learned() -> None:
    course = Drive()
    course.until_trusted()
    course.second += 60
    course.go(1)
    prediction = course.ladder.prediction
    assert prediction is not None and not prediction.trusted and prediction.proofs == 0
    assert prediction.thermal is not None and prediction.thermal.readings == 1
    assert course.speed <= course_ladder_speed(course)


def test_a_reading_above_critical_pauses_whatever_was_forecast() -> None:
    course = Drive()
    course.until_trusted()
    (move, *_) = course.go(1, lambda one: replace(one, gpus=(gpu(86.0, 30.0),)))
    assert move.demand is not None and move.demand.speed == 0 and "86 °C is above 85 °C" in move.text


def test_settings_switch_the_policy_at_the_next_sample() -> None:
    course = Drive()
    course.until_trusted()
    course.go(400)
    assert course.speed > 0.5
    course.settings = LADDER
    (move,) = course.go(1)
    assert course.speed == 0.5 and "the ladder decides from now on" in move.text
    assert course.ladder.prediction is None
    course.settings = SETTINGS
    course.go(1)
    assert not course.trusted and course.speed == 0.5
    course.until_trusted()


def _filling(percent: float, growth: float, ceiling: float = 200.0) -> Nature:
    return replace(
        WARM, rise_celsius=25.0, memory_percent=percent, memory_growth=growth, memory_ceiling_percent=ceiling
    )


def test_memory_that_is_full_but_steady_is_no_reason_to_slow_down() -> None:
    course = Drive(_filling(88.0, 0.0))
    course.until_trusted()
    course.go(60)
    assert course.speed == 1.0


def test_memory_that_grows_is_slowed_before_its_limit_and_a_cleanup_is_asked_for() -> None:
    course, cleanups = Drive(_filling(60.0, 0.1)), []
    for _ in range(600):
        course.go(1)
        assert course.ladder.demand is not None
        if course.card.memory_percent < 95:
            cleanups.append((course.ladder.demand.cleanup, course.speed))
        else:
            break
    assert {cleanup for cleanup, _ in cleanups} == {"none", "soft"}
    assert cleanups[0] == ("none", 1.0)
    assert min(speed for cleanup, speed in cleanups if cleanup == "soft") <= 0.25


def test_memory_that_jumps_is_a_forecast_that_was_wrong() -> None:
    course = Drive()
    course.until_trusted()
    course.card.memory_percent += 15.0
    (move,) = course.go(2)
    assert "% of memory where" in move.text and "falls back to the ladder" in move.text


@pytest.mark.timeout(60)
def test_three_cards_of_the_simulator_stay_below_90_with_few_directives() -> None:
    natures = [nature for nature in fleet(seed=11, seconds=900, count=6) if nature.kind != "growing VRAM"][:3]
    scores = drive(natures, Flyball(SETTINGS), 900)
    assert [score.seconds_above_90 for score in scores] == [0, 0, 0]
    assert max(score.changes_a_minute for score in scores) <= 4.0


# What holds for every sequence. A trained governor takes the random course up.


@cache
def _trained() -> bytes:
    """A governor that trusts its forecasts of two cards, and when it last saw them."""
    course = Drive()
    for _ in range(400):
        course.second += 1
        celsius, percent = course.card.reading_celsius(), course.card.memory_percent
        one = sample(course.second, [gpu(celsius, percent), gpu(celsius, percent, index=1)], boot_id="boot-a")
        observe(course.governor, one, one.id, SETTINGS)
        course.card.step(course.speed)
    assert course.trusted
    return msgspec.msgpack.encode(course.governor)


def trained() -> Governor:
    return msgspec.msgpack.decode(_trained(), type=Governor)


def following(governor: Governor, course: Sequence[Sample], stride_s: float) -> list[Sample]:
    """The course, in its own order and on the clock of the governor, so often that it is no gap throughout."""
    return [
        replace(one, monotonic_s=governor.monotonic_s + stride_s * (number + 1), boot_id=governor.boot_id, tick=number)
        for number, one in enumerate(course)
    ]


def fed(governor: Governor, course: Sequence[Sample]) -> list[list[Move]]:
    every: list[list[Move]] = []
    for number, one in enumerate(course):
        every.append(observe(governor, one, one.id, SETTINGS))
        if number % 3 == 0:
            every.append(watch(governor, one.monotonic_s + 2, 0.0, SETTINGS))
    return every


@given(courses(), st.sampled_from([0.2, 1.0, 1.0, 2.0]))
def test_no_course_of_samples_leads_out_of_bounds(course: list[Sample], stride_s: float) -> None:
    governor = trained()
    speed: dict[str, float] = {
        ladder.target: ladder.demand.speed for ladder in governor.ladders() if ladder.demand is not None
    }
    for one in following(governor, course, stride_s):
        for move in observe(governor, one, one.id, SETTINGS):
            target, demand = move.event.target, move.demand
            if demand is None:
                speed.pop(target, None)
                continue
            assert isfinite(demand.speed) and 0 <= demand.speed <= 1
            if getattr(move.event, "state", "") == "BLIND":
                assert demand.speed <= speed.get(target, 0.5)
            speed[target] = demand.speed
        for ladder in governor.ladders():
            if ladder.demand is None or not (ladder.blind or ladder.seen_s == one.monotonic_s):
                continue  # this sample said nothing of it
            ladder_speed = (1.0, 0.8, 0.5, 0.0)[ladder.rung] if ladder.rung >= 0 else 0.5
            if ladder.rung == CRITICAL and not ladder.futile and not ladder.blind:
                assert ladder.demand.speed == 0
            if ladder.blind and not (ladder.rung == CRITICAL and ladder.futile):
                assert ladder.demand.speed <= ladder_speed
            if not ladder.blind and ladder.rung != CRITICAL and not _is_trusted(ladder):
                assert ladder.demand.speed <= ladder_speed


def _is_trusted(ladder: Ladder) -> bool:
    return ladder.prediction is not None and ladder.prediction.trusted


@given(courses(), st.integers(0, 40), st.sampled_from([0.2, 1.0]))
def test_a_snapshot_in_the_middle_changes_nothing(course: list[Sample], middle: int, stride_s: float) -> None:
    straight, stored = trained(), trained()
    samples = following(straight, course, stride_s)
    expected = fed(straight, samples[:middle]) + fed(straight, samples[middle:])
    before = fed(stored, samples[:middle])
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(stored), type=Governor)
    assert before + fed(again, samples[middle:]) == expected
    assert again == straight


@pytest.mark.parametrize(
    ("fields", "keys"),
    [
        ({"forecast_margin_celsius": -1.0}, ["forecast_margin_celsius"]),
        ({"forecast_margin_celsius": float("nan")}, ["forecast_margin_celsius"]),
        ({"forecast_margin_celsius": 51.0}, ["forecast_margin_celsius"]),
    ],
)
def test_an_impossible_margin_is_named(fields: dict[str, Any], keys: list[str]) -> None:
    assert [problem.partition(":")[0] for problem in Settings(**fields).problems()] == keys
