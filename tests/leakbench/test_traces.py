"""Invented and recorded traces: in the format of the given ones, and true to their labels."""

import csv
import gzip
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from bench.leakbench import record, simulate
from bench.leakbench.families import HEALTHY, LEAKING
from bench.leakbench.given import run_online
from bench.leakbench.realprograms import PROGRAMS

BENCH = Path(__file__).parents[2] / "bench" / "leakbench"
GIVEN = json.loads((BENCH / "given" / "dev" / "labels.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("split")
    simulate.write(directory, seed=5, each=1)
    return directory


def labels(directory: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((directory / "labels.json").read_text("utf-8"))
    return read


def rows(directory: Path, name: str) -> list[dict[str, str]]:
    with gzip.open(directory / "traces" / f"{name}.csv.gz", "rt", newline="") as file:
        return list(csv.DictReader(file))


def test_every_family_is_there_those_of_the_given_traces_and_as_many_others(written: Path) -> None:
    families = {label["family"] for label in labels(written).values()}
    assert families == {*LEAKING, *HEALTHY}
    given = {label["family"] for label in GIVEN.values() if not label["real"]}
    assert given < families
    assert len(families - given) >= 28
    assert all(label["leak"] == (label["family"] in LEAKING) for label in labels(written).values())


def test_the_same_seed_writes_the_same_files(written: Path, tmp_path: Path) -> None:
    simulate.write(tmp_path, seed=5, each=1)
    simulate.write(tmp_path / "other", seed=6, each=1)
    names = {path.name for path in (written / "traces").iterdir()}
    assert all((tmp_path / "traces" / name).read_bytes() == (written / "traces" / name).read_bytes() for name in names)
    assert labels(tmp_path) == labels(written)
    assert names.isdisjoint(path.name for path in (tmp_path / "other" / "traces").iterdir())


def test_labels_have_the_fields_of_the_given_ones(written: Path) -> None:
    of_given = set.union(*(set(label) for label in GIVEN.values()))
    for label in labels(written).values():
        assert set(label) == of_given


def test_a_leak_is_in_the_trace_from_its_onset(written: Path) -> None:
    """The level at the end is above that at the onset by the amount that the label says, as far as noise allows."""
    for name, label in labels(written).items():
        if label["family"] not in ("slow_linear", "thread_leak_time", "vram_per_batch", "fd_leak_flat_rss"):
            continue
        column = {"rss": "rss_mb", "vram": "vram_mb"}.get(label["resources"][0], label["resources"][0])
        after = [row for row in rows(written, name) if float(row["t_s"]) >= label["onset_s"] and row[column]]
        grown = float(after[-1][column]) - float(after[0][column])
        leaked = label["rate_per_h"][label["resources"][0]] * (label["duration_s"] - label["onset_s"]) / 3600
        assert grown == pytest.approx(leaked, rel=0.35)


def test_the_runner_reads_them(written: Path) -> None:
    for path in (written / "traces").iterdir():
        times = [sample["t_s"] for sample in run_online.samples(str(path))]
        assert times == sorted(times)
        assert 80 <= len(times) <= 1900


def test_a_counter_falls_only_where_the_program_starts_anew(written: Path) -> None:
    restarting = {"post_deploy_leak", "leak_through_restarts", "deploy_step", "warmup_flat", "many_restarts"}
    for name, label in labels(written).items():
        table = rows(written, name)
        for column in table[0]:
            if column.startswith("calls."):
                values = [float(row[column]) for row in table if row[column]]
                falls = any(b < a for a, b in pairwise(values))
                assert not falls or label["family"] in restarting


@pytest.mark.timeout(90)
def test_a_real_program_is_recorded_and_labelled(tmp_path: Path) -> None:
    (tmp_path / "traces").mkdir()
    name, label = record.record(tmp_path, "CloseWait", seed=3, seconds=12.0)
    assert (label["resources"], label["driver"], label["real"]) == (["fds"], "calls.errors", True)
    assert label["per_call"]["fds"] == pytest.approx(1.0, abs=0.2)
    table = rows(tmp_path, name)
    assert len(table) > 60
    opened = float(table[-1]["fds"]) - float(table[0]["fds"])
    errors = float(table[-1]["calls.errors"])
    assert 2 <= opened <= errors + 4
    assert 0 < label["onset_s"] < 5


def test_the_recordings_are_of_programs_that_are_here() -> None:
    recorded = labels(BENCH / "recorded")
    assert {label["family"] for label in recorded.values()} == {f"real_{name}" for name in PROGRAMS}
    assert {path.name for path in (BENCH / "recorded" / "traces").iterdir()} == {f"{i}.csv.gz" for i in recorded}
