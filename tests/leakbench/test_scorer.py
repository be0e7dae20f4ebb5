"""The scorer that came with the traces keeps to the rules that it states."""

from pathlib import Path
from typing import Any

import pytest

from bench.leakbench.given import baselines
from bench.leakbench.trial import Split, figures, held, left_out

GIVEN = Path(__file__).parents[2] / "bench" / "leakbench" / "given" / "dev"
LABEL: dict[str, Any] = {
    "family": "a", "real": False, "leak": True, "onset_s": 100.0, "duration_s": 1100.0, "resources": ["rss"],
    "driver": "calls.a", "drivers": {"rss": "calls.a"}, "driver_ok": {"rss": ["time"]}, "tolerated": ["vms"],
    "per_call": {"rss": 2.0}, "rate_per_h": {"rss": 7.0},
}  # fmt: skip
CALM = LABEL | {"leak": False, "resources": [], "driver": None, "drivers": {}, "driver_ok": {}, "tolerated": []}
ALARM = {"resource": "rss", "driver": "calls.a", "per_call": 2.5, "rate_per_h": 7.0, "severity": "warn", "t_s": 600.0}


def scored(*alarms: dict[str, Any], label: dict[str, Any] = LABEL) -> Any:
    return figures({"x": {"alarms": list(alarms)}}, {"x": label})


def test_an_alarm_after_the_onset_is_a_hit_with_its_delay_driver_and_error() -> None:
    total = scored(ALARM)
    assert (total["hits"], total["false_traces"], total["f1"]) == (1, 0, 1.0)
    assert total["median_delay"] == 0.5
    assert total["driver_accuracy"] == 1.0
    assert total["median_per_call_error"] == 0.25


@pytest.mark.parametrize(
    ("alarm", "hits", "false"),
    [
        ({"severity": "info"}, 0, 0),
        ({"t_s": 99.8}, 1, 0),
        ({"t_s": 99.0}, 0, 1),
        ({"resource": "vms"}, 0, 0),
        ({"resource": "vms", "t_s": 50.0}, 0, 1),
        ({"resource": "fds"}, 0, 1),
    ],
)
def test_what_counts_depends_on_the_severity_the_moment_and_the_resource(
    alarm: dict[str, Any], hits: int, false: int
) -> None:
    total = scored(ALARM | alarm)
    assert (total["hits"], total["false_traces"]) == (hits, false)


def test_only_the_first_alarm_of_a_resource_counts() -> None:
    total = scored(ALARM | {"t_s": 50.0}, ALARM)
    assert (total["hits"], total["false_traces"]) == (0, 1)


def test_on_a_healthy_trace_every_alarm_is_false() -> None:
    total = scored(ALARM, ALARM | {"resource": "fds"}, label=CALM)
    assert (total["false_alarms"], total["negatives_alarmed"]) == (2, 1)
    assert total["false_alarms_per_100h"] == pytest.approx(2 * 100 / (1100 / 3600))


def test_a_driver_that_cannot_be_told_apart_is_right_but_its_amount_is_not_judged() -> None:
    total = scored(ALARM | {"driver": "time"})
    assert (total["driver_accuracy"], total["median_per_call_error"]) == (1.0, None)
    assert scored(ALARM | {"driver": "calls.b"})["driver_accuracy"] == 0.0


@pytest.mark.parametrize(
    ("alarms", "share"),
    [
        ([{}], 1.0),
        ([{"per_call_low": 2.1}], 0.0),
        ([{"per_call_high": 1.9}], 0.0),
        ([{}, {"t_s": 700.0, "per_call_low": 2.1}], 1.0),  # the first counts
        ([{"severity": "info", "per_call_low": 2.1}, {}], 1.0),
        ([{"driver": "time", "per_call": None}], None),
        ([{"driver": "calls.b"}], None),
        ([{"t_s": 50.0}, {}], None),  # false, before the onset
        ([{"resource": "fds"}], None),
        ([], None),
    ],
)
def test_an_interval_holds_the_true_amount_or_not(alarms: list[dict[str, Any]], share: float | None) -> None:
    around = ALARM | {"per_call_low": 1.5, "per_call_high": 3.0}
    assert held({"x": {"alarms": [around | alarm for alarm in alarms]}}, {"x": LABEL}) == share
    assert held({"x": {"alarms": [around]}}, {"x": CALM}) is None


def test_a_family_is_judged_with_what_is_best_on_the_others() -> None:
    labels = {name: LABEL | {"family": name} for name in "abcd"}
    first, second = hits("a"), hits("bcd")
    chosen = left_out([first, second], labels)
    assert {name: len(each["alarms"]) for name, each in chosen.items()} == {"a": 0, "b": 1, "c": 1, "d": 1}


def test_what_only_its_own_family_would_choose_is_not_chosen() -> None:
    labels = {name: LABEL | {"family": name} for name in "ab"}
    assert figures(left_out([hits("a"), hits("b")], labels), labels)["hits"] == 0


def hits(found: str) -> dict[str, dict[str, Any]]:
    """Predictions that find these."""
    return {name: {"alarms": [ALARM] if name in found else []} for name in "abcd"}


def test_a_baseline_comes_to_what_was_published_with_the_traces() -> None:
    split = Split(GIVEN)
    total = figures(split.run(baselines.MannKendall), split.labels)
    assert (total["traces"], total["hits"], total["false_traces"], total["false_alarms"]) == (120, 47, 37, 45)
    assert total["f1"] == pytest.approx(0.661972, abs=1e-6)
    assert total["median_per_call_error"] == pytest.approx(0.066039, abs=1e-6)
