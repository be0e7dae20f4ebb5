"""A card as a target, and the unit of its memory."""

import operator
from typing import Final

MOST: Final = 9999
MIB: Final = 2**20


def card(index: int) -> str:
    """The target of a card: `gpu0` for 0.

    :raises ValueError: it is no index of a GPU.
    """
    if not 0 <= operator.index(index) <= MOST:
        raise ValueError(f"{index} is not the index of a GPU, 0 to {MOST}")
    return f"gpu{operator.index(index)}"
