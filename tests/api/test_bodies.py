"""Bodies that are too large, too slow, of another kind, or not wanted; and clients that do not speak HTTP at all."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import aiohttp
import pytest
from msgspec import Struct

from supervisor.api import bodies, connections
from supervisor.api.bodies import LARGEST_BYTES
from supervisor.api.server import Server
from supervisor.route import Asked, Route
from tests.api.serving import Host, answer, serving

JSON: Final = {"Content-Type": "application/json"}


class Text(Struct, frozen=True, forbid_unknown_fields=True):
    text: str = ""


TAKE = Route(
    method="POST", path="/api/take", summary="Takes.", answer=int, body=Text, call=lambda asked: len(asked.body.text)
)


async def slowly(asked: Asked) -> str:
    return "x" * 20_000_000


GIVE = Route(method="GET", path="/api/give", summary="Gives a lot.", answer=str, call=slowly)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving(Host([TAKE, GIVE])) as server:
        yield server


@pytest.fixture
async def client(server: Server) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(server.url) as session:
        yield session


class Raw:
    """A connection on which anything can be said."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def to(cls, server: Server) -> "Raw":
        host, port = server.url.removeprefix("http://").split(":")
        return cls(*await asyncio.open_connection(host, int(port)))

    def say(self, *lines: str, body: bytes = b"") -> None:
        self.writer.write("".join(f"{line}\r\n" for line in (*lines, "")).encode() + body)

    async def hear(self) -> tuple[int, dict[str, str], Any]:
        """Status, headers and the JSON inside."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return int(head[0].split()[1]), headers, json.loads(body) if body else None

    async def ended(self) -> bool:
        """Whether the server hangs up."""
        try:
            return await self.reader.read() == b""
        except ConnectionResetError:
            return True
        finally:
            self.writer.close()


async def test_the_largest_body_is_taken_and_one_byte_more_is_not(client: aiohttp.ClientSession) -> None:
    frame = len(b'{"text":""}')
    for size, code in ((LARGEST_BYTES, 200), (LARGEST_BYTES + 1, 413)):
        body = b'{"text":"%b"}' % (b"x" * (size - frame))
        assert (await answer(client, "/api/take", "POST", data=body, headers=JSON))[0] == code
        assert (await answer(client, "/api/take", "POST", data=_in_parts(body), headers=JSON))[0] == code


async def _in_parts(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 10_000):
        yield body[start : start + 10_000]


async def test_a_body_of_10_mb_is_refused_by_its_length_before_it_is_sent(server: Server) -> None:
    for further in ([], ["Expect: 100-continue"]):
        raw = await Raw.to(server)
        raw.say(
            "POST /api/take HTTP/1.1", "Host: localhost", "Content-Type: application/json",
            "Content-Length: 10000000", *further,
        )  # fmt: skip
        code, headers, document = await raw.hear()
        assert (code, headers["connection"]) == (413, "close")
        assert document["detail"] == "the body is larger than 65536 bytes (64 KiB), the most there may be"
        assert await raw.ended()


async def test_a_body_without_end_is_cut_off(server: Server) -> None:
    """By its refusal, and soon after that by the connection."""
    raw = await Raw.to(server)
    raw.say(
        "POST /api/take HTTP/1.1", "Host: localhost", "Content-Type: application/json", "Transfer-Encoding: chunked"
    )
    part = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    hearing = asyncio.create_task(raw.hear(), name="answer")
    sent = 0
    with pytest.raises(ConnectionError):
        while True:
            raw.writer.write(part)
            await raw.writer.drain()
            sent += len(part)
    assert (await hearing)[0] == 413
    raw.writer.close()


async def test_who_waits_for_100_continue_gets_it_once_his_body_is_wanted(server: Server) -> None:
    raw = await Raw.to(server)
    raw.say(
        "POST /api/take HTTP/1.1", "Host: localhost", "Content-Type: application/json", "Content-Length: 12",
        "Expect: 100-Continue",
    )  # fmt: skip
    assert await raw.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    raw.writer.write(b'{"text":"x"}')
    assert (await raw.hear())[::2] == (200, 1)
    raw.say("POST /api/take HTTP/1.1", "Host: localhost", "Content-Type: text/plain", "Content-Length: 1",
            "Expect: 100-continue")  # fmt: skip
    assert (await raw.hear())[0] == 415
    raw.writer.close()
    raw = await Raw.to(server)
    raw.say("POST /api/take HTTP/1.1", "Host: localhost", "Expect: a miracle")
    code, _, document = await raw.hear()
    assert (code, document["status"]) == (417, 417)
    raw.writer.close()


@pytest.mark.parametrize(
    ("headers", "body", "code"),
    [
        ({"Content-Type": "application/json; charset=utf-8"}, b"{}", 200),
        ({"Content-Type": "Application/JSON"}, b"{}", 200),
        ({"Content-Type": "application/json; charset=utf-16"}, b"{}", 415),
        ({"Content-Type": "text/plain"}, b"{}", 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, b"text=x", 415),
        ({"Content-Type": "application/jsonx"}, b"{}", 415),
        ({"Content-Type": "application/json", "Content-Encoding": "gzip"}, b"\x1f\x8b", 415),
        ({"Content-Type": "application/json", "Content-Encoding": "identity"}, b"{}", 200),
        ({}, b"", 200),
    ],
)
async def test_only_json_is_taken(
    client: aiohttp.ClientSession, headers: dict[str, str], body: bytes, code: int
) -> None:
    status, _, document = await answer(
        client, "/api/take", "POST", data=body, headers=headers, skip_auto_headers=["Content-Type"]
    )
    assert status == code
    if code == 415:
        assert "send " in document["detail"]


async def test_a_body_without_a_type_is_refused(server: Server) -> None:
    raw = await Raw.to(server)
    raw.say("POST /api/take HTTP/1.1", "Host: localhost", "Content-Length: 2", body=b"{}")
    assert (await raw.hear())[0] == 415
    raw.writer.close()


async def test_a_body_that_is_not_wanted_does_not_hurt(client: aiohttp.ClientSession) -> None:
    assert (await answer(client, "/api/status", data=b"{}"))[0] == 200
    assert (await answer(client, "/api/status", data=b"x" * (LARGEST_BYTES + 1)))[0] == 413


async def test_a_body_that_trickles_is_given_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "_WITHIN_S", 0.2)
    raw = await Raw.to(server)
    raw.say(
        "POST /api/take HTTP/1.1", "Host: localhost", "Content-Type: application/json", "Content-Length: 50",
        body=b'{"text":',
    )  # fmt: skip
    code, headers, document = await raw.hear()
    assert (code, headers["connection"]) == (408, "close")
    assert document["detail"].startswith("the body did not come within ")
    assert await raw.ended()


async def test_a_body_that_breaks_off_is_nobodys_bug(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """The client hangs up, or his chunks are none; either way there is no traceback."""
    gone = await Raw.to(server)
    gone.say("POST /api/take HTTP/1.1", "Host: localhost", *(f"{k}: {v}" for k, v in JSON.items()), "Content-Length: 9")
    await gone.writer.drain()
    gone.writer.transport.abort()
    raw = await Raw.to(server)
    raw.say("POST /api/take HTTP/1.1", "Host: localhost", *(f"{k}: {v}" for k, v in JSON.items()),
            "Transfer-Encoding: chunked")  # fmt: skip
    raw.writer.write(b"zz\r\n")
    assert (await raw.hear())[0] == 400
    raw.writer.close()
    assert not caplog.records


@pytest.mark.parametrize(
    "said",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\r\n" * 3,
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /api/status\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * 20_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: 1\r\n" % number for number in range(500)) + b"\r\n",
        b"POST /api/take HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/take HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
    ids=range(9),
)
async def test_what_is_no_request_is_a_problem_and_no_traceback(
    server: Server, caplog: pytest.LogCaptureFixture, said: bytes
) -> None:
    raw = await Raw.to(server)
    raw.writer.write(said)
    code, headers, document = await raw.hear()
    assert (code, headers["content-type"]) == (400, "application/problem+json")
    assert document["detail"]
    assert await raw.ended()
    assert not caplog.records


async def test_half_a_request_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slowly further headers come; and so is a connection on which nothing is said, but not one at work."""
    monkeypatch.setattr(connections, "IDLE_S", 0.3)
    async with serving(Host()) as server:
        silent, trickling, busy = [await Raw.to(server) for _ in range(3)]
        trickling.say("GET / HTTP/1.1", "Host: localhost")
        trickling.writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        drops = asyncio.create_task(_trickle(trickling), name="trickle")
        for _ in range(10):
            busy.say("GET /livez HTTP/1.1", "Host: localhost")
            assert (await busy.hear())[0] == 200
            await asyncio.sleep(0.05)
        assert await silent.ended()
        with pytest.raises(ConnectionError):
            await drops
        busy.say("GET /livez HTTP/1.1", "Host: localhost")
        assert (await busy.hear())[0] == 200
        busy.writer.close()


async def _trickle(raw: Raw) -> None:
    """One header after the other, for ever."""
    while True:
        raw.writer.write(b"X-Drop: 1\r\n")
        await raw.writer.drain()
        await asyncio.sleep(0.02)


async def test_who_does_not_read_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "UNREAD_S", 0.5)
    async with serving(Host([TAKE, GIVE])) as server:
        raw = await Raw.to(server)
        raw.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a stream's transport reads
        raw.say("GET /api/give HTTP/1.1", "Host: localhost")
        await _until(lambda: server.connections == 1)
        await _until(lambda: server.connections == 0)
        raw.writer.close()


async def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline, "it never came to that"
        await asyncio.sleep(0.01)


async def test_there_are_only_so_many_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST", 3)
    async with serving(Host()) as server:
        kept = [await Raw.to(server) for _ in range(3)]
        for raw in kept:
            raw.say("GET /livez HTTP/1.1", "Host: localhost")
            assert (await raw.hear())[0] == 200
        turned = await Raw.to(server)
        code, headers, document = await turned.hear()
        assert (code, headers["retry-after"], document["status"]) == (503, "1", 503)
        assert await turned.ended()
        kept.pop().writer.close()
        await _until(lambda: server.connections < 3)
        again = await Raw.to(server)
        again.say("GET /livez HTTP/1.1", "Host: localhost")
        assert (await again.hear())[0] == 200
        for raw in (*kept, again):
            raw.writer.close()
