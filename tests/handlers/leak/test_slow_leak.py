"""A restart of the supervisor in the middle of a slow leak delays its detection by no more than one block."""

import random
from collections.abc import Iterator

import pytest

from handlers.leak.policy import Subject
from schemas.sample import Counted
from tests.handlers.leak.scripted import MIB, Fed, process, told

LONGEST_S = 3600
#: What is stored last before a kill is as old as this at most.
SNAPSHOT_EVERY_S = 120
DOWN_S = 6


def _course() -> Iterator[tuple[float, int, float]]:
    """Second, calls so far, and noise: calls come at random, once in ten seconds; each leaks a thread."""
    chance = random.Random(7)
    calls = 0
    for second in range(LONGEST_S):
        calls += chance.random() < 0.1
        yield 1000.0 + second, calls, chance.gauss(0.0, 0.3)


def _detected(kill_at_s: float | None) -> dict[str, float]:
    """When what was told of threads; the supervisor is killed at `kill_at_s`, and comes back after `DOWN_S`."""
    fed = Fed(subject=Subject)
    found: dict[str, float] = {}
    stored: tuple[float, bytes] = (0.0, b"")
    since: list[tuple[float, int, float]] = []

    def see(point: tuple[float, int, float], *, replaying: bool = False) -> list[str]:
        second, calls, noise = point
        own = process(threads=20 + calls, rss_anon_bytes=200 * MIB + int(noise * MIB), vms_bytes=2**31)
        polled = Counted(workload="search-docs", source="json http://a", counts={"add_sections": float(calls)})
        said = told(fed.see(second, own, counted=[polled], replaying=replaying))
        return [kind for kind, text in said if "leaks threads" in text or "leak threads" in text]

    for point in _course():
        second = point[0]
        if kill_at_s is not None and kill_at_s <= second < kill_at_s + DOWN_S:
            continue
        if kill_at_s is not None and second == kill_at_s + DOWN_S:
            fed.reborn(stored[1])
            for past in since:
                see(past, replaying=True)
        for kind in see(point):
            found.setdefault(kind, second)
        since.append(point)
        if (second - 1000.0) % SNAPSHOT_EVERY_S == 0:
            stored, since = (second, fed.handler.snapshot()), []
        if "confirmed" in found:
            break
    return found


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, float]:
    """Without a restart."""
    return _detected(None)


def test_a_slow_leak_is_found(undisturbed: dict[str, float]) -> None:
    assert "confirmed" in undisturbed


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.97])
def test_a_restart_delays_it_by_no_more_than_a_block(undisturbed: dict[str, float], share: float) -> None:
    needed_s = undisturbed["confirmed"] - 1000.0
    found = _detected(1000.0 + round(share * needed_s))
    # a life is kept in 32 to 64 blocks
    block_s = max(2.0, needed_s / 32)
    for stage, at_s in undisturbed.items():
        assert stage in found
        assert found[stage] - at_s <= block_s + DOWN_S
