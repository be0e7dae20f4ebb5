"""Redis goes away, and supervisors that must not speak; `tests/shows/outage.py` does it with the full waits."""

from collections.abc import Iterator

import pytest

from tests.shows import outage
from tests.tools import require_tool


@pytest.fixture(autouse=True)
def tools() -> Iterator[None]:
    """What the shows need."""
    require_tool("gcc")
    require_tool("redis-server")
    yield


@pytest.mark.parametrize(("how", "away_s"), [("killed", 4.0), ("stopped", 6.0)])
def test_decisions_go_on_and_are_told_later(how: outage.How, away_s: float) -> None:
    """Every event once and in order, every sample, and of directives the newest."""
    outage.take_away(how, away_s, print)


def test_a_second_one_does_not_speak() -> None:
    """Neither over the same state directory nor over another one."""
    outage.stay_second(print)


def test_one_that_slept_does_not_speak() -> None:
    """A little longer than the lease: another one has taken over by then."""
    outage.sleep_and_wake(16.0, print)
