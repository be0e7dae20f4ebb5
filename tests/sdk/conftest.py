"""A real bus for every test that asks for it, the test as supervisor, and no other bus in reach."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.busservers import BusServer, start_bus_server
from tests.sdk.supervision import HOST, Lines, Supervisor, lines_of


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No bus of this machine is found by accident."""
    monkeypatch.delenv("FLYBALL_URL", raising=False)
    monkeypatch.setenv("FLYBALL_HOST", HOST)
    monkeypatch.setenv("FLYBALL_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr("flyball.bus.SYSTEM_SOCKET", tmp_path / "run" / "bus.sock")


@pytest.fixture
def server() -> Iterator[BusServer]:
    """Debian's redis-server, private."""
    with start_bus_server("debian") as server:
        yield server


@pytest.fixture
def supervisor(server: BusServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    """The test as supervisor, where FLYBALL_URL leads."""
    monkeypatch.setenv("FLYBALL_URL", server.url)
    supervisor = Supervisor(server.url)
    try:
        yield supervisor
    finally:
        supervisor.close()


@pytest.fixture
def lines() -> Iterator[Lines]:
    """What the SDK logs."""
    with lines_of("flyball") as lines:
        yield lines
