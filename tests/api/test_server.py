"""Each resource, each error as RFC 9457 has it, and a port that cannot be had."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec
import pytest

from schemas.sample import GpuBackend
from schemas.status import BusStatus, LeaseStatus, Status
from supervisor.api.address import listen, url_of
from supervisor.api.server import AddressUnavailable, Server, serve, serve_on


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

    def __init__(self) -> None:
        self.missing: list[str] = []
        self.broken = False

    def status(self) -> Status:
        if self.broken:
            raise RuntimeError("hunter2 is in this message")
        return a_status()

    def ready(self) -> list[str]:
        return self.missing


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
async def server(host: Host) -> AsyncIterator[Server]:
    server = await serve("127.0.0.1", 0, host.status, host.ready)
    try:
        yield server
    finally:
        await server.close()


@pytest.fixture
async def client(server: Server) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(server.url) as session:
        yield session


async def get(client: aiohttp.ClientSession, path: str, method: str = "GET") -> tuple[int, str, Any]:
    """Status, media type and the JSON inside."""
    async with client.request(method, path) as response:
        return response.status, response.content_type, await response.json(content_type=None)


async def test_the_status_is_that_of_the_command_line(client: aiohttp.ClientSession) -> None:
    code, media_type, document = await get(client, "/api/status")
    assert (code, media_type) == (200, "application/json")
    assert msgspec.convert(document, Status) == a_status()
    assert document["gpus"] == []


async def test_ready_says_what_is_missing(client: aiohttp.ClientSession, host: Host) -> None:
    assert await get(client, "/readyz") == (200, "application/json", {"state": "ready", "missing": []})
    host.missing = ["the bus is away"]
    assert await get(client, "/readyz") == (
        503, "application/json", {"state": "waiting", "missing": ["the bus is away"]},
    )  # fmt: skip


async def test_alive_needs_the_event_loop_alone(client: aiohttp.ClientSession, host: Host) -> None:
    host.missing, host.broken = ["the bus is away"], True
    assert await get(client, "/livez") == (200, "application/json", {"state": "alive"})


async def test_the_front_page_points_at_the_rest(client: aiohttp.ClientSession) -> None:
    async with client.get("/") as response:
        assert (response.status, response.content_type) == (200, "text/plain")
        text = await response.text()
    assert len(text.splitlines()) == 1
    assert all(path in text for path in ("/api/status", "/readyz", "/livez"))


async def test_nothing_there_is_a_problem(client: aiohttp.ClientSession) -> None:
    assert await get(client, "/nowhere") == (
        404, "application/problem+json",
        {"type": "about:blank", "title": "Not Found", "status": 404,
         "detail": "there is nothing at /nowhere; / lists what there is"},
    )  # fmt: skip


async def test_a_wrong_method_is_a_problem_that_names_the_right_ones(client: aiohttp.ClientSession) -> None:
    async with client.post("/api/status") as response:
        assert (response.status, response.content_type) == (405, "application/problem+json")
        assert response.headers["Allow"] == "GET, HEAD"
        document = await response.json(content_type=None)
    assert (document["title"], document["status"]) == ("Method Not Allowed", 405)
    assert document["detail"] == "/api/status takes GET, HEAD, not POST"


async def test_a_bug_is_logged_and_told_without_its_details(
    client: aiohttp.ClientSession, host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    host.broken = True
    code, media_type, document = await get(client, "/api/status")
    assert (code, media_type, document["title"]) == (500, "application/problem+json", "Internal Server Error")
    assert "hunter2" not in str(document)
    assert "hunter2" in caplog.text
    assert (await get(client, "/livez"))[0] == 200


async def test_headers_that_are_too_long_are_refused(client: aiohttp.ClientSession) -> None:
    async with client.get("/api/status", headers={"X-Long": "x" * 20_000}) as response:
        assert response.status == 400


async def test_a_taken_port_is_named_before_anything_else_starts(server: Server, host: Host) -> None:
    port = int(server.url.rpartition(":")[2])
    with pytest.raises(AddressUnavailable) as raised:
        await serve("127.0.0.1", port, host.status, host.ready)
    assert raised.value.exit_code == 2
    assert raised.value.what == f"the HTTP API cannot listen at 127.0.0.1:{port}"
    assert raised.value.why == "another program listens there"
    assert "api.port" in raised.value.hint


@pytest.mark.parametrize("address", ["127.1.2.3x", "no.such.host.invalid"])
async def test_an_address_that_is_none_is_named(host: Host, address: str) -> None:
    with pytest.raises(AddressUnavailable) as raised:
        await serve(address, 0, host.status, host.ready)
    assert "api.host" in raised.value.hint


@pytest.mark.parametrize("address", ["0.0.0.0", "", "::", "192.0.2.1"])
async def test_it_never_listens_where_others_could_ask(host: Host, address: str) -> None:
    """The configuration refuses it, too; this is what holds for a name that resolves to such an address."""
    with pytest.raises(AddressUnavailable) as raised:
        await serve(address, 0, host.status, host.ready)
    assert raised.value.exit_code == 2
    assert "is no loopback address" in raised.value.why


@pytest.mark.parametrize(
    "name", ["evil.example", "evil.example:8470", "192.0.2.1", "127.0.0.1.evil.example", "", "[", "a@b"]
)
async def test_a_page_of_elsewhere_that_was_bound_to_this_machine_is_refused(
    client: aiohttp.ClientSession, name: str
) -> None:
    async with client.get("/api/status", headers={"Host": name}) as response:
        assert (response.status, response.content_type) == (403, "application/problem+json")
        document = await response.json(content_type=None)
    assert (document["title"], document["status"]) == ("Forbidden", 403)
    assert "box" not in str(document)


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST:80", "127.0.0.1:1", "127.8.8.8", "[::1]:8470"])
async def test_every_name_of_this_machine_is_served(client: aiohttp.ClientSession, name: str) -> None:
    async with client.get("/api/status", headers={"Host": name}) as response:
        assert response.status == 200


async def test_the_url_is_one_that_can_be_opened(host: Host) -> None:
    server = await serve("localhost", 0, host.status, host.ready)
    try:
        async with aiohttp.request("GET", f"{server.url}/livez") as response:
            assert response.status == 200
    finally:
        await server.close()


async def test_an_address_can_be_taken_first_and_served_later(host: Host) -> None:
    """Who connects in between waits; who comes second is told at once."""
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(AddressUnavailable):
            listen("127.0.0.1", port)
        asking = asyncio.create_task(_livez(url_of(listener)), name="early bird")
        server = await serve_on(listener, host.status, host.ready)
        try:
            assert await asking == 200
        finally:
            await server.close()


async def _livez(url: str) -> int:
    async with aiohttp.request("GET", f"{url}/livez") as response:
        return response.status


async def test_closing_ends_an_idle_connection_and_frees_the_port(host: Host) -> None:
    server = await serve("127.0.0.1", 0, host.status, host.ready)
    port = int(server.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    await server.close()
    await reader.read()
    writer.close()
    again = await serve("127.0.0.1", port, host.status, host.ready)
    await again.close()
