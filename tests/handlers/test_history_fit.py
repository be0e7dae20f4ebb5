"""Slopes, and when a threshold comes, from readings in whole degrees with noise that wanders."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.history.fit import fit
from handlers.history.forecast import HORIZON_S, arrival
from handlers.history.trend import Stretch, trend
from tests.shows.ramps import covered, ramp, share, warm_up

MIB = float(1 << 20)


def readings(seconds: int, slope_per_minute: float, *, deviation: float = 0.0, seed: int = 0) -> Stretch:
    """Every 3 s, from 50 °C on; the noise is half like the noise before."""
    chance, noise = random.Random(seed), 0.0
    times_s, values = [float(second) for second in range(0, seconds + 1, 3)], []
    for time_s in times_s:
        noise = 0.5 * noise + chance.gauss(0, deviation * math.sqrt(0.75))
        values.append(float(round(50 + slope_per_minute / 60 * time_s + noise)))
    return Stretch(times_s, values, 3.0, False)


@pytest.mark.parametrize("seed", range(10))
def test_a_ramp_of_two_degrees_a_minute_is_told_within_ten_percent(seed: int) -> None:
    stretch = readings(300, 2.0, deviation=0.5, seed=seed)
    assert 60 * fit(stretch.times_s, stretch.values, 1.0).line.per_s == pytest.approx(2.0, rel=0.1)


def test_the_truth_lies_in_the_interval_nine_times_in_ten() -> None:
    results = covered(ramp, 200, seed=11)
    assert share(result.is_covered for result in results) >= 0.9
    assert share(result.is_between_quantiles for result in results) >= 0.8


def test_what_levels_off_is_not_taken_for_a_ramp() -> None:
    """Half of these never get there; a straight line would say of nearly all that they do."""
    results = covered(warm_up, 200, seed=11)
    assert share(result.is_covered for result in results) >= 0.8
    never = [result.arrival for result in results if result.course.truth_s == math.inf]
    assert share(arrived.high_s is None for arrived in never) >= 0.7


def test_a_long_and_quiet_ramp_is_forecast_closely() -> None:
    """An interval that holds everything would be right, too."""
    stretch = readings(600, 2.0, deviation=0.3)
    come = arrival(fit(stretch.times_s, stretch.values, 1.0), stretch.values[-1] + 10, rising=True)
    assert come.low_s is not None and come.p50_s is not None and come.high_s is not None
    assert come.p50_s == pytest.approx(300, rel=0.1)
    assert 200 < come.low_s < come.p50_s < come.high_s < 450


def test_the_quantiles_are_in_order() -> None:
    for result in covered(ramp, 30, seed=3):
        told = [HORIZON_S if at_s is None else at_s for at_s in result.arrival]
        assert told == sorted(told)


def test_a_threshold_that_the_course_has_passed_is_there_now() -> None:
    stretch = readings(300, 2.0)
    fitted = fit(stretch.times_s, stretch.values, 1.0)
    assert arrival(fitted, 50.0, rising=True).high_s == 0.0
    assert arrival(fitted, 50.0, rising=False).p50_s is None


def test_rounding_hides_a_slope_that_the_interval_still_holds() -> None:
    """Nothing moves in whole degrees, and still it may rise by nearly one in the whole time."""
    stretch = readings(300, 0.0)
    fitted = fit(stretch.times_s, stretch.values, 1.0)
    assert fitted.line.per_s == pytest.approx(0.0, abs=1e-9)
    assert fitted.line.deviation * 300 > 0.25


@pytest.mark.parametrize("before", [0.0, -4.0])
def test_a_course_that_began_a_while_ago_is_told_by_its_own_slope(before: float) -> None:
    """From rest, or out of a fall: 4 °C a minute for the last 100 of 300 s."""
    held, errors = 0, []
    for seed in range(30):
        chance = random.Random(seed)
        times_s = [float(second) for second in range(0, 301, 3)]
        true = [60 + (before * min(time_s, 200) + 4 * max(0, time_s - 200)) / 60 for time_s in times_s]
        now = fit(times_s, [float(round(value + chance.gauss(0, 0.3))) for value in true], 1.0).now
        held += now.low < 4 / 60 < now.high
        errors.append(abs(60 * now.per_s - 4) / 4)
    assert held >= 27 and sorted(errors)[15] < 0.15


@given(
    values=st.lists(st.one_of(st.integers(-40, 150), st.floats(-40, 150), st.just(50.0)), min_size=10, max_size=120),
    scale=st.sampled_from([1.0, MIB, 1024 * MIB]),
    seed=st.integers(0, 100),
)
def test_whatever_is_read_gives_numbers(values: list[float], scale: float, seed: int) -> None:
    chance, times_s = random.Random(seed), [1_795_000_000.0]
    while len(times_s) < len(values):
        times_s.append(times_s[-1] + chance.choice((0.1, 3, 3, 3, 60)))
    readings = [value * scale for value in values]
    fitted = fit(times_s, readings, scale)
    assert sum(course.weight for course in fitted.courses) == pytest.approx(1)
    assert all(math.isfinite(figure) for slope in (fitted.line, fitted.now) for figure in slope)
    for threshold in (readings[-1] + scale, readings[-1] + 40 * scale):
        for at_s in arrival(fitted, threshold, rising=True):
            assert at_s is None or 0 <= at_s <= HORIZON_S


def test_a_single_slip_changes_nothing() -> None:
    stretch = readings(300, 2.0, deviation=0.3)
    slipped = [*stretch.values]
    slipped[60] = 250.0
    before, after = fit(stretch.times_s, stretch.values, 1.0), fit(stretch.times_s, slipped, 1.0)
    assert after.line.per_s == pytest.approx(before.line.per_s, rel=0.02)


def test_memory_that_grows_in_large_steps_is_a_slope_too() -> None:
    """64 MiB every 12 s."""
    times_s = [float(second) for second in range(0, 601, 3)]
    values = [64 * MIB * (time_s // 12) for time_s in times_s]
    fitted = fit(times_s, values, MIB)
    assert 60 * fitted.line.per_s == pytest.approx(320 * MIB, rel=0.05)


def verdict(stretch: Stretch) -> str:
    found = trend(stretch, least_step=1.0, material=2.0, thresholds=())
    assert found is not None
    return found.verdict


@pytest.mark.parametrize(("slope", "called"), [(2.0, "rising"), (-2.0, "falling"), (0.0, "stable")])
def test_the_interval_decides_what_a_slope_is_called(slope: float, called: str) -> None:
    assert [verdict(readings(300, slope, deviation=0.4, seed=seed)) for seed in range(5)] == [called] * 5


def test_noise_that_wanders_is_hardly_ever_called_a_trend() -> None:
    """A line through each of these is `significant` for most tests that take readings for independent."""
    chance, told = random.Random(5), []
    for _ in range(60):
        noise, values = 0.0, []
        for _ in range(101):
            noise = 0.9 * noise + chance.gauss(0, 2 * math.sqrt(1 - 0.81))
            values.append(float(round(60 + noise)))
        told.append(verdict(Stretch([3.0 * number for number in range(101)], values, 3.0, False)))
    assert share(one in ("rising", "falling") for one in told) <= 0.1
    assert "unknown" in told  # and what cannot be told is not called stable


def test_too_few_readings_are_no_trend() -> None:
    assert trend(readings(24, 2.0), least_step=1.0, material=2.0, thresholds=(60.0,)) is None
    assert trend(readings(27, 2.0), least_step=1.0, material=2.0, thresholds=(60.0,)) is not None


def test_thresholds_ahead_come_nearest_first() -> None:
    def ahead(slope: float) -> list[int]:
        found = trend(readings(300, slope), least_step=1.0, material=2.0, thresholds=(30.0, 45.0, 65.0, 75.0))
        assert found is not None
        return [index for index, _ in found.arrivals]

    assert ahead(2.0) == [2, 3]
    assert ahead(-0.8) == [1, 0]
    assert ahead(0.0) == [2, 3]
