"""What is learned of a card's heat and memory, held against cards that are known."""

import random
from math import exp, sqrt

import pytest

from handlers.throttle import growth, thermal
from handlers.throttle.thermal import Thermal


class Known:
    """A first-order card whose sensor tells whole degrees, late and with noise; its speed changes every 40 s."""

    def __init__(self, seed: int, *, tau_s: float, gain: float = 45.0, idle: float = 30.0, delay_s: int = 2) -> None:
        self.dice = random.Random(seed)
        self.tau_s, self.gain, self.idle = tau_s, gain, idle
        self.told = [idle] * (delay_s + 1)
        self.speed = 1.0
        self.learned = thermal.unlearned(idle)

    def pass_by(self, seconds: int) -> None:
        for second in range(seconds):
            if second % 40 == 39:
                self.speed = self.dice.choice([0.4, 0.6, 0.8, 1.0])
            celsius = self.told[-1]
            celsius += (self.idle + self.gain * self.speed - celsius) * (1 - exp(-1 / self.tau_s))
            self.told = [*self.told[1:], celsius]
            self.learned.learn(self.reading(), self.speed, 1.0)

    def in_a_minute(self, speed: float) -> float:
        """What the sensor will show then, but for its noise, at this speed from now on."""
        celsius = self.told[-1]
        return celsius + (self.idle + self.gain * speed - celsius) * (1 - exp(-(61 - len(self.told)) / self.tau_s))

    def reading(self) -> float:
        return float(round(self.told[0] + self.dice.gauss(0, 0.5)))


@pytest.mark.parametrize("tau_s", [10, 30, 60, 110])
def test_a_card_is_known_after_five_minutes(tau_s: float) -> None:
    card = Known(7, tau_s=tau_s)
    card.pass_by(300)
    outlook = card.learned.ahead(60)
    for speed in (0.5, 0.7, 0.9, 1.0):
        celsius, deviation = outlook.at(speed)
        assert celsius == pytest.approx(card.in_a_minute(speed), abs=4.0), speed
        assert deviation < 3.0
    assert tau_s / 2.1 < card.learned.best.tau_s < tau_s * 2.1


def test_intervals_cover_what_comes() -> None:
    """Two standard deviations promise 95 % of the readings half a minute later; the speed changes as told."""
    hits = tries = 0
    for seed in range(24):
        dice = random.Random(seed)
        card = Known(
            seed, tau_s=10 * 12 ** dice.random(), gain=dice.uniform(20, 70), idle=dice.uniform(25, 45), delay_s=seed % 5
        )
        card.pass_by(160)
        for _ in range(12):
            forecast = card.learned.ahead(30).at(card.speed)
            tell = sqrt(card.learned.reading_variance)
            card.pass_by(30)
            hits += abs(card.learned.last_celsius - forecast[0]) <= 2 * sqrt(forecast[1] ** 2 + tell**2)
            tries += 1
            card.pass_by(10)
    assert hits / tries >= 0.95


def test_it_follows_a_room_that_gets_warmer() -> None:
    card = Known(3, tau_s=40)
    card.pass_by(300)
    card.idle += 10
    card.pass_by(200)
    assert card.learned.ahead(600).at(0.8)[0] == pytest.approx(40 + 45 * 0.8, abs=3.0)


@pytest.mark.parametrize("celsius", [-1e308, 1e308, 0.0])
def test_nonsense_stays_finite(celsius: float) -> None:
    learned: Thermal = thermal.unlearned(50)
    for reading in (celsius, 50.0, celsius, -celsius, 50.0):
        for seconds in (1e-3, 1.0, 1e9):
            learned.learn(reading, 1.0, seconds)
            for ahead_s in (0.0, 15.0, 60.0):
                mean, deviation = learned.ahead(ahead_s).at(1.0)
                assert -1e6 < mean < 1e6 and 0 <= deviation < 1e9


def test_memory_that_grows_with_work() -> None:
    memory, percent = growth.unlearned(20.0), 20.0
    for second in range(200):
        speed = 1.0 if second % 50 < 25 else 0.4
        percent += 0.1 * speed
        memory.learn(percent, speed, 1.0)
    assert memory.rate == pytest.approx(0.1, abs=0.01) and memory.certain
    assert 0.1 <= memory.fastest < 0.12


def test_memory_that_wavers_does_not_grow_for_certain() -> None:
    dice, memory = random.Random(1), growth.unlearned(80.0)
    certain = 0
    for _ in range(600):
        memory.learn(80 + dice.uniform(-0.4, 0.4), 1.0, 1.0)
        certain += memory.certain
    assert certain / 600 < 0.15
    assert abs(memory.rate) < 0.05


def test_memory_given_back_is_no_growth_and_no_shrinking() -> None:
    memory, percent = growth.unlearned(20.0), 20.0
    for second in range(400):
        percent = 20.0 if second % 95 == 94 else percent + 0.2
        memory.learn(percent, 1.0, 1.0)
    assert memory.rate == pytest.approx(0.2, abs=0.03)
