"""What is no leak: noise, warm-ups, caches, deploys, garbage collection, load, batches, pools."""

import math
import random
from collections.abc import Callable

import pytest

from tests.handlers.leak.engine.programs import (
    MIB,
    Observed,
    Program,
    live,
    memory,
    since,
    wandering,
    warming,
)


def alarmed(program: Callable[[int], Program], seeds: int, samples: int) -> list[int]:
    """The seeds with which it was taken for a leak."""
    return [seed for seed in range(seeds) if live(program(seed), samples).alarms()]


def steps(i: int, at: list[int], by: float) -> float:
    return 100 + by * sum(i >= each for each in at)


def test_white_noise() -> None:
    assert len(alarmed(lambda seed: memory(lambda _: 200, noise=3, seed=seed), 60, 900)) <= 1


@pytest.mark.parametrize("remembered", [0.5, 0.9, 0.99])
def test_noise_that_remembers(remembered: float) -> None:
    program = lambda seed: wandering(300, memory_of_it=remembered, step=3, seed=seed)  # noqa: E731
    assert len(alarmed(program, 60, 900)) <= 3


@pytest.mark.parametrize("tau", [30, 60, 120, 200, 300])
def test_a_warm_up_that_levels_off(tau: int) -> None:
    def program(seed: int) -> Program:
        return memory(lambda i: warming(i, tau=tau), noise=[0.0, 0.2, 1.0][seed % 3], seed=seed)

    assert not alarmed(program, 15, 1200)


def test_a_warm_up_is_undecided_and_then_steady() -> None:
    life = live(memory(lambda i: 100 + min(i, 100)), 60)
    verdict = life.subject.verdicts["rss"]
    assert verdict.stage == "warming"
    assert verdict.reason
    assert verdict.undecided_until_s is not None
    assert verdict.undecided_until_s > verdict.at_s
    assert life.feed(memory(lambda i: 100 + min(i, 100)), 600).stage() == "steady"
    assert not life.alarms()


@pytest.mark.parametrize("length", [60, 150, 300])
def test_a_cache_that_fills_from_the_start_and_is_full(length: int) -> None:
    assert not alarmed(lambda seed: memory(lambda i: 100 + 300 * min(1, i / length), seed=seed), 5, 1200)


def test_a_cache_that_fills_after_a_calm_and_is_soon_full() -> None:
    fill = lambda i: 100 + 200 * (1 - math.exp(-since(i, 300) / 40))  # noqa: E731
    assert not alarmed(lambda seed: memory(fill, seed=seed), 8, 1200)


def test_a_model_is_loaded() -> None:
    assert not alarmed(lambda seed: memory(lambda i: 4100 if i > 250 + 20 * seed else 100, seed=seed), 10, 900)


@pytest.mark.parametrize("deploys", [1, 2, 3])
def test_deploys(deploys: int) -> None:
    def program(seed: int) -> Program:
        at = random.Random(seed).sample(range(1500), deploys)
        return memory(lambda i: steps(i, at, 30), seed=seed)

    assert not alarmed(program, 20, 1500)


@pytest.mark.parametrize("period", [7, 40, 100])
def test_garbage_collection_with_level_troughs(period: int) -> None:
    def program(seed: int) -> Program:
        return memory(lambda i: 100 + 80 * ((i + seed) % period) / period, seed=seed)

    assert not alarmed(program, 15, 1500)


def test_load_that_comes_and_goes_and_is_counted() -> None:
    def program(seed: int) -> Program:
        chance, requests = random.Random(seed), 0.0
        period = [600, 1500, 3000][seed % 3]

        def observe(i: int) -> Observed:
            nonlocal requests
            rate = 20 + 15 * math.sin(2 * math.pi * (i / period + seed / 10))
            requests += max(0.0, chance.gauss(rate, 2))
            return Observed({"rss": (300 + 3 * rate + chance.gauss(0, 1)) * MIB}, {"requests": int(requests)})

        return observe

    assert len(alarmed(program, 45, 1500)) <= 2


def test_memory_that_a_gauge_explains() -> None:
    def program(seed: int) -> Program:
        chance = random.Random(seed)

        def observe(i: int) -> Observed:
            queue = 10 + 0.2 * since(i, 400) + chance.gauss(0, 1)
            return Observed({"rss": (200 + 1.5 * queue + chance.gauss(0, 0.5)) * MIB}, {}, {"queue": queue})

        return observe

    assert not alarmed(program, 10, 1200)
    without = live(lambda i: program(0)(i)._replace(gauges={}), 1200)
    assert without.alarms(), "it is the gauge that explains it"


@pytest.mark.parametrize("longest", [60, 100, 300])
def test_a_batch_that_is_given_back_leaves_nothing(longest: int) -> None:
    life = live(memory(lambda i: 100 + (2.0 * min(since(i, 400), longest) if i < 450 + longest else 0)), 1400)
    assert life.stage() == "steady"


def test_a_pool_that_fills_at_once() -> None:
    program: Program = lambda i: Observed({"threads": 6 + min(32, since(i, 300) * 4), "rss": 100 * MIB})  # noqa: E731
    assert not live(program, 1200).alarms()


def test_a_small_pool_that_fills_from_the_start() -> None:
    def program(seed: int) -> Program:
        chance, threads = random.Random(seed), 0

        def observe(_: int) -> Observed:
            nonlocal threads
            threads = min(16, threads + (chance.random() < 0.1))
            return Observed({"threads": 6 + threads})

        return observe

    assert len(alarmed(program, 20, 900)) <= 1


def test_address_space_that_is_reserved_at_once() -> None:
    program: Program = lambda i: Observed({"vms": (4096 if i > 300 else 512) * MIB, "rss": 90 * MIB})  # noqa: E731
    assert not live(program, 900).alarms()


def test_memory_that_shrinks() -> None:
    life = live(memory(lambda i: 900 - 0.3 * i), 1200)
    assert life.stage() == "steady"
    assert not life.alarms()
