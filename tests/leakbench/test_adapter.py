"""The names and units of the runner's contract."""

from pathlib import Path

import pytest

from bench.leakbench.footprint import megabytes
from bench.leakbench.given import run_online
from bench.leakbench_adapter import Alarm, alarm, observation
from schemas.leak import Cause, Interval, Resource, Stage, Verdict

DEV = Path(__file__).parents[2] / "bench" / "leakbench" / "given" / "dev"
MIB = 2**20


def said(resource: Resource, stage: Stage, unit: int = 1) -> Alarm:
    rate, each = Interval(2.0 * unit, 1.0 * unit, 3.0 * unit), Interval(5.0 * unit, 4.0 * unit, 6.0 * unit)
    cause = Cause(driver="calls.fetch", per_call=each)
    return alarm(Verdict(resource=resource, stage=stage, at_s=9.0, since_s=4.0, rate_per_s=rate, cause=cause))


@pytest.mark.parametrize(("resource", "name"), [("rss", "rss"), ("vram", "vram")])
def test_memory_is_said_in_megabytes(resource: Resource, name: str) -> None:
    assert said(resource, "confirmed", MIB) == {
        "resource": name, "driver": "calls.fetch", "per_call": 5.0, "per_call_low": 4.0, "per_call_high": 6.0,
        "rate_per_h": 7200.0, "severity": "warn", "since_s": 4.0,
    }  # fmt: skip


@pytest.mark.parametrize(("resource", "name"), [("threads", "threads"), ("handles", "fds")])
def test_threads_and_handles_are_counts(resource: Resource, name: str) -> None:
    told = said(resource, "confirmed")
    assert (told["resource"], told["per_call"], told["rate_per_h"]) == (name, 5.0, 7200.0)


@pytest.mark.parametrize(
    ("resource", "stage", "severity"),
    [("rss", "suspected", "info"), ("rss", "confirmed", "warn"), ("vms", "confirmed", "info")],
)
def test_only_what_is_confirmed_counts_and_address_space_never(resource: Resource, stage: Stage, severity: str) -> None:
    assert said(resource, stage)["severity"] == severity


def test_what_is_not_known_is_none() -> None:
    told = dict(alarm(Verdict(resource="rss", stage="confirmed")))
    unknown = ("driver", "per_call", "per_call_low", "per_call_high", "rate_per_h", "since_s")
    assert [told[key] for key in unknown] == [None] * 6


def test_the_engine_is_told_bytes_and_handles_and_only_what_was_measured() -> None:
    first = next(run_online.samples(str(DEV / "traces" / "1e3aa917dfeb.csv.gz")))
    counts = dict.fromkeys(("add_sections", "checkout", "health", "infer"), 0.0)
    levels = {"rss": 144.0 * MIB, "threads": 14.0, "handles": 42.0, "vram": 0.0}
    assert observation(first) == (0.0, levels, counts, {"clients": 1.0})
    silent = first | {"fds": None, "calls": counts | {"infer": None}, "gauges": {"clients": None}}
    del levels["handles"], counts["infer"]
    assert observation(silent) == (0.0, levels, counts, {})


def test_the_memory_of_live_series_is_measured_where_nothing_else_runs() -> None:
    assert 0 <= megabytes(subjects=40, samples=50) < 40
