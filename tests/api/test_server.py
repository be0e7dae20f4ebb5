"""Each resource, each error as RFC 9457 has it, and a port that cannot be had."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import msgspec
import pytest

from schemas.status import Status
from supervisor.api.address import listen, url_of
from supervisor.api.server import AddressUnavailable, Server, serve, serve_on
from tests.api.serving import Host, a_status, answer, serving


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
async def server(host: Host) -> AsyncIterator[Server]:
    async with serving(host) as server:
        yield server


@pytest.fixture
async def client(server: Server) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(server.url) as session:
        yield session


async def test_the_status_is_that_of_the_command_line(client: aiohttp.ClientSession) -> None:
    code, media_type, document = await answer(client, "/api/status")
    assert (code, media_type) == (200, "application/json")
    assert msgspec.convert(document, Status) == a_status()
    assert document["gpus"] == []


async def test_an_answer_is_kept_by_nobody(client: aiohttp.ClientSession) -> None:
    for path in ("/api/status", "/nowhere"):
        async with client.get(path) as response:
            assert response.headers["Cache-Control"] == "no-store"


async def test_ready_says_what_is_missing(client: aiohttp.ClientSession, host: Host) -> None:
    assert await answer(client, "/readyz") == (200, "application/json", {"state": "ready", "missing": []})
    host.missing = ["the bus is away"]
    assert await answer(client, "/readyz") == (
        503, "application/json", {"state": "waiting", "missing": ["the bus is away"]},
    )  # fmt: skip


async def test_alive_needs_the_event_loop_alone(client: aiohttp.ClientSession, host: Host) -> None:
    host.missing, host.broken = ["the bus is away"], True
    assert await answer(client, "/livez") == (200, "application/json", {"state": "alive"})


async def test_the_front_page_lists_the_rest(client: aiohttp.ClientSession) -> None:
    async with client.get("/") as response:
        assert (response.status, response.content_type) == (200, "text/plain")
        lines = (await response.text()).splitlines()
    assert {"/api/status", "/readyz", "/livez", "/openapi.json"} <= {line.split()[1] for line in lines}
    assert all(line.endswith(".") for line in lines)


async def test_nothing_there_is_a_problem(client: aiohttp.ClientSession) -> None:
    assert await answer(client, "/nowhere") == (
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
    code, media_type, document = await answer(client, "/api/status")
    assert (code, media_type, document["title"]) == (500, "application/problem+json", "Internal Server Error")
    assert "hunter2" not in str(document)
    assert "hunter2" in caplog.text
    assert (await answer(client, "/livez"))[0] == 200


async def test_a_taken_port_is_named_before_anything_else_starts(server: Server, host: Host) -> None:
    port = int(server.url.rpartition(":")[2])
    with pytest.raises(AddressUnavailable) as raised:
        await serve("127.0.0.1", port, host.contents())
    assert raised.value.exit_code == 2
    assert raised.value.what == f"the HTTP API cannot listen at 127.0.0.1:{port}"
    assert raised.value.why == "another program listens there"
    assert "api.port" in raised.value.hint


@pytest.mark.parametrize("address", ["127.1.2.3x", "no.such.host.invalid", "a..b", "x" * 64])
async def test_an_address_that_is_none_is_named(host: Host, address: str) -> None:
    with pytest.raises(AddressUnavailable) as raised:
        await serve(address, 0, host.contents())
    assert "api.host" in raised.value.hint
    assert raised.value.why


async def test_the_name_of_loopback_is_not_believed_where_it_leads_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The token is not asked for at localhost, so that had better be loopback."""
    elsewhere = [(2, 1, 6, "", ("192.0.2.1", 0))]
    monkeypatch.setattr("supervisor.api.address.socket.getaddrinfo", lambda *given, **options: elsewhere)
    with pytest.raises(AddressUnavailable) as raised:
        listen("localhost", 0)
    assert "here localhost is 192.0.2.1" in raised.value.why


@pytest.mark.parametrize("address", ["localhost", "0.0.0.0"])
async def test_the_url_is_one_that_can_be_opened(host: Host, address: str) -> None:
    async with serving(host, where=address) as server, aiohttp.request("GET", f"{server.url}/livez") as response:
        assert response.status == 200


async def test_an_address_can_be_taken_first_and_served_later(host: Host) -> None:
    """Who connects in between waits; who comes second is told at once."""
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(AddressUnavailable):
            listen("127.0.0.1", port)
        asking = asyncio.create_task(_livez(url_of(listener)), name="early bird")
        server = await serve_on(listener, host.contents())
        try:
            assert await asking == 200
        finally:
            await server.close()


async def _livez(url: str) -> int:
    async with aiohttp.request("GET", f"{url}/livez") as response:
        return response.status


async def test_closing_ends_an_idle_connection_and_frees_the_port(host: Host) -> None:
    told: list[str] = []
    server = await serve("127.0.0.1", 0, host.contents(closing=[lambda: told.append("the listeners")]))
    port = int(server.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    await server.close()
    assert told == ["the listeners"]
    await reader.read()
    writer.close()
    again = await serve("127.0.0.1", port, host.contents())
    await again.close()
