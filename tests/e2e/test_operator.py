"""An operator at the command line, the daemon behind it, and what `flyball check` says of it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.event import OverrideChanged, StateChanged
from schemas.workload import Directive
from tests.daemon import Daemon
from tests.mocknvml.control import MockNvml


@pytest.fixture
def daemon(state: Path, mock: MockNvml) -> Iterator[Daemon]:
    with Daemon(state, "[sampling]\ninterval_s = 0.3\n", environ=mock.environment()) as daemon:
        daemon.event("flyball.directive.issued", lambda event: event.subject == "gpu0")
        yield daemon


def test_an_override_ends_by_itself(daemon: Daemon) -> None:
    """`flyball throttle --for`: the directive changes, status says who and until when, and then it is over."""
    before = daemon.position()
    asked = daemon.command("throttle", "gpu0", "--speed", "0.5", "--for", "5s")
    assert asked.returncode == 0, asked.stderr
    assert "throttled gpu0 to speed 0.5 until " in asked.stdout
    directive = daemon.directive("gpu0")
    assert (directive.action, directive.speed) == ("throttle", 0.5)
    status = daemon.status_when(lambda status: any(target.override for target in status.targets))
    override = next(target.override for target in status.targets if target.target == "gpu0")
    assert override is not None
    assert override.operator in asked.stdout
    ended = daemon.event(
        "flyball.override.changed", lambda event: event.decode(OverrideChanged).outcome == "ended", after=before
    )
    assert ended.event.decode(OverrideChanged).reason == "its time is over"
    issued = [
        (directive.action, directive.speed)
        for event in daemon.events("flyball.directive.issued", after=before)
        for directive in [event.decode(Directive)]
    ]
    assert issued == [("throttle", 0.5), ("run", 1.0)]
    assert daemon.directive("gpu0").speed == 1.0


def test_pause_and_resume(daemon: Daemon) -> None:
    """`flyball pause` stands until `flyball resume`; a second resume has nothing to end and says so."""
    assert daemon.command("pause", "gpu0", "--for", "1m").returncode == 0
    assert daemon.directive("gpu0").action == "pause"
    resumed = daemon.command("resume", "gpu0", "--json")
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout)["data"]["outcome"] == "ended"
    assert daemon.directive("gpu0").action == "run"
    again = daemon.command("resume", "gpu0")
    assert again.returncode == 1
    assert "no override stands on gpu0" in again.stderr


def test_check_tells_health_blindness_and_absence_apart(daemon: Daemon, mock: MockNvml) -> None:
    """Exit codes as Nagios reads them: 0 healthy, 2 with a card that is BLIND, 2 without a bus; never green unknown."""
    daemon.status_when(lambda status: len(status.gpus) == 1 and len(status.targets) == 2)
    healthy = daemon.command("check")
    assert healthy.returncode == 0, healthy.stdout
    assert healthy.stdout.startswith("FLYBALL OK - ")

    mock.set(0, hang=1)
    daemon.event("flyball.gpu.state_changed", lambda event: event.decode(StateChanged).state == "BLIND")
    daemon.status_when(lambda status: any(target.state == "BLIND" for target in status.targets))
    blind = daemon.command("check", "--json")
    assert blind.returncode == 2
    found = {finding["name"]: finding for finding in json.loads(blind.stdout)["findings"]}
    assert found["target gpu0"]["level"] == "CRITICAL"
    assert found["target host"]["level"] == "OK"

    assert daemon.terminate() == 0
    gone = daemon.command("check")
    assert gone.returncode == 2
    assert gone.stdout.startswith("FLYBALL CRITICAL - bus: ")
    assert "UNKNOWN" in gone.stdout
