"""Straight lines, straight pieces, and what a look makes of them."""

import math
import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handlers.leak.growth import envelope, examine, noise_of, turns, without_dips
from handlers.leak.lines import likeness, line, smooth
from handlers.leak.pieces import cut
from handlers.leak.sawtooth import troughs


@pytest.mark.parametrize("seed", range(10))
def test_a_line_is_that_of_least_squares(seed: int) -> None:
    chance = random.Random(seed)
    xs = sorted(chance.uniform(1e6, 1e6 + 500) for _ in range(chance.randrange(3, 60)))
    ys = [3e8 + chance.uniform(-2e5, 2e5) * (x - xs[0]) for x in xs]
    fit = line(xs, ys)
    slope, start = np.polyfit(np.array(xs) - xs[0], np.array(ys), 1)
    assert fit.slope == pytest.approx(slope, rel=1e-6)
    assert fit.start == pytest.approx(start, rel=1e-6)
    left = np.array(ys) - start - slope * (np.array(xs) - xs[0])
    assert fit.squares == pytest.approx(float(left @ left), rel=1e-6)


@pytest.mark.parametrize(("remembered", "least"), [(0.0, 0.9), (0.5, 0.85), (0.8, 0.75)])
def test_the_error_of_a_slope_knows_of_autocorrelation(remembered: float, least: float) -> None:
    """Where there is no slope, two errors to each side hold nought in most cases; plain least squares has .5 at .8."""
    chance, held, runs = random.Random(8), 0, 300
    for _ in range(runs):
        off, ys = 0.0, []
        for _ in range(48):
            off = remembered * off + chance.gauss(0, 1)
            ys.append(off)
        fit = line(range(48), ys)
        held += abs(fit.slope) < 2 * fit.error
    assert held / runs > least


def test_a_line_through_hardly_any_points() -> None:
    assert (line([1], [5]).start, line([1], [5]).slope) == (5, 0)
    assert line([1, 3], [5, 9]).slope == 2
    assert math.isinf(line([1, 3], [5, 9]).error)
    assert line([2, 2, 2], [1, 2, 3]).slope == 0
    assert line([0, 1, 2], [4, 4, 4]).slope == 0


def test_likeness_is_the_correlation() -> None:
    chance = random.Random(2)
    xs = [chance.gauss(0, 1) for _ in range(50)]
    ys = [x + chance.gauss(0, 1) for x in xs]
    assert likeness(ys, xs) == pytest.approx(float(np.corrcoef(xs, ys)[0, 1]))
    assert likeness([3.0] * 50, xs) == 0


def test_smoothing_keeps_lines_and_takes_means() -> None:
    assert smooth([0, 1, 2, 3, 4, 5], 1)[1:-1] == [1, 2, 3, 4]
    assert smooth([0, 9, 0], 5) == [3, 3, 3]


def _broken(breaks: list[int], slopes: list[float], jumps: list[float], noise: float, seed: int) -> list[float]:
    chance, level, values = random.Random(seed), 100.0, []
    piece = 0
    for i in range(56):
        if piece < len(breaks) and i >= breaks[piece]:
            piece += 1
            level += jumps[piece - 1]
        values.append(level + chance.gauss(0, noise))
        level += slopes[piece]
    return values


@pytest.mark.parametrize("noise", [0.01, 0.3])
@pytest.mark.parametrize(
    ("breaks", "slopes", "jumps"),
    [([], [1.0], []), ([], [0.0], []), ([20], [0.0, 2.0], [0.0]), ([28], [0.0, 0.0], [40.0]),
     ([16, 40], [3.0, 0.0, 1.5], [0.0, 0.0]), ([18, 36], [0.0, 0.0, 0.0], [30.0, 30.0])],
)  # fmt: skip
def test_breaks_are_found(breaks: list[int], slopes: list[float], jumps: list[float], noise: float) -> None:
    values = _broken(breaks, slopes, jumps, noise, 5)
    pieces = cut(range(56), values, max(noise, noise_of(values)))
    found = [piece.first for piece in pieces[1:]]
    assert len(found) == len(breaks), pieces
    assert all(abs(a - b) <= 3 for a, b in zip(found, breaks, strict=True)), pieces
    assert [piece.slope for piece in pieces] == pytest.approx(slopes, abs=0.15)


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=130),
    gaps=st.lists(st.floats(0.01, 1e4), min_size=130, max_size=130),
    noise=st.floats(0, 1e6),
)
def test_pieces_cover_all_points(values: list[float], gaps: list[float], noise: float) -> None:
    xs = [sum(gaps[:i]) for i in range(len(values))]
    pieces = cut(xs, values, noise)
    assert (pieces[0].first, pieces[-1].end) == (0, len(values))
    assert all(before.end == after.first for before, after in pairwise(pieces))
    assert all(piece.first < piece.end and math.isfinite(piece.slope) for piece in pieces)


def test_a_dip_of_one_point_is_no_noise() -> None:
    values = [10.0, 10, 10, 3, 10, 10, 10]
    assert without_dips(values) == [10.0] * 7
    assert noise_of([float(i) for i in range(20)]) == 0


def test_noise_is_measured_beside_slope_and_steps() -> None:
    chance = random.Random(3)
    values = [100 + 5 * i + (400 if i > 30 else 0) + chance.gauss(0, 2) for i in range(60)]
    assert noise_of(values) == pytest.approx(2, rel=0.5)


def test_the_envelope_is_never_fallen_below() -> None:
    assert envelope([1, 5, 3, 4, 9, 6]) == [1, 3, 3, 4, 6, 6]


def test_turns_are_the_troughs() -> None:
    values = [float(10 * (i % 8)) for i in range(40)]
    assert turns(values, 30) == [8, 16, 24, 32]
    assert turns(values, 100) == []


def test_a_look_at_a_growth_after_a_calm() -> None:
    xs = [float(i) for i in range(60)]
    values = [100.0 + 2 * max(0, i - 30) for i in range(60)]
    look = examine(xs, values, values, 5)
    assert look is not None
    assert look.first == pytest.approx(30, abs=2)
    assert look.slope == pytest.approx(2, rel=0.02)
    assert look.end == 60
    assert look.crooked < 0.02
    assert look.lasting == pytest.approx(1, abs=0.1)
    assert look.beyond == pytest.approx(1, abs=0.1)
    assert look.fallen < 0.05


def test_a_look_at_what_does_not_grow() -> None:
    xs = [float(i) for i in range(60)]
    assert examine(xs, [100.0] * 60, [100.0] * 60, 5) is None
    falling = [100.0 - i for i in xs]
    assert examine(xs, falling, falling, 5) is None
    little = [100 + i / 100 for i in xs]
    assert examine(xs, little, little, 5) is None


def test_the_troughs_of_a_saw_tooth() -> None:
    times = [float(i) for i in range(60)]
    rising = [100 + 10.0 * (i % 6) + 0.5 * i for i in range(60)]
    found = troughs(times, rising, rising)
    assert found is not None
    assert found.slope == pytest.approx(0.5, rel=0.05)
    assert found.rising == 1
    level = [100 + 10.0 * (i % 6) for i in range(60)]
    assert troughs(times, level, level) is None
