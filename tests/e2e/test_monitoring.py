"""Monitoring is stopped for a while: no card is read, none speeds up, and everything says who wanted it."""

import json
from pathlib import Path
from typing import Final

from schemas.event import MonitoringChanged, StateChanged
from tests.api.client import Client
from tests.daemon import Daemon
from tests.mocknvml.control import MockNvml

STOP, START = "/api/gpu/monitoring/stop", "/api/gpu/monitoring/start"
CONFIG: Final = "[sampling]\ninterval_s = 0.5\n[throttle]\nthrottle_cooldown_seconds = 0\n"
SAMPLES: Final = "flyball:samples:{0}"


def in_state(daemon: Daemon, state: str, after: str = "0-0") -> str:
    """The id of the event by which card 0 came into that state."""
    return daemon.event(
        "flyball.gpu.state_changed", lambda event: event.decode(StateChanged).state == state, after=after
    ).id


def reads_of(mock: MockNvml) -> dict[str, int]:
    """How often the driver was asked for what; its events are waited for all the time."""
    return {name: count for name, count in mock.calls().items() if name.startswith("nvmlDevice")}


def test_stopped_and_started_again(state: Path, mock: MockNvml) -> None:
    mock.set(0, temperature=78)
    with Daemon(state, CONFIG, environ=mock.environment()) as daemon:
        in_state(daemon, "THROTTLED")
        client = Client(daemon)
        stopped = client.post(STOP, {"reason": "driver update"})
        assert stopped.status == 200
        assert stopped.document["state"] == "stopped"
        again = client.post(STOP)
        assert again.document == stopped.document
        told = daemon.event("flyball.monitoring.changed").event
        assert told.text == "api 127.0.0.1 stopped monitoring: no GPU is read (driver update)"
        assert told.decode(MonitoringChanged).state == "stopped"
        blind = in_state(daemon, "BLIND")

        mock.set(0, temperature=40)
        position, sample = daemon.sample(lambda sample: sample.gpu_backend.state == "stopped")
        reads = reads_of(mock)
        for _ in range(5):
            position, sample = daemon.sample(lambda sample: True, after=position)
            assert [(gpu.reading, gpu.temperature_celsius) for gpu in sample.gpus] == [("blind", None)]
            assert sample.host_figures is not None
            assert sample.processes
        assert reads_of(mock) == reads
        assert daemon.directive("gpu0").speed == 0.5, "nothing speeds up"

        who = f"api 127.0.0.1 stopped monitoring at {stopped.document['since']}: driver update"
        status = daemon.status_when(lambda status: any(who in problem for problem in status.problems))
        assert (status.gpu_backend.state, status.gpu_backend.reason) == ("stopped", who)
        assert who in daemon.command("status").stdout
        checked = daemon.command("check", "--json")
        assert checked.returncode == 2
        found = {finding["name"]: finding for finding in json.loads(checked.stdout)["findings"]}
        assert found["gpu backend"]["level"] == "CRITICAL"
        assert who in found["gpu backend"]["text"]
        assert "POST /api/gpu/monitoring/start" in found["gpu backend"]["text"]
        assert any(who in problem for problem in client.get("/api/status").document["problems"])
        ready = client.get("/readyz")
        assert ready.status == 503

        assert client.post(START, {}).document["state"] == "running"
        in_state(daemon, "OPTIMAL", after=blind)
        assert [event.decode(MonitoringChanged).state for event in daemon.events("flyball.monitoring.changed")] == [
            "stopped", "running",
        ]  # fmt: skip
        daemon.status_when(lambda status: not status.problems)
        checked = daemon.command("check")
        assert checked.returncode == 0, checked.stdout


def test_a_restart_starts_it_again(state: Path, mock: MockNvml) -> None:
    """Nobody may remember who stopped it, so a new process looks."""
    with Daemon(state, CONFIG, environ=mock.environment()) as daemon:
        in_state(daemon, "OPTIMAL")
        assert Client(daemon).post(STOP).status == 200
        blind = in_state(daemon, "BLIND")
        assert daemon.terminate() == 0
        daemon.output.clear()
        daemon.start()
        in_state(daemon, "OPTIMAL", after=blind)
        _, sample = daemon.sample(lambda sample: True, after=daemon.position(SAMPLES))
        assert (sample.gpu_backend.state, sample.gpus[0].reading) == ("ok", "fresh")
        assert not daemon.status_when(lambda status: status.sample_id).problems
