"""A server with routes of the test's own."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec

from schemas.sample import GpuBackend, Sample
from schemas.status import BusStatus, LeaseStatus, Status
from supervisor.api import state
from supervisor.api.adapter import Decide, Facts
from supervisor.api.guard import Access
from supervisor.api.server import Contents, Server, serve
from supervisor.route import Route

__all__ = ["Host", "a_status", "answer", "serving"]


def a_status() -> Status:
    return Status(
        host="box",
        time="2026-11-21T12:00:00.000Z",
        bus=BusStatus(url="unix:///run/flyball/bus.sock", kind="redis-server"),
        lease=LeaseStatus(3),
        gpu_backend=GpuBackend("unavailable", "nvml_library_not_found", "install the driver"),
    )


class Host:
    """What the server shows; the tests change it while it serves."""

    def __init__(self, routes: Sequence[Route] = (), access: Access | None = None) -> None:
        self.missing: list[str] = []
        self.broken = False
        self.latest: Sample | None = None
        self.decide: Decide | None = None
        self._routes = routes
        self._access = access or Access()

    def status(self) -> Status:
        if self.broken:
            raise RuntimeError("hunter2 is in this message")
        return a_status()

    def contents(self, **changes: Any) -> Contents:
        routes = [*state.routes(self.status), *self._routes]
        contents = Contents(
            facts=Facts(latest=lambda: self.latest), ready=lambda: self.missing,
            routes=[(route, self.decide) for route in routes], access=self._access,
        )  # fmt: skip
        return msgspec.structs.replace(contents, **changes)


@asynccontextmanager
async def serving(host: Host, *, where: str = "127.0.0.1", **changes: Any) -> AsyncIterator[Server]:
    server = await serve(where, 0, host.contents(**changes))
    try:
        yield server
    finally:
        await server.close()


async def answer(client: aiohttp.ClientSession, path: str, method: str = "GET", **options: Any) -> tuple[int, str, Any]:
    """Status, media type and the JSON inside."""
    async with client.request(method, path, **options) as response:
        return response.status, response.content_type, await response.json(content_type=None)
