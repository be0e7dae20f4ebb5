"""One contract, three servers: Debian's Redis, the embedded Valkey, and a Redis that has no functions."""

from collections.abc import AsyncIterator, Iterator
from typing import Final

import pytest

from tests.bus.talk import Bus
from tests.busservers import BusServer, start_bus_server

FLAVOURS: Final = {
    "debian": ("debian", ()),
    "embedded": ("embedded", ()),
    "no functions": ("debian", ("--rename-command", "FUNCTION", "", "--rename-command", "FCALL", "")),
}


@pytest.fixture(scope="session", params=FLAVOURS)
def shared_server(request: pytest.FixtureRequest) -> Iterator[BusServer]:
    """A server for all tests that leave it alive."""
    kind, options = FLAVOURS[request.param]
    with start_bus_server(kind, options) as server:
        yield server


@pytest.fixture(params=FLAVOURS)
def own_server(request: pytest.FixtureRequest) -> Iterator[BusServer]:
    """A server for a test that ends it; what it answered it keeps, so that a kill is the same each time."""
    kind, options = FLAVOURS[request.param]
    with start_bus_server(kind, [*options, "--appendfsync", "always"]) as server:
        yield server


@pytest.fixture
async def bus(shared_server: BusServer) -> AsyncIterator[Bus]:
    """An empty server, on which we hold the lease."""
    bus = Bus(shared_server)
    try:
        await bus.client.flushall()
        await bus.open()
        yield bus
    finally:
        await bus.close()


@pytest.fixture
async def own_bus(own_server: BusServer) -> AsyncIterator[Bus]:
    """The same on a server that the test may end."""
    bus = Bus(own_server)
    try:
        await bus.open()
        yield bus
    finally:
        await bus.close()
