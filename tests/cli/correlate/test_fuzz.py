"""Whatever a file holds, it is read or refused in a sentence; never anything else."""

import gzip
import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handlers.leak.commands.correlation.lines import Unreadable
from handlers.leak.commands.correlation.page import page
from handlers.leak.commands.correlation.report import analysed

CELL = st.one_of(
    st.integers(-10, 10**6).map(str),
    st.floats().map(str),
    st.sampled_from(["", "N/A", "nan", "-", '"', "'", "1,5", "2025-11-05T12:00:00Z", "Process 1 ended", "\0", "#"]),
    st.text(max_size=8),
)  # fmt: skip
NAME = st.one_of(
    st.sampled_from(["time", "Time(s)", "rss_mb", "threads", "RSS", "calls.x", "gauge.y", "fds", "jobs", "", "pid"]),
    st.text(max_size=12),
)
ROWS = st.lists(st.lists(CELL, max_size=6), max_size=30)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "trace.csv"


def understood(path: Path, content: bytes, mapping: dict[str, str]) -> None:
    path.write_bytes(content)
    try:
        found, report = analysed(path, mapping, 30)
    except Unreadable as refused:
        assert len(str(refused)) > 20
        return
    assert found.rows >= 3
    assert (np.diff(found.times) > 0).all()
    assert all(len(values) == len(found.times) for values in found.series.values())
    assert all(math.isfinite(value) for values in found.series.values() for value in values[~np.isnan(values)])
    assert all(note.isprintable() for note in found.notes)
    for pair in report.pairs:
        assert all(r is None or -1 <= r <= 1 for r in (pair.levels, pair.changes, pair.changes_at_lag))
    assert len(report.surges) <= 12
    lines = page(found, report).split("\n")
    assert len(lines) <= 60
    assert max(map(len, lines)) <= 100
    assert all(line.isprintable() for line in lines)
    msgspec.json.encode(report)


SLOW = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@SLOW
@given(content=st.binary(max_size=400))
def test_any_bytes(path: Path, content: bytes) -> None:
    understood(path, content, {})
    understood(path, gzip.compress(content)[: max(len(content), 12)], {})


@SLOW
@given(
    names=st.lists(NAME, min_size=1, max_size=6), rows=ROWS, separator=st.sampled_from(",;\t|"),
    encoding=st.sampled_from(["utf-8", "utf-16", "latin-1"]), end=st.sampled_from(["\n", "\r\n"]),
)  # fmt: skip
def test_any_table(
    path: Path, names: list[str], rows: list[list[str]], separator: str, encoding: str, end: str
) -> None:
    text = end.join(separator.join(cells) for cells in [names, *rows])
    understood(path, text.encode(encoding, errors="replace"), {})


@SLOW
@given(
    columns=st.lists(
        st.lists(st.one_of(st.none(), st.floats(-1e12, 1e12), st.integers(0, 5)), min_size=12, max_size=12),
        min_size=1, max_size=4,
    ),
    steps=st.lists(st.floats(-3, 100), min_size=12, max_size=12),
)  # fmt: skip
def test_any_numbers(path: Path, columns: list[list[float | None]], steps: list[float]) -> None:
    heads = ["time", "threads", "rss_mb", "calls.x", "gauge.y"][: len(columns) + 1]
    times = np.cumsum(steps)
    lines = (
        ",".join([str(time), *("" if column[row] is None else str(column[row]) for column in columns)])
        for row, time in enumerate(times.tolist())
    )
    understood(path, "\n".join([",".join(heads), *lines]).encode(), {})


@SLOW
@given(
    mapping=st.dictionaries(
        NAME, st.one_of(st.text(max_size=8), st.sampled_from(["rss:kb", "time", "calls"])), max_size=3
    )
)
def test_any_map(path: Path, mapping: dict[str, str]) -> None:
    understood(path, b"time,threads,rss_mb,jobs\n0,1,2,3\n1,2,3,4\n2,3,4,5\n3,4,5,5\n", mapping)
