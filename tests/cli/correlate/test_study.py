"""The thread study, done by hand in a day, done again by one command."""

import json

import pytest

from tests.cli.conftest import Flyball
from tests.cli.correlate.conftest import SERVER


def test_the_surge_points_are_those_of_the_study(alone: Flyball) -> None:
    shown = alone.run("correlate", str(SERVER)).stdout.splitlines()
    start = next(index for index, line in enumerate(shown) if line.startswith("SURGE "))
    table = [line.split() for line in shown[start + 1 : start + 5]]
    assert [" ".join(cells) for cells in table] == [
        "39–40 s 32 → 66 (+34) 1,163 → 2,550 (+1,387) 0 → 1 first call of add_sections",
        "51–52 s 70 → 78 (+8) 3,118 → 3,150 (+32) 11 → 13 add_sections +2, CreateRequest +69",
        "65–66 s 78 → 85 (+7) 3,983 → 4,016 (+33) 23 → 25 add_sections +2, CreateRequest +10",
        "69–70 s 85 → 97 (+12) 4,164 → 4,190 (+26) 27 → 29 add_sections +2, CreateRequest +10",
    ]


def test_the_first_call_brought_34_threads_and_each_later_one_about_one(alone: Flyball) -> None:
    found = alone.json("correlate", str(SERVER))
    one = next(one for one in found["first_calls"] if one["counter"] == "calls.add_sections")
    assert (one["at_s"], one["calls"], one["jumps"]["threads"]) == (40.0, 31.0, 34.0)
    assert one["per_call"]["threads"] == pytest.approx(1.0, abs=0.05)


def test_threads_and_memory_correlate_as_in_the_study(alone: Flyball) -> None:
    pairs = {(pair["a"], pair["b"]): pair for pair in alone.json("correlate", str(SERVER))["pairs"]}
    assert pairs["rss", "threads"]["levels"] > 0.98
    assert pairs["rss", "threads"]["changes"] > 0.85
    assert pairs["rss", "threads"]["lag_s"] == 0
    # what misled the study at first: its level correlates, its changes do not
    assert pairs["rss", "calls.CreateRequest"]["levels"] > 0.95
    assert abs(pairs["rss", "calls.CreateRequest"]["changes"]) < 0.2


def test_the_verdict_is_that_of_the_study(alone: Flyball) -> None:
    ended = alone.run("correlate", str(SERVER), "--json")
    found = json.loads(ended.stdout)
    assert found["pattern"] == "threads explain memory"
    verdicts = {verdict["resource"]: verdict for verdict in found["verdicts"]}
    assert verdicts["threads"]["stage"] in ("suspected", "confirmed")
    assert verdicts["rss"]["stage"] in ("suspected", "confirmed")
    threads = verdicts["threads"]["cause"]
    assert threads["driver"] == "calls.add_sections"
    assert threads["per_call"]["value"] == pytest.approx(1.0, abs=0.25)
    assert threads["per_call"]["low"] < 1.03 < threads["per_call"]["high"]
    jump = max(verdicts["threads"]["jumps"], key=lambda jump: float(jump["amount"]))
    assert (round(jump["amount"]), jump["first_call"]) == (34, "calls.add_sections")
    memory = verdicts["rss"]["cause"]
    assert memory["driver"] in ("threads", "calls.add_sections")
    assert "calls.add_sections" in (memory["driver"], memory.get("through"), *memory.get("alike", ()))
    assert not any("CreateRequest" in str(verdict.get("cause")) for verdict in (verdicts["threads"], verdicts["rss"]))
