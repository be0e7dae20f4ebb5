"""A bus, a state directory, and the command line as a process."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis

from schemas.envelope import Event
from schemas.sample import Gpu, GpuBackend, Host
from schemas.status import (
    ApiStatus,
    BusStatus,
    HandlerStatus,
    LeaseStatus,
    OverrideStatus,
    Status,
    TargetStatus,
    WorkloadStatus,
)
from supervisor.bus.keys import events_key, lease_key, status_key
from tests.busservers import BusServer, start_bus_server

ROOT = Path(__file__).parent.parent.parent
HOST = "box"


class Flyball:
    """The command line, with an environment of its own."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Add `environ` to what every process needs."""
        inherited = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        self.environ = {**inherited, "FLYBALL_HOST__NAME": HOST, **environ}

    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            self.words(arguments), env=self.environ | environ, cwd=ROOT, capture_output=True, text=True, timeout=30,
            check=False,
        )  # fmt: skip

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command."""
        return subprocess.Popen(
            self.words(arguments), env=self.environ, cwd=ROOT, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def json(self, *arguments: str) -> Any:
        """What a command prints with --json."""
        return json.loads(self.run(*arguments, "--json").stdout)

    @staticmethod
    def words(arguments: Sequence[str]) -> list[str]:
        """The whole command line."""
        return [sys.executable, "-m", "supervisor.cli.main", *arguments]


class Supervisor:
    """What the daemon would say on the bus."""

    def __init__(self, client: Any) -> None:
        """Speak through `client`."""
        self.client = client

    def report(self, status: Status) -> None:
        """The status, with the lease that a living supervisor holds."""
        self.client.set(status_key(HOST), msgspec.json.encode(status), ex=60)
        self.hold_lease(for_s=15)

    def hold_lease(self, for_s: float) -> None:
        """The lease, as `supervisor/bus/flyball.lua` writes it: by the server's clock."""
        seconds, microseconds = self.client.time()
        ends_ms = int((seconds + for_s) * 1000 + microseconds / 1000)
        self.client.hset(lease_key(HOST), mapping={"epoch": 3, "holder": "{}", "expires_ms": ends_ms})

    def say(self, number: int, type: str = "flyball.gpu.state_changed", **data: Any) -> bytes:
        """An event."""
        event = Event(
            f"event-{number}", type, f"{HOST}/throttle", "gpu0", "2026-11-21T12:00:00.000Z", f"Sentence {number}.",
            json.dumps(data).encode(),
        )  # fmt: skip
        entry: bytes = self.client.xadd(events_key(), _pairs(event))
        return entry


def _pairs(event: Event) -> Any:
    fields = event.fields()
    return dict(zip(fields[::2], fields[1::2], strict=True))


def a_status(**changes: Any) -> Status:
    """A host with two cards, of which one is paused by an operator."""
    from supervisor.clock import SystemClock, rfc3339

    status = Status(
        host=HOST,
        time=rfc3339(SystemClock().wall()),
        version="0.1.0",
        pid=812,
        bus=BusStatus(url="unix:///run/flyball/bus.sock", kind="redis-server"),
        api=ApiStatus("http://127.0.0.1:8470"),
        lease=LeaseStatus(3),
        sample_id="box/12345678/9",
        sample_age_s=0.4,
        sample_interval_s=1.0,
        gpu_backend=GpuBackend("ok"),
        gpus=(
            Gpu(index=0, uuid="GPU-0", temperature_celsius=88.0, memory_total_bytes=100, memory_used_bytes=81),
            Gpu(index=1, uuid="GPU-1", reading="blind", reason="timeout"),
        ),
        host_memory=Host(memory_total_bytes=1000, memory_available_bytes=750),
        targets=(
            TargetStatus(
                target="gpu0", state="THROTTLED", action="pause", speed=0.0, reason="alice paused it", seq=7,
                override=OverrideStatus("alice@box", "2026-11-21T12:10:00Z", "pause", 0.0),
            ),
            TargetStatus(target="host", state="OPTIMAL", action="run", speed=1.0, reason="", seq=2),
        ),
        workloads=(WorkloadStatus(name="trainer", state="joined", pids=(4711,), targets=("gpu0",), may=("pause",)),),
        handlers=(HandlerStatus(name="throttle", state="running", lag=0, handled=12),),
    )  # fmt: skip
    return msgspec.structs.replace(status, **changes)


@pytest.fixture
def bus() -> Iterator[BusServer]:
    """The supervisor's own bus: its directory is the state directory."""
    with start_bus_server("debian") as server:
        yield server


@pytest.fixture
def client(bus: BusServer) -> Iterator[Any]:
    """The test's own connection to it; Any, for redis-py's types know no difference between bytes and str."""
    with redis.Redis(unix_socket_path=str(bus.path)) as connection:
        yield connection


@pytest.fixture
def supervisor(client: Any) -> Supervisor:
    """The supervisor's voice."""
    return Supervisor(client)


@pytest.fixture
def flyball(bus: BusServer, tmp_path: Path) -> Flyball:
    """The command line beside that bus."""
    return Flyball({"HOME": str(tmp_path), "FLYBALL_STATE_DIR": str(bus.directory)})


@pytest.fixture
def alone(tmp_path: Path) -> Flyball:
    """The command line on a machine where Flyball never ran."""
    return Flyball({"HOME": str(tmp_path)})
