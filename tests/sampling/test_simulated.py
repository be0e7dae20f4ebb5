"""The simulated cards: the story that a newcomer sees, on a clock of the test's own."""

import pytest

from schemas.sample import Gpu
from supervisor.sampling.simulated import SimulatedGpus
from tests.sampling.doubles import FakeTime

SPEEDS = (1.0, 0.8, 0.5, 0.0)


def state(celsius: float, ratio: float) -> int:
    """The rung of the ladder, 0 for OPTIMAL to 3 for CRITICAL, at its default thresholds."""
    return max(sum(celsius >= edge for edge in (65, 75, 85.5)), sum(ratio >= edge for edge in (0.7, 0.85, 0.9501)))


async def story(seconds: int, *, seed: int = 0, obey: bool = True) -> list[list[Gpu]]:
    """A reading a second; workloads obey a ladder: down at once, up by one after 30 s (60 s from a pause)."""
    time = FakeTime()
    rungs, since = [0] * 8, [0] * 8
    source = SimulatedGpus(time, speed=lambda index: SPEEDS[rungs[index]] if obey else 1.0, seed=seed)
    await source.start()
    told: list[list[Gpu]] = []
    for second in range(seconds):
        readings = await source.read()
        told.append(list(readings.gpus))
        for card in readings.gpus:
            assert card.temperature_celsius is not None
            assert card.memory_used_ratio is not None
            now = state(card.temperature_celsius, card.memory_used_ratio)
            cooled = state(card.temperature_celsius + 3, card.memory_used_ratio + 0.03)
            waited = second - since[card.index] >= (60 if rungs[card.index] == 3 else 30)
            if now > rungs[card.index]:
                rungs[card.index], since[card.index] = now, second
            elif cooled < rungs[card.index] and waited:
                rungs[card.index], since[card.index] = rungs[card.index] - 1, second
        time.monotonic_s += 1
    return told


async def test_eight_cards_that_say_what_they_are() -> None:
    ((*cards,),) = await story(1)
    assert [card.index for card in cards] == list(range(8))
    assert all(card.name.startswith("Simulated") for card in cards)
    assert len({card.uuid for card in cards}) == 8
    assert {card.reading for card in cards} == {"fresh"}


async def test_heat_throttles_pauses_and_recovers_within_two_minutes_or_so() -> None:
    told = [state(cards[0].temperature_celsius or 0, 0) for cards in await story(125)]
    assert told.index(1) < told.index(2) < told.index(3) < 60
    assert told[-1] == 0


async def test_memory_grows_to_the_top_and_is_freed() -> None:
    ratios = [cards[1].memory_used_ratio or 0 for cards in await story(125)]
    full = next(second for second, ratio in enumerate(ratios) if ratio > 0.95)
    assert full < 60
    assert min(ratios[full:]) < 0.4


async def test_who_does_not_obey_gets_hotter() -> None:
    obedient = max(cards[0].temperature_celsius or 0 for cards in await story(60))
    stubborn = max(cards[0].temperature_celsius or 0 for cards in await story(60, obey=False))
    assert obedient < 90 < stubborn


async def test_the_other_cards_stay_out_of_the_story() -> None:
    for cards in await story(125):
        assert all(state(card.temperature_celsius or 0, card.memory_used_ratio or 0) == 0 for card in cards[2:])


async def test_the_same_seed_gives_the_same_readings_and_another_one_others() -> None:
    first, second, other = await story(30), await story(30), await story(30, seed=1)
    assert first == second
    assert first != other


@pytest.mark.parametrize("step_s", [0.1, 0.7, 5.0])
async def test_how_often_it_is_read_changes_nothing(step_s: float) -> None:
    time = FakeTime()
    source = SimulatedGpus(time)
    await source.start()
    for tick in range(1, int(35.01 / step_s) + 1):
        time.monotonic_s = 1000.05 + tick * step_s
        await source.read()
    time.monotonic_s = 1035.05
    once = FakeTime()
    reference = SimulatedGpus(once)
    await reference.start()
    once.monotonic_s = 1035.05
    assert await source.read() == await reference.read()


async def test_only_what_is_asked_for_and_no_minute_too_many() -> None:
    time = FakeTime()
    source = SimulatedGpus(time)
    await source.start()
    time.monotonic_s += 1e6
    readings = await source.read({1, 4})
    assert [card.index for card in readings.gpus] == [1, 4]
