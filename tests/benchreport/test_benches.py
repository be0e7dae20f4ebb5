"""Every benchmark runs, says how to be run, and writes rows in the one format; none of their figures is asserted."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
import uvloop

from bench import api, daemon, leak, ledger, loop, start, thermal, throughput
from bench.chains import Bare, Raw, ours
from bench.peers import environment
from bench.report import Report, options
from bench.rig import rig
from bench.server import private_server
from bench.thermal_sim.fleet import fleet
from tests.tools import require_tool

ROOT = Path(__file__).parents[2]
BENCHES = ("api", "daemon", "leak", "loop", "sampling", "start", "thermal", "throughput")
#: The other modules of the room: what the benchmarks share.
PARTS = {
    "__init__", "chains", "emptyserver", "leakbench_adapter", "ledger", "listener", "openloop", "report", "rig",
    "running", "samples", "server",
}  # fmt: skip


def test_the_table_of_this_file_holds_every_benchmark() -> None:
    assert {path.stem for path in (ROOT / "bench").glob("*.py")} == {*BENCHES, *PARTS}


@pytest.mark.parametrize("bench", BENCHES)
def test_says_how_it_is_run(bench: str) -> None:
    command = [sys.executable, str(ROOT / "bench" / f"{bench}.py"), "--help"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert {"--quick", "--json"} <= set(run.stdout.split())


@pytest.mark.parametrize("bench", BENCHES)
def test_is_described_in_the_readme(bench: str) -> None:
    text = (ROOT / "bench" / "README.md").read_text("utf-8")
    assert f"## {bench}.py" in text
    assert f".venv/bin/python bench/{bench}.py" in text


def test_the_readme_says_how_to_get_the_peers() -> None:
    assert environment.HOW_TO in (ROOT / "bench" / "README.md").read_text("utf-8")
    assert environment.HOW_TO in (ROOT / "CONTRIBUTING.md").read_text("utf-8")


def test_a_missing_peer_is_said_with_the_command_that_gets_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(environment, "_ROOT", tmp_path)

    async def ask() -> object:
        async with environment.peer("faststream_chain") as program:
            return program

    assert asyncio.run(ask()) is None
    assert environment.HOW_TO in capsys.readouterr().err


def test_each_chain_hears_of_every_sample() -> None:
    require_tool("redis-server")

    async def run(url: str) -> list[list[float]]:
        payload = b"x" * 8000
        async with (
            rig(url) as supervisor, Bare(url, payload) as bare, Raw(url, payload) as raw, ours(supervisor) as chain,
        ):  # fmt: skip
            return [await each.go(7) for each in (chain, bare, raw)]

    with private_server() as url, asyncio.Runner(loop_factory=uvloop.Loop) as runner:
        spent = runner.run(run(url))
    assert [len(each) for each in spent] == [7, 7, 7]
    assert all(seconds > 0 for each in spent for seconds in each)


def test_the_rows_of_the_loop_hold_what_was_measured() -> None:
    rows = Report("loop", options("", []))
    loop.add_rows(rows, {"ours": [[2e-4, 2e-4]], "bare": [[1e-4, 1e-4]], "raw": [[5e-5, 5e-5]]}, 7900)
    beside_bare, beside_raw, beside_peer = rows.rows[:3]
    assert (beside_bare.ours, beside_bare.floor, beside_bare.ratio) == (200, 100, 2)
    assert beside_bare.met is False
    assert (beside_raw.ratio, beside_raw.met) == (4, None)
    assert (beside_peer.peer, beside_peer.met) == (None, None)


def test_every_event_of_a_throughput_run_is_handled() -> None:
    require_tool("redis-server")
    with private_server() as url, asyncio.Runner(loop_factory=uvloop.Loop) as runner:
        rates = runner.run(throughput.measure(url, rounds=1, count=300, peers=False))
    rows = Report("throughput", options("", []))
    throughput.add_rows(rows, rates)
    assert {name: {every: len(figures) for every, figures in each.items()} for name, each in rates.items()} == {
        "bare": {100: 1, 1: 1},
        "ours": {100: 1, 1: 1},
    }
    assert [row.goal for row in rows.rows] == ["≥ 0.5 × floor", "≥ 4 × peer", None, None]


def test_the_rows_of_the_daemon_say_what_it_costs_beside_each_peer() -> None:
    rows = Report("daemon", options("", []))
    figures = {
        "ours": daemon.Figures(0.5, 50, 0.1, 1.6), "bus": daemon.Figures(0.2, 6, 0, 0),
        "plain loop": daemon.Figures(2, 25, 0, 0),
    }  # fmt: skip
    daemon.add_rows(rows, figures)
    assert [(row.figure, row.met) for row in rows.rows if row.goal] == [
        ("CPU", True), ("PSS", True), ("growth of RSS", True), ("growth of PSS", False),
        ("CPU", None), ("CPU", True),
    ]  # fmt: skip


def test_the_rows_of_a_start_are_in_milliseconds() -> None:
    rows = Report("start", options("", []))
    start.add_rows(rows, {"python": [0.01, 0.01], "status": [0.1, 0.1], "start": [2.0, 2.0]})
    assert [(row.ours, row.met) for row in rows.rows] == [(100, True), (2000, False), (100, None), (2000, None)]


def test_every_request_of_a_round_is_answered() -> None:
    with api.empty() as port:
        took = api.asked(port, "/", 0.2, None)
        assert len(took) == 100
        assert all(seconds > 0 for seconds in took)
        with pytest.raises(subprocess.CalledProcessError):
            api.asked(port, "/nowhere", 0.2, None)


def test_every_reservation_of_a_round_is_made_and_given_back() -> None:
    require_tool("redis-server")
    with private_server() as url, asyncio.Runner(loop_factory=uvloop.Loop) as runner:
        spent = runner.run(ledger.measure(url, rounds=1, count=5))
    rows = Report("api", options("", []))
    ledger.add_rows(rows, spent)
    assert {name: [len(each) for each in rounds] for name, rounds in spent.items()} == {
        "bare": [5], "wire": [5], "ours": [5],
    }  # fmt: skip
    assert [row.goal for row in rows.rows] == [None, None, "≤ 3 × floor", "≤ 3 × floor"]


def test_the_rows_of_the_api_hold_what_was_measured() -> None:
    rows = Report("api", options("", []))
    quick, slow = [[1e-4] * 99 + [4e-4]], [[2e-4] * 99 + [6e-4]]
    spent = {"ours": slow, "empty": quick, "before": slow, "beside": slow, "scraped": [[6e-3]], "reserved": slow}
    api.add_rows(rows, spent)
    assert [(row.figure, row.ours, row.ratio, row.met) for row in rows.rows] == [
        ("p50", 200, 2, False), ("p50", 200, 1, True), ("p50", 6000, None, False), ("p50", 200, None, None),
        ("p99", 600, 1.5, True), ("p99", 600, 1, True), ("p99", 6000, None, None), ("p99", 600, None, None),
    ]  # fmt: skip


def test_the_rows_of_the_thermal_bench_hold_every_class_and_the_goals_in_sum() -> None:
    scores, cost = thermal.run(fleet(seed=1, seconds=90, count=6), 90)
    assert set(scores) == {"ladder", "predictive", "PI", "do nothing", "best constant speed", "all-knowing"}
    assert {name: len(each) for name, each in scores.items()} == dict.fromkeys(scores, 6)
    assert set(cost) == {"ladder", "predictive"}
    rows = Report("thermal", options("", []))
    thermal.add_rows(rows, "fleet", scores, goals=True)
    assert [row.goal for row in rows.rows if row.goal] == [
        "≥ 1.15 × floor", "≤ 0 s", "≤ 0 s", "≤ 0 events", "≤ 4 1/min",
    ]  # fmt: skip
    assert len(rows.rows) == 5 * 7 + 3
    assert len(thermal.table(scores).splitlines()) == 8


def test_the_rows_of_the_leak_bench_hold_the_goals_and_all_detectors_are_in_the_table() -> None:
    perfect = dict.fromkeys(leak.FIGURES, 1.0) | {"false_alarms_per_100h": 0.0, "median_delay": 0.3}
    nothing = dict.fromkeys(leak.FIGURES, None) | {"f1": 0.0}
    rows = Report("leak", options("", []))
    leak.add_rows(rows, "given", {"ours": perfect, "MannKendall": nothing}, leak.GOALS)
    assert [(row.figure, row.met) for row in rows.rows if row.goal] == [
        ("F1", True), ("precision", True), ("false in 100 h", True), ("driver right", True), ("error a call", False),
        ("delay", False),
    ]  # fmt: skip
    assert rows.rows[0].peer == 0.0
    assert rows.rows[1].peer is None
    table = leak.table({"ours": perfect, "MannKendall": nothing}).splitlines()
    assert [line.split()[:2] for line in table[1:]] == [["ours", "1.000"], ["MannKendall", "0.000"]]
