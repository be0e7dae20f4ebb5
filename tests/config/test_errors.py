"""How an error reads, also where a part of it is another program's sentence."""

import pytest

from supervisor.errors import FlyballError


@pytest.mark.parametrize(
    ("why", "hint", "text"),
    [
        ("", "", "the bus is away"),
        ("Connection refused.", "", "the bus is away: Connection refused"),
        ("Connection refused.", "Start it.", "the bus is away: Connection refused. Start it"),
        ("timed out...", "Start it", "the bus is away: timed out. Start it"),
    ],
)
def test_no_sentence_ends_twice(why: str, hint: str, text: str) -> None:
    """What follows may be "; starting without it"."""
    assert str(FlyballError("the bus is away", why=why, hint=hint)) == text
