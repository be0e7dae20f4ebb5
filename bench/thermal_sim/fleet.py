"""Fleets of cards by seed: five of each class within the ranges that were tuned on, or beyond them."""

import random
from typing import Final

from msgspec.structs import replace

from bench.thermal_sim.card import CLASSES, Class, Nature

COUNT: Final = 30
#: To which temperature a card would come at full load, by class.
_FULL_CELSIUS: Final[dict[Class, tuple[float, float]]] = {
    "cool": (45, 62),
    "warm": (66, 82),
    "borderline": (82, 92),
    "hot": (92, 115),
    "growing VRAM": (50, 80),
    "dying fan": (62, 82),
}


def fleet(seed: int, seconds: int, count: int = COUNT) -> list[Nature]:
    """Cards of every class in turn, of which each has its own room, workload and misfortunes."""
    return [_nature(CLASSES[index % len(CLASSES)], random.Random(f"{seed}/{index}"), seconds) for index in range(count)]


def strangers(seed: int, seconds: int, count: int = COUNT) -> list[Nature]:
    """The same, but slower and faster, later and noisier than any of `fleet`, and with dies that jump."""
    cards = []
    for index, nature in enumerate(fleet(seed, seconds, count)):
        dice = random.Random(f"{seed}/{index}/strange")
        cards.append(
            replace(
                nature,
                tau_s=dice.choice([dice.uniform(7, 10), dice.uniform(120, 240)]),
                fan_lag_s=dice.uniform(5, 60),
                sensor_delay_s=dice.randint(0, 8),
                sensor_noise_celsius=dice.uniform(0, 1.5),
                ambient_celsius=_ambient(dice, seconds, 12),
                die_ratio=dice.choice([0.0, dice.uniform(0.1, 0.4)]),
            )
        )
    return cards


def _nature(kind: Class, dice: random.Random, seconds: int) -> Nature:
    ambient = _ambient(dice, seconds, 7)
    idle = dice.uniform(0.08, 0.25)
    memory_bound = dice.random() < 0.4
    nature = Nature(
        kind=kind,
        memory_bound=memory_bound,
        tau_s=10 * 12 ** dice.random(),
        rise_celsius=dice.uniform(*_FULL_CELSIUS[kind]) - ambient[0][1],
        idle_ratio=idle,
        fan_lag_s=dice.uniform(3, 25),
        sensor_delay_s=dice.randint(0, 4),
        sensor_noise_celsius=dice.uniform(0, 0.8),
        ambient_celsius=ambient,
        load_ratio=_load(dice, seconds) if dice.random() < 0.35 else ((0, 1.0),),
        memory_percent=dice.uniform(15, 60),
    )
    if kind == "growing VRAM":
        return replace(
            nature,
            memory_growth=0.03 * 10 ** dice.random(),
            memory_ceiling_percent=dice.choice([dice.uniform(75, 94), 200.0, 200.0, 200.0]),
            reclaimable_ratio=dice.choice([0.0, dice.uniform(0.3, 0.9)]),
        )
    if kind == "dying fan":
        return replace(
            nature,
            fan_dies_at_s=dice.uniform(0.25, 0.7) * seconds,
            fan_dies_within_s=dice.uniform(10, 90),
            fan_left_ratio=dice.uniform(0.0, 0.3),
        )
    return nature


def _ambient(dice: random.Random, seconds: int, most: float) -> tuple[tuple[int, float], ...]:
    """The air, with a step of up to `most` degrees every four to fifteen minutes around where it began."""
    began = dice.uniform(20, 32)
    course, second = [(0, began)], dice.randint(240, 900)
    while second < seconds:
        course.append((second, began + dice.uniform(-most, most) / 2 + dice.uniform(-most, most) / 2))
        second += dice.randint(240, 900)
    return tuple(course)


def _load(dice: random.Random, seconds: int) -> tuple[tuple[int, float], ...]:
    """Work that is hotter and cooler by turns of one to seven minutes."""
    course, second, lighter = [(0, 1.0)], 0, dice.uniform(0.6, 0.9)
    while second < seconds:
        second += dice.randint(60, 420)
        course.append((second, lighter if course[-1][1] == 1.0 else 1.0))
    return tuple(course)
