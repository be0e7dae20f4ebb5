"""The ladder by example, and what holds for every sequence of samples."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.throttle import policy
from handlers.throttle.ladder import CRITICAL, Ladder, step
from handlers.throttle.policy import RUNGS, Governor, Move, observe, watch
from handlers.throttle.settings import Settings
from schemas.event import PauseFutile, StateChanged
from schemas.sample import GpuBackend, Sample
from tests.handlers.courses import courses
from tests.handlers.samples import GIB, gpu, host, sample

SETTINGS = Settings(policy="ladder")


class Course:
    """One governor, fed second by second."""

    def __init__(self, settings: Settings = SETTINGS) -> None:
        self.governor = Governor()
        self.settings = settings
        self.second = 100.0

    def feed(self, sample: Sample) -> list[Move]:
        return observe(self.governor, sample, sample.id, self.settings)

    def hold(
        self, temperature: float | None, memory: float | None = 10.0, *, seconds: int = 1, **fields: Any
    ) -> list[tuple[int, Move]]:
        """So many samples of gpu0, a second apart; the moves, each with how many seconds had passed."""
        moves = []
        for passed in range(seconds):
            self.second += 1
            moves += [(passed, move) for move in self.feed(sample(self.second, [gpu(temperature, memory, **fields)]))]
        return moves

    @property
    def ladder(self) -> Ladder:
        return self.governor.gpus[0]

    @property
    def speed(self) -> float:
        assert self.ladder.demand is not None
        return self.ladder.demand.speed


def changed(move: Move) -> StateChanged:
    assert isinstance(move.event, StateChanged)
    return move.event


@pytest.mark.parametrize(
    ("temperature", "memory", "state", "speed"),
    [
        (64.9, 69.0, "OPTIMAL", 1.0),
        (65.0, 10.0, "NORMAL", 0.8),
        (20.0, 70.0, "NORMAL", 0.8),
        (74.9, 84.9, "NORMAL", 0.8),
        (75.0, 10.0, "THROTTLED", 0.5),
        (20.0, 85.0, "THROTTLED", 0.5),
        (85.0, 95.0, "THROTTLED", 0.5),
        (85.1, 10.0, "CRITICAL", 0.0),
        (20.0, 95.5, "CRITICAL", 0.0),
        (None, 90.0, "THROTTLED", 0.5),
        (80.0, None, "THROTTLED", 0.5),
    ],
)
def test_the_first_sample_sets_the_state(
    temperature: float | None, memory: float | None, state: str, speed: float
) -> None:
    ((_, move),) = Course().hold(temperature, memory)
    assert (changed(move).state, changed(move).previous) == (state, "UNAVAILABLE")
    assert move.demand is not None
    assert (move.demand.speed, move.demand.cleanup, move.demand.issuer) == (speed, "none", "throttle")
    assert move.demand.action == {1.0: "run", 0.0: "pause"}.get(speed, "throttle")


def test_the_sentence_says_where_and_why_in_figures() -> None:
    course = Course()
    course.hold(70)
    ((_, move),) = course.hold(81)
    assert move.text == "gpu0 is THROTTLED (was NORMAL): 81 °C is at or above 75 °C; speed 0.5"
    ((_, move),) = course.hold(86, 97)
    assert move.text == (
        "gpu0 is CRITICAL (was THROTTLED): 86 °C is above 85 °C and 97 % of memory is above 95 %; paused"
    )


def test_simulated_figures_never_pass_for_real_ones() -> None:
    governor = Governor()
    (move,) = observe(governor, sample(1, [gpu(45)], simulated=True), "s", SETTINGS)
    assert move.text.startswith("SIMULATED: gpu0 is OPTIMAL")
    assert changed(move).simulated and move.demand is not None and move.demand.reason.startswith("SIMULATED: ")


def test_down_at_once_and_up_one_state_each_cooldown() -> None:
    course = Course()
    course.hold(45)
    assert [changed(move).state for _, move in course.hold(86)] == ["CRITICAL"]
    # the pause lasts 60 s from its beginning, each further step 30 s from the one before it
    assert [(passed, changed(move).state) for passed, move in course.hold(40, seconds=130)] == [
        (59, "THROTTLED"),
        (90, "NORMAL"),
        (121, "OPTIMAL"),
    ]


def test_no_step_up_within_the_hysteresis() -> None:
    course = Course()
    course.hold(76)
    assert course.hold(72.1, seconds=300) == []
    assert [changed(move).state for _, move in course.hold(72, seconds=31)] == ["NORMAL"]


def test_one_hot_reading_starts_the_cooldown_again() -> None:
    course = Course()
    course.hold(76)
    course.hold(60, seconds=30)
    course.hold(73)
    assert course.hold(60, seconds=30) == []
    assert course.hold(60) != []


def test_the_margin_to_slowdown_counts_where_it_is_worse() -> None:
    ((_, move),) = Course().hold(60, temperature_margin_celsius=4.0)
    assert (
        move.text
        == "gpu0 is THROTTLED (was UNAVAILABLE): 81 °C (by its margin to slowdown) is at or above 75 °C; speed 0.5"
    )
    ((_, move),) = Course().hold(80, temperature_margin_celsius=40.0)
    assert changed(move).temperature_celsius == 80


def test_an_emergency_asks_for_cleanup_and_ends_three_degrees_lower() -> None:
    course = Course()
    course.hold(86)
    ((_, move),) = course.hold(90)
    assert move.demand is not None and (move.demand.speed, move.demand.cleanup) == (0.0, "emergency")
    assert changed(move).emergency
    assert move.text == "gpu0 stays CRITICAL: 90 °C is at or above 90 °C; emergency cleanup; paused"
    assert course.hold(87.5) == []
    ((_, move),) = course.hold(87)
    assert move.demand is not None and move.demand.cleanup == "none" and not changed(move).emergency


@pytest.mark.parametrize("trouble", ["first", "gap", "blind", "another card"])
def test_after_lost_time_one_hot_reading_pauses_and_only_the_second_asks_for_cleanup(trouble: str) -> None:
    """Pausing is reversible, an emergency cleanup is not; the operator hears of the emergency at once."""
    course, uuid = Course(), "GPU-0"
    if trouble != "first":
        course.hold(50, seconds=5)
    if trouble == "gap":
        course.second += 60
    if trouble == "blind":
        course.hold(None, None, reading="blind")
    if trouble == "another card":
        uuid = "GPU-other"
    ((_, move),) = course.hold(92, uuid=uuid)
    assert move.demand is not None and (move.demand.speed, move.demand.cleanup) == (0.0, "none")
    assert changed(move).emergency and "emergency cleanup if the next reading says so too" in move.text
    ((_, move),) = course.hold(91, uuid=uuid)
    assert move.demand is not None and (move.demand.speed, move.demand.cleanup) == (0.0, "emergency")


def test_an_unproven_emergency_that_passes_was_none() -> None:
    """Both are said, for an operator may not lift what is in an emergency."""
    course = Course()
    course.hold(92)
    ((_, move),) = course.hold(86)
    assert not changed(move).emergency and "an emergency no longer" in move.text
    assert move.demand is not None and move.demand.cleanup == "none"


def test_a_fast_sample_without_a_temperature_proves_nothing() -> None:
    course = Course()
    course.hold(92)
    course.feed(sample(course.second + 0.1, [gpu(None, 10)], scope="fast", interval_s=0.1))
    assert course.ladder.demand is not None and course.ladder.demand.cleanup == "none"


def view(course: Course) -> str:
    return policy.standing(course.ladder, course.governor, course.settings)


def test_where_it_stands_is_said_with_since_when_why_and_what_it_waits_for() -> None:
    course = Course()
    course.hold(86)
    assert view(course) == (
        "CRITICAL since 12:00:00 UTC: 86 °C is above 85 °C; up after 60 s at 82 °C and 92 % of memory or below"
    )
    course.hold(67, seconds=41)
    assert view(course) == "CRITICAL since 12:00:00 UTC: 86 °C is above 85 °C; up in 19 s if it stays as low as now"
    course.hold(67, seconds=21)
    assert view(course).endswith("; up in 29 s if it stays as low as now") and "THROTTLED since" in view(course)
    course.hold(None, None, reading="blind")
    assert view(course).endswith("; until it can be read it keeps speed 0.5") and "BLIND since" in view(course)


def test_what_is_well_waits_for_nothing() -> None:
    course = Course()
    course.hold(50, None)
    assert view(course) == "OPTIMAL since 12:00:00 UTC: 50 °C is below 65 °C"


def test_an_unreadable_time_is_left_out() -> None:
    governor = Governor()
    observe(governor, msgspec.structs.replace(sample(1, [gpu(50)]), time="noon"), "s", SETTINGS)
    assert policy.standing(governor.gpus[0], governor, SETTINGS).startswith("OPTIMAL: 50 °C")


def test_simulated_cards_are_forgotten_when_real_ones_are_sampled() -> None:
    governor = Governor()
    observe(governor, sample(1, [gpu(86), gpu(86, index=1)], figures=host(50), simulated=True), "s1", SETTINGS)
    gone, *known = observe(governor, sample(2, [gpu(50, uuid="GPU-real")], figures=host(50)), "s2", SETTINGS)
    assert (changed(gone).target, changed(gone).state, gone.demand) == ("gpu1", "UNAVAILABLE", None)
    assert gone.text == (
        "gpu1 is UNAVAILABLE (was CRITICAL): what was known of it was simulated; nothing is demanded of it"
    )
    assert [(changed(move).target, changed(move).state, changed(move).previous) for move in known] == [
        ("gpu0", "OPTIMAL", "UNAVAILABLE"),
        ("host", "OPTIMAL", "UNAVAILABLE"),
    ]
    assert list(governor.gpus) == [0]
    (gone,) = observe(governor, sample(3, figures=host(50), simulated=True), "s3", SETTINGS)[:1]
    assert gone.text.startswith("SIMULATED: gpu0 is UNAVAILABLE") and "was measured" in gone.text


def test_a_memory_pause_ends_where_pausing_does_not_help() -> None:
    course = Course()
    course.hold(50, 97)
    ((passed, move),) = course.hold(50, 97, seconds=120)
    assert passed == 59
    assert isinstance(move.event, PauseFutile) and move.event.paused_s == 60
    assert move.text == (
        "gpu0 goes on although CRITICAL: pausing does not help: 97 % of memory after 60 s, 97 % before; speed 0.5"
    )
    assert move.demand is not None and (move.demand.speed, move.demand.cleanup) == (0.5, "soft")


def test_memory_that_grows_again_pauses_again_for_a_whole_pause() -> None:
    course = Course()
    course.hold(50, 96)
    course.hold(50, 96, seconds=60)
    assert course.hold(50, 96.9, seconds=10) == []  # within the noise
    ((_, move),) = course.hold(50, 97.5)
    assert changed(move).state == "CRITICAL" and course.speed == 0.0
    assert "memory grows again, from 96 to 97.5 %" in move.text
    ((passed, move),) = course.hold(50, 97.5, seconds=100)
    assert passed == 59 and isinstance(move.event, PauseFutile)


def test_a_pause_goes_on_while_memory_grows_in_it() -> None:
    course = Course()
    course.hold(50, 95.5)
    for percent in (96.0, 97.0, 98.0, 99.0):
        assert course.hold(50, percent, seconds=30) == []
    ((_, move),) = course.hold(50, 99.0, seconds=60)
    assert isinstance(move.event, PauseFutile)


def test_heat_ends_the_run_after_a_futile_pause() -> None:
    course = Course()
    course.hold(50, 97)
    course.hold(50, 97, seconds=60)
    ((_, move),) = course.hold(86, 97)
    assert course.speed == 0.0 and "86 °C came on top of the memory" in move.text
    assert course.hold(83, 97, seconds=200) == []  # still within the hysteresis of the temperature


def test_memory_that_fell_leaves_a_futile_pause_as_any_other() -> None:
    course = Course()
    course.hold(50, 97)
    course.hold(50, 97, seconds=60)
    ((_, move),) = course.hold(50, 80, seconds=31)
    assert changed(move).state == "THROTTLED" and move.demand is not None and move.demand.cleanup == "none"


@pytest.mark.parametrize("reading", ["blind", "lost"])
def test_blind_keeps_what_was_demanded_and_comes_back_no_faster(reading: str) -> None:
    course = Course()
    course.hold(80)
    ((_, move),) = course.hold(None, None, reading=reading, reason="no answer in 250 ms", seconds=40)
    assert changed(move).state == "BLIND" and course.speed == 0.5
    assert move.demand is not None and move.demand.speed == 0.5
    assert "(no answer in 250 ms); keeps speed 0.5" in move.text
    ((_, move),) = course.hold(40)
    assert (changed(move).state, changed(move).previous) == ("THROTTLED", "BLIND")
    ((passed, move),) = course.hold(40, seconds=40)
    assert passed == 29 and changed(move).state == "NORMAL"


def test_blind_comes_back_slower_at_once() -> None:
    course = Course()
    course.hold(50)
    course.hold(None, None, reading="blind")
    ((_, move),) = course.hold(86)
    assert changed(move).state == "CRITICAL"


def test_a_card_lost_while_blind_is_news() -> None:
    course = Course()
    course.hold(50)
    course.hold(None, None, reading="blind")
    ((_, move),) = course.hold(None, None, reading="lost")
    assert changed(move).state == changed(move).previous == "BLIND" and "fell off the bus" in move.text
    assert course.hold(None, None, reading="blind") == []


def test_what_was_never_read_is_not_green() -> None:
    course = Course()
    ((_, move),) = course.hold(None, None, reading="blind")
    assert (changed(move).state, course.speed) == ("BLIND", 0.5)
    ((_, move),) = course.hold(40)
    assert (changed(move).state, course.speed) == ("OPTIMAL", 1.0)


def test_a_figure_that_is_gone_makes_it_blind() -> None:
    course = Course()
    course.hold(50, 50)
    ((_, move),) = course.hold(None, 50)
    assert changed(move).state == "BLIND" and "its temperature cannot be read any more" in move.text
    ((_, move),) = course.hold(50, 50)
    assert changed(move).state == "OPTIMAL"


def test_silence_is_blindness() -> None:
    course = Course()
    course.hold(50)
    assert watch(course.governor, course.second + 3.0, 0.0, SETTINGS) == []
    (move,) = watch(course.governor, course.second + 3.1, 0.0, SETTINGS)
    assert changed(move).state == "BLIND" and "no sample for 3.1 s" in move.text
    assert changed(move).cause == course.governor.cause
    assert watch(course.governor, course.second + 9.0, 0.0, SETTINGS) == []


def test_silence_of_ours_is_nobody_elses() -> None:
    course = Course()
    course.hold(50)
    assert watch(course.governor, course.second + 60.0, course.second + 58.0, SETTINGS) == []


def test_a_driver_that_cannot_be_asked_blinds_every_known_card() -> None:
    course = Course()
    course.feed(sample(101, [gpu(50), gpu(50, index=1)]))
    backend = GpuBackend("unavailable", "driver_not_loaded")
    moves = course.feed(sample(102, backend=backend))
    assert [changed(move).state for move in moves] == ["BLIND", "BLIND"]
    assert "the driver cannot be asked (driver_not_loaded)" in moves[0].text


def test_no_gpu_is_no_target() -> None:
    governor = Governor()
    assert (
        observe(governor, sample(1, backend=GpuBackend("unavailable", "nvml_library_not_found")), "s", SETTINGS) == []
    )


def test_a_card_that_is_no_longer_listed_is_unavailable_and_free() -> None:
    course = Course()
    course.feed(sample(101, [gpu(80), gpu(80, index=1)]))
    assert course.feed(sample(102, [gpu(80)])) == []
    assert course.feed(sample(103, [gpu(80)])) == []
    (move,) = course.feed(sample(104, [gpu(80)]))
    assert (changed(move).state, changed(move).target, move.demand) == ("UNAVAILABLE", "gpu1", None)
    assert course.feed(sample(105, [gpu(80)])) == []
    (move,) = course.feed(sample(106, [gpu(80), gpu(40, index=1)]))
    assert (changed(move).state, changed(move).previous) == ("OPTIMAL", "UNAVAILABLE")


def test_a_fast_sample_updates_only_what_it_holds() -> None:
    course = Course()
    course.feed(sample(101, [gpu(60, 90), gpu(80, index=1)], figures=host(20)))
    assert course.feed(sample(101.1, [gpu(84, None)], scope="fast", interval_s=0.1)) == []
    (move,) = course.feed(sample(101.2, [gpu(86, None)], scope="fast", interval_s=0.1))
    assert changed(move).state == "CRITICAL" and changed(move).memory_used_ratio == 0.9
    assert course.governor.interval_s == 1.0
    (move,) = course.feed(sample(101.3, figures=host(96), scope="fast"))
    assert (changed(move).target, changed(move).state) == ("host", "CRITICAL")


def test_a_gap_starts_the_cooldown_again() -> None:
    course = Course()
    course.hold(76)
    course.hold(60, seconds=30)
    assert course.feed(sample(course.second + 1, [gpu(60)], gap=True)) == []
    course.second += 1
    ((passed, _),) = course.hold(60, seconds=40)
    assert passed == 29


def test_two_fresh_samples_before_any_step_up_even_without_a_cooldown() -> None:
    course = Course(Settings(policy="ladder", throttle_cooldown_seconds=0.0))
    course.hold(76)
    assert course.hold(60) == []
    assert len(course.hold(60)) == 1


def test_a_reboot_voids_every_timer() -> None:
    course = Course()
    course.hold(86)
    course.hold(60, seconds=59)
    for second in range(5, 65):
        assert course.feed(sample(second, [gpu(60)], boot_id="another")) == []
    (move,) = course.feed(sample(65, [gpu(60)], boot_id="another"))
    assert changed(move).state == "THROTTLED"


def test_another_card_under_the_same_index_waits_anew() -> None:
    course = Course()
    course.hold(76)
    course.hold(60, seconds=30)
    ((passed, move),) = course.hold(60, None, seconds=40, uuid="GPU-other")
    assert passed == 30 and changed(move).state == "NORMAL"


def test_the_hosts_memory_has_a_ladder_of_its_own() -> None:
    governor = Governor()
    (move,) = observe(governor, sample(1, figures=host(50)), "s1", SETTINGS)
    assert move.text == "host is OPTIMAL (was UNAVAILABLE): 50 % of memory is below 70 %; full speed"
    limited = msgspec.structs.replace(host(50), cgroup_memory_limit_bytes=10 * GIB, cgroup_memory_used_bytes=9 * GIB)
    (move,) = observe(governor, sample(2, figures=limited), "s2", SETTINGS)
    assert changed(move).state == "THROTTLED" and changed(move).cause == "s2"
    (move,) = observe(governor, sample(3), "s3", SETTINGS)
    assert changed(move).state == "BLIND"


def test_other_settings_are_said_at_the_next_sample() -> None:
    course = Course()
    course.hold(70)
    course.settings = Settings(policy="ladder", speed_normal=0.7)
    ((_, move),) = course.hold(70)
    assert move.demand is not None and move.demand.speed == 0.7


# What holds for every sequence.


def run(governor: Governor, course: Sequence[Sample]) -> list[list[Move]]:
    """Samples and, between them, looks for silence."""
    every = []
    for number, one in enumerate(course):
        every.append(observe(governor, one, one.id, SETTINGS))
        if number % 3 == 0:
            every.append(watch(governor, one.monotonic_s + 2, 0.0, SETTINGS))
    return every


@given(courses())
def test_it_rises_one_state_at_a_time_and_never_while_blind(course: list[Sample]) -> None:
    governor = Governor()
    rung: dict[str, int] = {}
    speed: dict[str, float] = {}
    for moves in run(governor, course):
        assert len({move.event.target for move in moves}) == len(moves)
        for move in moves:
            target, demand = move.event.target, move.demand
            if demand is None:
                rung.pop(target, None)
                speed.pop(target, None)
                continue
            assert demand.target == target
            if isinstance(move.event, PauseFutile):
                assert (speed[target], demand.speed, demand.cleanup) == (0.0, 0.5, "soft")
            elif move.event.state == "BLIND":
                assert demand.speed == speed.get(target, 0.5)
            else:
                now = RUNGS.index(move.event.state)
                assert now >= rung.get(target, now) - 1
                rung[target] = now
                assert (move.event.speed, move.event.action) == (demand.speed, demand.action)
            speed[target] = demand.speed
    assert speed == {ladder.target: ladder.demand.speed for ladder in governor.ladders() if ladder.demand is not None}


@given(courses())
def test_the_same_samples_give_the_same_moves(course: list[Sample]) -> None:
    assert run(Governor(), course) == run(Governor(), course)


@given(courses(), st.integers(0, 40))
def test_a_snapshot_in_the_middle_changes_nothing(course: list[Sample], middle: int) -> None:
    straight, stored = Governor(), Governor()
    expected = run(straight, course[:middle]) + run(straight, course[middle:])
    before = run(stored, course[:middle])
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(stored), type=Governor)
    assert before + run(again, course[middle:]) == expected
    assert again == straight


@given(courses(), st.floats(20, 110), st.floats(20, 110), st.floats(0, 100))
def test_hotter_is_never_faster(course: list[Sample], one: float, other: float, memory: float) -> None:
    governor = Governor()
    run(governor, [*course, sample(course[-1].monotonic_s + 1, [gpu(50, 50)], boot_id=course[-1].boot_id)])
    speeds = []
    for temperature in sorted((one, other)):
        copy = msgspec.msgpack.decode(msgspec.msgpack.encode(governor), type=Governor)
        later = copy.monotonic_s + 1
        observe(copy, sample(later, [gpu(temperature, memory)], boot_id=copy.boot_id), "s", SETTINGS)
        demand = copy.gpus[0].demand
        assert demand is not None
        speeds.append(demand.speed)
    assert speeds[0] >= speeds[1]


@given(st.floats(0, 100), st.floats(0, 100), st.integers(0, 2), st.integers(0, 200))
def test_fuller_is_never_faster(one: float, other: float, rung: int, waited_s: int) -> None:
    """Below CRITICAL: there, memory that has just fallen waits out its cooldown, while a futile pause has ended."""
    rungs = []
    for percent in sorted((one, other)):
        ladder = Ladder(target="host", rung=rung, memory_percent=percent, calm_since_s=0.0)
        step(ladder, waited_s, SETTINGS)
        rungs.append(ladder.rung)
    assert rungs[0] <= rungs[1] <= CRITICAL


def test_every_default_is_possible() -> None:
    assert Settings().problems() == []


@pytest.mark.parametrize(
    ("fields", "keys"),
    [
        ({"temp_optimal": 80.0}, ["temp_optimal"]),
        ({"temp_throttle": 90.0}, ["temp_throttle"]),
        ({"temp_normal": float("nan")}, ["temp_optimal", "temp_normal", "temp_normal"]),
        ({"memory_critical": 101.0}, ["memory_critical"]),
        ({"memory_normal": 70.0}, ["memory_optimal"]),
        ({"speed_normal": 0.4}, ["speed_throttled"]),
        ({"speed_throttled": 0.0}, ["speed_throttled"]),
        ({"hysteresis_celsius": 65.0}, ["hysteresis_celsius"]),
        ({"hysteresis_points": -1.0}, ["hysteresis_points"]),
        ({"throttle_cooldown_seconds": -1.0}, ["throttle_cooldown_seconds"]),
        ({"critical_pause_seconds": float("inf")}, ["critical_pause_seconds"]),
        ({"blind_intervals": 0.5}, ["blind_intervals"]),
    ],
)
def test_every_impossible_setting_is_named(fields: dict[str, Any], keys: list[str]) -> None:
    problems = Settings(**fields).problems()
    assert [problem.partition(":")[0] for problem in problems] == keys


def test_the_issuer_is_the_handlers_name() -> None:
    assert policy.ISSUER == "throttle"
