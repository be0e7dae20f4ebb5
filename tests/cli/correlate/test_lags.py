"""What moves together, and which comes first."""

import numpy as np
import pytest

from handlers.leak.commands.correlation.lags import Pair, pairs
from tests.cli.correlate.conftest import Read

RANDOM = np.random.default_rng(4)
ROWS = 400


def between(found: tuple[Pair, ...], a: str, b: str) -> Pair:
    return next(pair for pair in found if (pair.a, pair.b) == (a, b))


def recorded(reading: Read, columns: dict[str, np.ndarray], step_s: float = 1.0) -> tuple[Pair, ...]:
    lines = [
        ",".join([f"{row * step_s:g}", *(f"{values[row]:.6g}" for values in columns.values())]) for row in range(ROWS)
    ]
    return pairs(reading([",".join(["time", *columns]), *lines]), 30)


def test_the_one_that_comes_first_leads(reading: Read) -> None:
    noise = RANDOM.normal(size=ROWS + 3).cumsum() + 500
    found = recorded(reading, {"threads": noise[3:], "rss_mb": noise[:-3] * 2})  # rss does what threads did 3 s ago
    pair = between(found, "rss", "threads")
    assert pair.lag_s == -3
    assert pair.changes_at_lag == pytest.approx(1, abs=0.02)
    assert pair.changes == pytest.approx(0, abs=0.2)


def test_a_lag_is_in_seconds_whatever_the_step(reading: Read) -> None:
    noise = RANDOM.normal(size=ROWS + 4).cumsum() + 500
    found = recorded(reading, {"rss_mb": noise[4:], "threads": noise[:-4]}, step_s=0.5)
    assert between(found, "rss", "threads").lag_s == pytest.approx(2)


def test_what_moves_at_once_has_no_lag(reading: Read) -> None:
    noise = RANDOM.normal(size=ROWS).cumsum() + 500
    pair = between(recorded(reading, {"rss_mb": noise, "threads": 1000 - noise}), "rss", "threads")
    assert (pair.lag_s, pair.n) == (0, ROWS)
    assert pair.changes == pytest.approx(-1, abs=1e-3)


def test_two_that_only_grow_have_levels_alike_and_no_lag(reading: Read) -> None:
    a, b = (RANDOM.poisson(2, size=ROWS).cumsum() for _ in range(2))
    pair = next(iter(recorded(reading, {"calls.a": a, "calls.b": b})))
    assert pair.levels is not None
    assert pair.levels > 0.99
    assert pair.lag_s is None


def test_what_stands_still_is_in_no_pair(reading: Read) -> None:
    noise = RANDOM.normal(size=ROWS).cumsum()
    found = recorded(reading, {"rss_mb": noise + 99, "threads": np.full(ROWS, 7), "gauge.g": noise})
    assert [(pair.a, pair.b) for pair in found] == [("rss", "gauge.g")]


def test_a_hole_is_no_change(reading: Read) -> None:
    before = [f"{i},{i % 2},{i % 2}" for i in range(60)]
    after = [f"{i},{1000 + i % 2},{i % 2}" for i in range(5000, 5060)]  # a step of threads that nobody saw
    pair = next(iter(pairs(reading(["time,threads,gauge.g", *before, *after]), 0)))
    assert pair.changes == pytest.approx(1, abs=0.01)


def test_the_longest_lag_is_kept(reading: Read) -> None:
    noise = RANDOM.normal(size=ROWS + 40).cumsum() + 500
    assert between(recorded(reading, {"rss_mb": noise[40:], "threads": noise[:-40]}), "rss", "threads").lag_s is None


def test_one_coincidence_is_no_lag(reading: Read) -> None:
    rows = np.arange(ROWS)
    jumps = {"threads": 20 + 90 * (rows >= 100) + rows % 2, "rss_mb": 50 + 900 * (rows >= 112) + rows % 3}
    assert between(recorded(reading, jumps), "rss", "threads").lag_s is None
