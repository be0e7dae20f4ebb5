"""Days of calm, daily cycles, and leaks that come late: what the grid of a quarter of an hour is for."""

import math
import random
from collections.abc import Callable
from typing import Final

import pytest

from tests.handlers.leak.engine.programs import MIB, Life, Observed, Program, live

DAY_S: Final = 86_400


def leaking(begin: int, bytes_a_sample: float, *, base: Callable[[int], float] = lambda _: 500.0) -> Program:
    """A curve in MiB with noise, and from `begin` on a leak."""
    chance = random.Random(1)
    return lambda i: Observed({"rss": (base(i) + chance.gauss(0, 2)) * MIB + bytes_a_sample * max(0, i - begin)})


@pytest.mark.parametrize("bytes_a_second", [50 * MIB, 20 * MIB / 60], ids=["50 MB/s", "20 MB/min"])
def test_three_days_of_calm_at_a_sample_a_second(bytes_a_second: float) -> None:
    begin = 3 * DAY_S
    program = leaking(begin, bytes_a_second)
    life = live(program, begin)
    assert not life.alarms()
    found = life.feed(program, 400).first("confirmed")
    assert found is not None
    assert found <= begin + 350
    since_s = life.confirmed().since_s
    assert since_s == pytest.approx(1000 + begin, abs=64)


@pytest.mark.parametrize(
    ("bytes_a_second", "samples"), [(50 * MIB, 300), (20 * MIB / 60, 300), (20 * MIB / 3600, 700)],
    ids=["50 MB/s", "20 MB/min", "20 MB/h"],
)  # fmt: skip
def test_three_days_of_calm_at_a_sample_in_ten_seconds(bytes_a_second: float, samples: int) -> None:
    begin = 3 * DAY_S // 10
    program = leaking(begin, 10 * bytes_a_second)
    life = live(program, begin, step_s=10)
    assert not life.alarms()
    found = life.feed(program, samples).first("confirmed")
    assert found is not None
    rate = life.confirmed().rate_per_s
    assert rate is not None
    assert rate.value == pytest.approx(bytes_a_second, rel=0.15)


def test_a_slow_leak_is_seen_over_hours() -> None:
    """1 MB a minute in the noise of 2 MB: no quarter of an hour shows it after days."""
    begin = DAY_S
    program = leaking(begin, MIB / 60)
    life = live(program, begin)
    assert not life.alarms()
    assert life.feed(program, 3600).first("confirmed") is not None


def test_daily_cycles_are_no_leak_and_a_leak_beside_them_is_found() -> None:
    def daily(i: int) -> float:
        # watched from the evening on
        return 500 + 100 * math.cos(2 * math.pi * i * 60 / DAY_S)

    begin = 5 * DAY_S // 60
    program = leaking(begin, 3 * MIB, base=daily)
    life = live(program, begin, step_s=60)
    assert not life.alarms()
    assert life.feed(program, 1000).first("confirmed") is not None


def test_a_day_that_is_watched_from_the_morning_on_is_cleared_in_the_evening() -> None:
    """What rises for 512 samples from the start on is taken for a leak: no later day is, since it is no news."""
    program = leaking(10**9, 0, base=lambda i: 500 + 100 * math.sin(2 * math.pi * i * 10 / DAY_S))
    alarms = live(program, 3 * DAY_S // 10, step_s=10).alarms()
    assert len(alarms) <= 1


@pytest.mark.parametrize("period_s", [1200, 3600])
def test_cycles_of_minutes_and_hours(period_s: int) -> None:
    program = leaking(10**9, 0, base=lambda i: 500 + 60 * math.cos(2 * math.pi * i / period_s))
    assert not live(program, DAY_S // 4).alarms()


def test_what_is_kept_does_not_grow_with_age() -> None:
    life = Life()
    program = leaking(10**9, 0)
    sizes = []
    for _ in range(6):
        life.feed(program, 20_000)
        sizes.append(len(life.subject.pack()))
    assert max(sizes) - min(sizes) < 6000
    assert max(sizes) < 12_000
