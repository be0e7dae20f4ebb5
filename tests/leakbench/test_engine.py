"""The engine in the contract of the runner, over traces of programs that leak and that do not."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from bench.leakbench.trial import Predictions, Split, figures
from bench.leakbench_adapter import Detector

DEV = Path(__file__).parents[2] / "bench" / "leakbench" / "given" / "dev"
#: the server that was reported: a pool starts with the first `add_sections`, then each leaves a thread
REPORTED = "3eb1273cb659"
#: leaks of a real program's handles and memory, and of a card
LEAKS = {"0d9fa3ae3338": "fds", "b24a1c736624": "rss", "1e3aa917dfeb": "vram"}
#: a warm-up, a pool that follows the load, a saw, a loaded model
CALM = ("313832b59605", "9026df21a8a0", "f521a7e7f1ee", "cf2781f480a6")


def only(*names: str) -> Split:
    split = Split(DEV)
    split.labels = {name: split.labels[name] for name in names}
    return split


@pytest.fixture(scope="module")
def said() -> Predictions:
    return only(REPORTED, *LEAKS, *CALM).run(Detector)


def counted(said: Predictions, name: str) -> dict[str, Any]:
    """The first alarm of each resource that is more than information."""
    first: dict[str, Any] = {}
    for alarm in said[name]["alarms"]:
        if alarm["severity"] != "info":
            first.setdefault(alarm["resource"], alarm)
    return first


def test_the_reported_server_leaks_threads_by_the_call(said: Predictions) -> None:
    threads = counted(said, REPORTED)["threads"]
    assert threads["driver"] == "calls.add_sections"
    assert threads["per_call"] == pytest.approx(1.03, rel=0.3)
    assert threads["t_s"] >= only(REPORTED).labels[REPORTED]["onset_s"]


@pytest.mark.parametrize(("name", "resource"), LEAKS.items())
def test_a_leak_is_said_of_its_resource_after_its_onset(said: Predictions, name: str, resource: str) -> None:
    alarms = counted(said, name)
    assert set(alarms) == {resource}
    label = only(name).labels[name]
    assert alarms[resource]["t_s"] >= label["onset_s"]
    assert alarms[resource]["driver"] == label["driver"]
    assert alarms[resource]["per_call"] == pytest.approx(label["per_call"][resource], rel=0.3)


@pytest.mark.parametrize("name", CALM)
def test_nothing_is_said_of_what_does_not_leak(said: Predictions, name: str) -> None:
    assert counted(said, name) == {}


def test_it_is_told_neither_the_trace_nor_its_length(said: Predictions, tmp_path: Path) -> None:
    """Half a trace gives the same alarms, up to there."""
    (tmp_path / "traces").mkdir()
    whole = Split(DEV)
    text = gzip.decompress((DEV / "traces" / f"{REPORTED}.csv.gz").read_bytes()).decode()
    half = text.splitlines()[:61]
    (tmp_path / "traces" / "other.csv.gz").write_bytes(gzip.compress(("\n".join(half) + "\n").encode()))
    (tmp_path / "labels.json").write_text(json.dumps({"other": whole.labels[REPORTED]}))
    end = float(half[-1].split(",")[0])
    shorter = Split(tmp_path).run(Detector)["other"]["alarms"]
    assert shorter == [alarm for alarm in said[REPORTED]["alarms"] if alarm["t_s"] <= end]


def test_address_space_is_never_more_than_information(said: Predictions) -> None:
    assert all("vms" not in counted(said, name) for name in said)


def test_what_was_said_is_scored(said: Predictions) -> None:
    labels = only(REPORTED, *LEAKS, *CALM).labels
    assert figures(said, labels)["f1"] == 1.0
    assert figures(said, labels, real=True)["traces"] == 2
