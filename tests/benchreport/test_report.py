"""The table and the JSON that the benchmarks write."""

from pathlib import Path

import msgspec
import pytest

from bench.report import Report, Row, at_least, at_most, options, percentile


def test_a_goal_is_held_against_what_it_names() -> None:
    rows = Report("demo", options("", []))
    assert rows.add("a", "p50", "ms", ours=13, floor=10, goal=at_most(1.3, "floor")).met is True
    assert rows.add("a", "p50", "ms", ours=14, floor=10, goal=at_most(1.3, "floor")).met is False
    beside_a_floor = rows.add("b", "rate", "1/s", ours=4000, floor=5000, peer=1000, goal=at_least(4, "peer"))
    assert (beside_a_floor.ratio, beside_a_floor.met) == (4, True)
    assert rows.add("c", "PSS", "MB", ours=91, goal=at_most(90)).met is False
    assert rows.add("c", "PSS", "MB", ours=90, floor=1, goal=at_most(90)).met is True


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    row = Report("demo", options("", [])).add("a", "p50", "ms", ours=13, goal=at_most(1.3, "floor"))
    assert (row.ratio, row.met) == (None, None)


def test_writes_the_rows_as_json_and_prints_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rows.json"
    rows = Report("demo", options("", ["--quick", "--json", str(file)]))
    rows.add("1,000 processes", "p50", "ms", ours=13, floor=10, goal=at_most(1.3, "floor"))
    rows.add("other", "rate", "events/s", ours=41234.5)
    rows.finish()
    assert msgspec.json.decode(file.read_bytes(), type=list[Row]) == rows.rows
    assert msgspec.json.decode(file.read_bytes())[0]["goal"] == "≤ 1.3 × floor"
    header, *lines = capsys.readouterr().out.splitlines()[1:]
    assert header.split() == ["case", "figure", "unit", "ours", "floor", "peer", "ratio", "goal", "met"]
    assert lines[0].endswith("yes")
    assert "41,234" in lines[1]


def test_percentiles() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile(values, 1)) == (51, 100, 100)
    with pytest.raises(ValueError, match="nothing was measured"):
        percentile([], 0.5)
