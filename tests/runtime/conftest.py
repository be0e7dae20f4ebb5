"""A world for each test: a server of its own where the test ends it, else an emptied one."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.busservers import BusServer, start_bus_server
from tests.runtime.rig import World


@pytest.fixture(scope="session")
def lasting_server() -> Iterator[BusServer]:
    """A server for every test that leaves it alive."""
    with start_bus_server("embedded") as server:
        yield server


@pytest.fixture
async def world(lasting_server: BusServer, tmp_path: Path) -> AsyncIterator[World]:
    """An empty server and an empty state directory."""
    world = World(lasting_server.url, tmp_path)
    await world.client.flushall()
    yield world
    await world.client.aclose()


@pytest.fixture(params=("debian", "embedded"))
def mortal(request: pytest.FixtureRequest) -> Iterator[BusServer]:
    """A server that the test may end; what it answered it keeps, so that a kill is the same each time."""
    with start_bus_server(request.param, ["--appendfsync", "always"]) as server:
        yield server


@pytest.fixture
async def mortal_world(mortal: BusServer, tmp_path: Path) -> AsyncIterator[World]:
    """The same on the server that may end."""
    world = World(mortal.url, tmp_path)
    yield world
    await world.client.aclose()
