"""The verdict at the end, of real programs: one that keeps a thread of each call, and one that keeps none."""

import json
from typing import Any

import pytest

from tests.cli.trace.conftest import Trace, program

#: After a calm and a pool of its own, each call starts a thread; `%s` says whether it ends.
CALLS = """
import random
never = threading.Event()
def call():
    never.wait(%s)
pool = [threading.Thread(target=never.wait, daemon=True) for _ in range(20)]
time.sleep(10)
for each in pool: each.start()
begin, calls = time.monotonic(), 0
while time.monotonic() - begin < 45:
    calls += 1
    threading.Thread(target=call, daemon=True).start()
    say(add_sections=calls)
    time.sleep(random.Random(calls).uniform(0.1, 0.5))
"""


@pytest.mark.timeout(120)
def test_a_leak_is_told_from_none(trace: Trace) -> None:
    """Side by side, under the same load."""
    found = _both(trace, leaking=CALLS % "None", well=CALLS % "0.05")
    leak = _verdict(found["leaking"], "threads")
    assert leak["stage"] in ("suspected", "confirmed")
    assert found["leaking"]["stage"] in ("suspected", "confirmed")
    assert leak["cause"]["driver"] == "calls.add_sections"
    assert leak["cause"]["per_call"]["value"] == pytest.approx(1.0, abs=0.1)
    assert leak["cause"]["per_call"]["low"] <= 1.02
    assert leak["cause"]["per_call"]["high"] >= 0.98
    assert _verdict(found["well"], "threads")["stage"] in ("steady", "warming")
    assert found["well"]["stage"] in ("unknown", "steady", "warming")


def _both(trace: Trace, **programs: str) -> dict[str, Any]:
    running = {
        name: trace.start("--interval", "0.25", "--output", f"{name}.csv", "--json", "--", *program(code))
        for name, code in programs.items()
    }
    return {name: json.loads(process.communicate(timeout=90)[0]) for name, process in running.items()}


def _verdict(found: Any, resource: str) -> Any:
    return next(verdict for verdict in found["verdicts"] if verdict["resource"] == resource)
