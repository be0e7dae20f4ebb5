"""The grid of blocks: means, lows, highs and latest values are those of what was measured."""

import math
import random

import pytest

from handlers.leak.blocks import CAPACITY, Grid


def fed(samples: int, most: int = 0, *, seed: int = 0) -> tuple[Grid, list[float]]:
    chance, grid, values = random.Random(seed), Grid(most), []
    for i in range(samples):
        values.append(chance.uniform(0, 100))
        grid.add(float(i), {"a": values[-1], "calls.x": float(i), "gauge.y": -float(i)})
    return grid, values


@pytest.mark.parametrize("samples", [1, 63, 64, 65, 127, 128, 1000, 4096, 10_007])
def test_blocks_are_those_of_the_raw_data(samples: int) -> None:
    grid, values = fed(samples)
    size, column = grid.size, grid.columns["a"]
    assert size & (size - 1) == 0
    assert len(grid.times) == samples // size < CAPACITY
    assert len(grid.times) >= min(samples, CAPACITY // 2)
    for i in range(len(grid.times)):
        raw = values[i * size : (i + 1) * size]
        assert column.means[i] == pytest.approx(sum(raw) / size)
        assert column.lows[i] == min(raw)
        assert column.highs[i] == pytest.approx(max(raw), rel=1e-7)
        assert grid.columns["calls.x"].lasts[i] == i * size + size - 1
        assert grid.columns["gauge.y"].means[i] == -grid.columns["calls.x"].means[i]
        assert grid.times[i] == pytest.approx(i * size + (size - 1) / 2)
        assert grid.ends[i] == i * size + size - 1
    assert grid.observed == samples
    if samples > 1:
        assert grid.interval_s == pytest.approx(1)


def test_a_series_that_begins_late_or_has_gaps() -> None:
    grid = Grid()
    for i in range(400):
        grid.add(float(i), {"a": 1.0} | ({"late": 7.0} if i >= 200 and not 300 <= i < 340 else {}))
    late = grid.columns["late"]
    assert len(late.means) == len(grid.times) == len(grid.columns["a"].means)
    for time, mean, low in zip(grid.times, late.means, late.lows, strict=True):
        measured = 200 <= time < 300 - 8 or time > 340
        assert mean == low == 7.0 if measured else math.isnan(mean) or time + grid.size >= 200


def test_a_grid_that_forgets_keeps_the_latest() -> None:
    grid, values = fed(0, 4)
    for i in range(5000):
        if grid.forgets:
            before = len(grid.times)
            grid.add(float(i), {"a": float(i), "calls.x": float(i)})
            assert (before, len(grid.times)) == (CAPACITY - 1, CAPACITY // 2)
        else:
            grid.add(float(i), {"a": float(i), "calls.x": float(i)})
        assert grid.size <= 4
        assert len(grid.times) < CAPACITY
    assert values == []
    assert grid.ends[-1] > 5000 - 2 * grid.size
    assert list(grid.ends) == [float(x) for x in range(int(grid.ends[0]), int(grid.ends[-1]) + 1, 4)]
    assert grid.columns["calls.x"].lasts[-1] == grid.columns["a"].highs[-1] == grid.ends[-1]


def test_a_longer_grid_goes_on_from_the_shorter_one() -> None:
    grid, _ = fed(0, 2)
    i = 0
    while not grid.forgets:
        grid.add(float(i), {"a": float(i)})
        i += 1
    longer, plain = grid.longer(0), Grid()
    for k in range(i):
        plain.add(float(k), {"a": float(k)})
    for k in range(i, i + 1000):
        for each in (longer, plain, grid):
            each.add(float(k), {"a": float(k)})
    assert longer.pack() == plain.pack()
    assert grid.ends[0] > longer.ends[0], "the shorter one forgets, the longer one does not"


def test_what_lies_before_an_interrupt_is_in_no_block() -> None:
    grid = Grid()
    for i in range(64):
        grid.add(float(i), {"a": 1.0})
    grid.add(64.0, {"a": 1e9})
    grid.interrupt()
    for i in range(1000, 1064):
        grid.add(float(i), {"a": 1.0})
    assert max(grid.columns["a"].highs) == 1.0
    assert not any(64 < end < 1000 for end in grid.ends)


def test_a_grid_that_is_packed_is_the_same() -> None:
    grid, _ = fed(777, 8)
    other = Grid.unpack(grid.pack())
    assert other.pack() == grid.pack()
    grid.add(1000.0, {"a": 3.0, "new": 1.0})
    other.add(1000.0, {"a": 3.0, "new": 1.0})
    assert other.pack() == grid.pack()
