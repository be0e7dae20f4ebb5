"""The commands of a newcomer find the demo, and only where nothing real runs."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.config import BusSection, Config, HostSection
from supervisor.demo import apart, at_hand
from supervisor.identity import own_identity
from supervisor.runtime.lock import StateLock
from tests.cli.conftest import HOST, Flyball


def held(state: Path) -> StateLock:
    return StateLock(state, own_identity(state, HOST))


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"FLYBALL_STATE_DIR": str(tmp_path)}


def test_the_demo_is_at_hand_only_where_it_runs_alone(tmp_path: Path, environ: dict[str, str]) -> None:
    config = Config(host=HostSection(name=HOST))
    assert not at_hand(config, environ).demo
    with held(tmp_path / "demo"):
        found = at_hand(config, environ)
        assert (found.demo, found.config.host.name) == (True, f"{HOST}-demo")
        assert found.environ["FLYBALL_STATE_DIR"] == str(tmp_path / "demo")
        with held(tmp_path):
            assert not at_hand(config, environ).demo
        assert at_hand(config, environ).demo
        (tmp_path / "lock").write_bytes(b"{")  # who holds it cannot be told
        assert not at_hand(config, environ).demo
        (tmp_path / "lock").unlink()
        assert not at_hand(Config(bus=BusSection(url="redis://box")), environ).demo
    assert not at_hand(config, environ).demo


def test_a_demo_that_was_killed_is_not_at_hand(tmp_path: Path, environ: dict[str, str]) -> None:
    lock = held(tmp_path / "demo")
    with lock:
        text = lock.path.read_bytes()
    nobody = text.replace(f'"pid":{os.getpid()},'.encode(), b'"pid":4194305,')
    assert nobody != text
    lock.path.write_bytes(nobody)
    assert not at_hand(Config(), environ).demo


def test_the_demos_name_still_fits() -> None:
    assert apart(Config(host=HostSection(name="x" * 64))).host.name == "x" * 59 + "-demo"


@pytest.fixture
def demo(alone: Flyball, tmp_path: Path) -> Iterator[Flyball]:
    """A real demo beside the command line."""
    alone.environ["FLYBALL_STATE_DIR"] = str(tmp_path / "s")
    with alone.start("demo", "--json", "--set", "api.port=0") as process:
        assert process.stdout is not None and process.stderr is not None
        greeting = json.loads(process.stdout.readline())
        assert greeting.keys() >= {"host", "pid", "simulated", "bus", "api", "lease"}
        assert (greeting["host"], greeting["pid"], greeting["simulated"]) == (f"{HOST}-demo", process.pid, True)
        assert greeting["bus"].keys() >= {"url", "kind", "socket"}
        assert greeting["api"]["url"].startswith("http://127.0.0.1:")
        try:
            yield alone
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=20)
    assert process.returncode == 0


def test_every_command_speaks_to_a_demo_that_runs_alone(demo: Flyball) -> None:
    with demo.start("events", "--follow", "--count", "100", "--json") as following:
        assert following.stdout is not None and following.stderr is not None
        assert following.stderr.readline().startswith(f"(demo) {HOST}-demo, on simulated cards")
        while json.loads(following.stdout.readline())["subject"] != "gpu0":
            pass
        following.send_signal(signal.SIGINT)
        following.communicate()
    status = demo.run("status")
    assert (status.returncode, status.stderr[:6]) == (0, "(demo)")
    assert status.stdout.startswith(f"{HOST}-demo SIMULATED")
    paused = demo.run("pause", "gpu0", "--for", "1m")
    assert (paused.returncode, "SIMULATED: " in paused.stdout) == (0, True), paused.stderr
    assert paused.stdout.count("SIMULATED") == 1
    refused = demo.run("pause", "gpu44")
    assert refused.returncode == 1
    assert "there is no gpu44 here" in refused.stderr
    check = demo.run("check")
    assert "SIMULATED" in check.stdout
    assert check.stderr.startswith("(demo) ")
