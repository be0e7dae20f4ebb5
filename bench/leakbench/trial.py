"""Runs detectors over a split, one sample at a time, and scores what they said."""

import csv
import gzip
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from bench.leakbench.given import run_online
from bench.leakbench.given import score as scorer

RESOURCES = ("rss_mb", "vms_mb", "threads", "fds", "vram_mb")
#: id → what `run_online` writes of a trace
Predictions = Mapping[str, Mapping[str, Any]]
Labels = Mapping[str, Mapping[str, Any]]
Figures = Mapping[str, Any]


class Online(Protocol):
    """What the runner needs of a detector."""

    def observe(self, sample: Mapping[str, Any]) -> Any:
        """Alarms, if any."""


class Split:
    """A folder with `traces` and `labels.json`; every `stride`th trace of it."""

    def __init__(self, directory: Path, stride: int = 1) -> None:
        labels: Labels = json.loads((directory / "labels.json").read_text("utf-8"))
        self.labels = {identity: labels[identity] for identity in sorted(labels)[::stride]}
        self._traces = directory / "traces"

    def run(self, detector: Callable[[], Online]) -> dict[str, Mapping[str, Any]]:
        """Feed every trace to a detector of its own; what each said and what it took."""
        with tempfile.TemporaryDirectory() as folder:
            for identity in self.labels:
                (Path(folder) / f"{identity}.csv.gz").symlink_to(self._traces.absolute() / f"{identity}.csv.gz")
            out = Path(folder) / "said.jsonl"
            run_online.run(detector, folder, str(out))
            said = (json.loads(line) for line in out.read_text("utf-8").splitlines())
            return {each["id"]: each for each in said}

    def series(self, identity: str) -> int:
        """How many resources of a trace are measured."""
        with gzip.open(self._traces / f"{identity}.csv.gz", "rt", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return sum(any(row[column] for row in rows) for column in RESOURCES)

    def microseconds(self, said: Predictions) -> float:
        """What a sample of one series took, on average over all samples."""
        spent = sum(each["us_per_sample"] * each["n_samples"] for each in said.values())
        return float(spent / sum(each["n_samples"] * self.series(name) for name, each in said.items()))


def figures(said: Predictions, labels: Labels, real: bool | None = None) -> Figures:
    """The scorer's totals: of all, of real programs only, or of invented ones only."""
    total: Figures = scorer.score(said, labels, real)[0]
    return total


def by_family(said: Predictions, labels: Labels) -> Mapping[str, Figures]:
    """The scorer's table."""
    families: Mapping[str, Figures] = scorer.score(said, labels)[1]
    return families


def held(said: Predictions, labels: Labels) -> float | None:
    """Share of the 95 % intervals that hold the true amount a call, of the alarms whose error the scorer counts."""
    within = []
    for identity, label in labels.items():
        first: dict[str, Mapping[str, Any]] = {}
        for alarm in said[identity]["alarms"]:  # in the order of their times
            if alarm["severity"] != "info":
                first.setdefault(alarm["resource"], alarm)
        for resource, true in label["per_call"].items() if label["leak"] else ():
            alarm = first.get(resource, {"t_s": -1.0})
            late = alarm["t_s"] >= label["onset_s"] - scorer.SLACK
            if true and late and alarm["driver"] == label["drivers"][resource] and alarm["per_call"] is not None:
                within.append(alarm["per_call_low"] <= true <= alarm["per_call_high"])
    return sum(within) / len(within) if within else None


def left_out(candidates: Sequence[Predictions], labels: Labels) -> dict[str, Mapping[str, Any]]:
    """For each family what the candidate says that does best (F1) on all other families; the first wins a tie."""
    said: dict[str, Mapping[str, Any]] = {}
    for family in {label["family"] for label in labels.values()}:
        others = {identity: label for identity, label in labels.items() if label["family"] != family}
        best = max(candidates, key=lambda candidate: figures(candidate, others)["f1"])
        said |= {identity: best[identity] for identity in labels.keys() - others.keys()}
    return said
