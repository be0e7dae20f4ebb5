"""Drives a fleet with one controller and counts what came of it."""

from collections.abc import Callable, Sequence
from typing import Final

from msgspec import Struct

from bench.thermal_sim.card import Card, Class, Nature
from bench.thermal_sim.controllers import Constant, Controller

#: The speeds among which the best constant one is searched.
_SPEEDS: Final = tuple(step / 20 for step in range(1, 21))


class Score(Struct, frozen=True):
    """What one card did."""

    kind: Class
    work: float
    seconds_above_85: int
    seconds_above_90: int
    out_of_memory: int
    changes_a_minute: float


def drive(
    natures: Sequence[Nature],
    controller: Controller,
    seconds: int,
    each: Callable[[Sequence[Card]], None] | None = None,
) -> list[Score]:
    """Let so many seconds pass; `each` may look at the cards after every one."""
    cards = [Card(nature, seed=index) for index, nature in enumerate(natures)]
    changes = [0] * len(cards)
    for _ in range(seconds):
        for index, order in enumerate(controller.orders(cards)):
            card = cards[index]
            if order.cleanup:
                card.clean()
            card.step(order.speed)
            changes[index] += order.changed
        if each is not None:
            each(cards)
    return [
        Score(
            card.nature.kind, card.work, card.seconds_above_85, card.seconds_above_90, card.out_of_memory,
            60 * changes[index] / seconds,
        )
        for index, card in enumerate(cards)
    ]  # fmt: skip


def best_constant(natures: Sequence[Nature], seconds: int) -> list[Score]:
    """Each card at the constant speed with the most work among those with the least overheating and no lost memory."""
    tries = [drive(natures, Constant([speed] * len(natures)), seconds) for speed in _SPEEDS]
    return [min(scores, key=_badness) for scores in zip(*tries, strict=True)]


def _badness(score: Score) -> tuple[int, int, int, float]:
    return score.out_of_memory, score.seconds_above_90, score.seconds_above_85, -score.work
