"""Events by Server-Sent Events: what was missed and then what comes, for many, across outages and slow readers."""

import asyncio
import json
import socket
import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any, Final, NamedTuple

import aiohttp
import pytest
import redis
from aiohttp import web

from schemas.envelope import Event
from supervisor.api import events
from supervisor.api.entries import PAGE, SEARCHED
from supervisor.api.feed import Feed
from supervisor.api.problems import problems
from supervisor.api.sse import Message, Position
from supervisor.bus.connection import Connection
from supervisor.bus.keys import events_key, samples_key
from supervisor.clock import SystemClock
from supervisor.errors import BusLost
from supervisor.sampling.assemble import raise_descriptor_limit
from tests.busservers import BusServer, one_bus_server, start_bus_server
from tests.daemon import Daemon, short_directory

__all__ = ["one_bus_server"]

KEY: Final = events_key()
IDLE: Final = 1_000


class Heard(NamedTuple):
    """What a client makes of one event of the stream."""

    id: str
    type: str
    data: Any


class Listener:
    """A client that hears events one by one."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        #: what was said beside events
        self.comments: list[str] = []
        self.last_id = ""

    async def hear(self) -> Heard:
        """The next event."""
        fields: dict[str, str] = {}
        async for raw in self.response.content:
            line = raw.decode().rstrip("\n")
            name, _, value = line.partition(": ")
            if line.startswith(":"):
                self.comments.append(line[1:].strip())
            elif line:
                fields[name] = value
            elif "data" in fields:
                self.last_id = fields.get("id", self.last_id)
                return Heard(fields.get("id", ""), fields["event"], json.loads(fields["data"]))
            else:
                fields.clear()
        raise EOFError

    async def hear_all(self, count: int) -> list[Heard]:
        """The next `count` events."""
        return [await self.hear() for _ in range(count)]

    async def left(self) -> list[Heard]:
        """All that still comes until the server hangs up."""
        heard = []
        try:
            while True:
                heard.append(await self.hear())
        except (EOFError, aiohttp.ClientPayloadError):
            return heard


class Stage:
    """A server with `/api/events` and an empty resource beside it, over a bus to which the test writes."""

    def __init__(self, bus: BusServer, feed: Feed, url: str, session: aiohttp.ClientSession) -> None:
        self.bus, self.feed, self.url, self.session = bus, feed, url, session
        self._client: Any = redis.Redis(unix_socket_path=str(bus.path), protocol=2)
        self._count = 0

    def say(self, count: int = 1, type: str = "flyball.test", subject: str = "gpu0", data: bytes = b"{}") -> list[str]:
        """Add events, and return their ids in the stream."""
        self._client.connection_pool.disconnect()  # the bus may have been restarted since
        pipeline = self._client.pipeline(transaction=False)
        for _ in range(count):
            self._count += 1
            event = Event(f"e{self._count}", type, "box/test", subject, "2026-11-21T12:00:00.000Z", "it is said", data)
            fields = event.fields()
            pipeline.xadd(KEY, dict(zip(fields[::2], fields[1::2], strict=True)))
        return [each.decode() for each in pipeline.execute()]

    @property
    def bus_client(self) -> Any:
        """The bus itself."""
        return self._client

    @asynccontextmanager
    async def listener(self, query: str = "", after: str = "") -> AsyncIterator[Listener]:
        """A client; it is live once it is there, unless the bus is away."""
        headers = {"Last-Event-ID": after} if after else {}
        async with self.session.get(f"{self.url}/api/events?{query}", headers=headers) as response:
            assert (response.status, response.content_type) == (200, "text/event-stream")
            if not (after or query):
                await self.live()
            yield Listener(response)

    async def live(self) -> None:
        """Everybody hears what comes from now on."""
        await until(lambda: all(each.live for each in self.feed._subscribers))

    async def refused(self, query: str = "", **headers: str) -> tuple[int, str]:
        """Status and detail of the problem that a request gets."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.get(f"{self.url}/api/events?{query}", headers=names) as response:
            assert response.content_type == "application/problem+json"
            return response.status, (await response.json(content_type=None))["detail"]


async def until(condition: Callable[[], object]) -> None:
    """Wait for what nobody tells us of."""
    while not condition():  # noqa: ASYNC110 - there is no event to wait for
        await asyncio.sleep(0.005)


@asynccontextmanager
async def stage(bus: BusServer, **options: Any) -> AsyncIterator[Stage]:
    feed = Feed(lambda: Connection(bus.url, timeout_s=2.0), KEY, SystemClock(), **options)

    async def close(_: web.Application) -> None:
        feed.close()

    async def nothing(request: web.Request) -> web.Response:
        return web.Response()

    application = web.Application(middlewares=[problems])
    application.add_routes([*events.routes(feed), web.get("/nothing", nothing)])
    application.on_shutdown.append(close)
    # who is not let go in time fails the test, for it then takes longer than it may
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=120)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=2 * IDLE)
        await site.start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(None)) as session:
            yield Stage(bus, feed, url, session)
    finally:
        await runner.cleanup()


@pytest.fixture
async def server(one_bus_server: BusServer) -> AsyncIterator[Stage]:
    async with stage(one_bus_server) as server:
        yield server


async def test_an_event_is_its_envelope_with_the_id_of_its_entry(server: Stage) -> None:
    server.say()
    async with server.listener() as listener:
        (entry,) = server.say(subject="gpu3", data=b'{"speed":0.5,\n "reason":"\xc2\xb0"}')
        assert await listener.hear() == Heard(
            entry, "flyball.test",
            {"entry": entry, "id": "e2", "type": "flyball.test", "source": "box/test", "subject": "gpu3",
             "time": "2026-11-21T12:00:00.000Z", "text": "it is said", "data": {"speed": 0.5, "reason": "°"}},
        )  # fmt: skip


async def test_who_comes_back_gets_what_he_missed_and_then_what_comes(server: Stage) -> None:
    missed = server.say(250)
    async with server.listener(after=missed[9]) as listener:
        assert [each.id for each in await listener.hear_all(240)] == missed[10:]
        await server.live()
        coming = server.say(3)
        assert [each.id for each in await listener.hear_all(3)] == coming


async def test_at_the_seam_there_is_no_gap_and_nothing_comes_twice(server: Stage) -> None:
    """Thirty come, from different places, while two thousand events are said."""
    said = server.say(200)

    async def one(after: str) -> list[str]:
        async with server.listener(after=after) as listener:
            ids: list[str] = []
            while not ids or ids[-1] != "end":
                heard = await listener.hear()
                ids.append("end" if heard.type == "flyball.end" else heard.id)
            return ids[:-1]

    listeners = []
    for turn in range(60):
        said += server.say(37)
        if turn % 2:
            after = said[-1 - 41 * (turn % 5)]
            listeners.append((after, asyncio.create_task(one(after))))
        await asyncio.sleep(0)
    server.say(type="flyball.end")
    for after, task in listeners:
        assert await task == said[said.index(after) + 1 :]


async def test_what_is_said_while_he_reads_his_last_page_is_not_left_out(
    server: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = server.say(3)
    read = server.feed._past.after

    async def slowly(position: Position) -> list[Message]:
        page = await read(position)
        if page:
            said.extend(server.say())
            await until(lambda: server.feed._end == Position.read(said[-1]))
        return page if len(said) < 10 else await read(position)

    monkeypatch.setattr(server.feed._past, "after", slowly)
    async with server.listener(after=said[0]) as listener:
        assert [each.id for each in await listener.hear_all(9)] == said[1:]


async def test_what_he_has_read_already_does_not_come_again(server: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader of all hears of it later than he who reads what he missed."""
    gate = asyncio.Event()
    pass_on = server.feed._pass_on

    async def late(messages: Sequence[Message]) -> None:
        await gate.wait()
        await pass_on(messages)

    monkeypatch.setattr(server.feed, "_pass_on", late)
    async with server.listener() as listener:
        said = server.say(3)
        async with server.listener(after=said[0]) as quick, server.listener("backfill=2") as quicker:
            assert [each.id for each in await quick.hear_all(2)] == said[1:]
            assert [each.id for each in await quicker.hear_all(2)] == said[1:]
            await server.live()
            said += server.say(2)
            gate.set()
            assert [each.id for each in await quick.hear_all(2)] == said[3:]
            assert [each.id for each in await quicker.hear_all(2)] == said[3:]
            assert [each.id for each in await listener.hear_all(5)] == said


async def test_those_who_listen_alike_and_those_who_do_not_each_get_theirs(server: Stage) -> None:
    async with (
        server.listener() as everything,
        server.listener("type=flyball.gpu.*&type=flyball.end") as gpus,
        server.listener("subject=gpu1&subject=box") as one,
        server.listener("type=flyball.gpu.*&subject=box") as both,
    ):
        await server.live()
        a, b = server.say(type="flyball.gpu.error") + server.say(type="flyball.gpu.error", subject="gpu1")
        c, d = server.say(type="flyball.host.b", subject="box") + server.say(type="flyball.end", subject="x")
        (e,) = server.say(type="flyball.gpu.z", subject="box")
        assert [each.id for each in await everything.hear_all(5)] == [a, b, c, d, e]
        assert [each.id for each in await gpus.hear_all(4)] == [a, b, d, e]
        assert [each.id for each in await one.hear_all(3)] == [b, c, e]
        assert [each.id for each in await both.hear_all(1)] == [e]


async def test_what_was_missed_is_filtered_too(server: Stage) -> None:
    first = server.say(150)[0]
    (wanted,) = server.say(type="flyball.gpu.error")
    server.say(150)
    async with server.listener("type=flyball.gpu.error", after=first) as listener:
        assert (await listener.hear()).id == wanted
        await server.live()
        server.say()
        (coming,) = server.say(type="flyball.gpu.error")
        assert (await listener.hear()).id == coming


async def test_curl_asks_by_the_query_and_a_browser_that_comes_back_by_its_header(server: Stage) -> None:
    said = server.say(5)
    async with server.listener(f"since={said[2]}") as listener:
        assert [each.id for each in await listener.hear_all(2)] == said[3:]
    async with server.listener(f"since={said[0]}", after=said[3]) as listener:
        assert (await listener.hear()).id == said[4]
    async with server.listener("since=0") as listener:
        assert [each.id for each in await listener.hear_all(5)] == said
    for since in (said[0].partition("-")[0], "1"):
        async with server.listener(f"since={since}&type=flyball.test") as listener:
            heard = await listener.hear()
            if heard.type == "flyball.stream.gap":
                heard = await listener.hear()
            assert heard.id == said[0]


async def test_the_newest_of_the_past_come_first_where_they_are_asked_for(server: Stage) -> None:
    wanted = [server.say(type="flyball.gpu.error")[0] for _ in range(4) if server.say(120)]
    async with server.listener("backfill=3&type=flyball.gpu.error") as listener:
        assert [each.id for each in await listener.hear_all(3)] == wanted[1:]
        await server.live()
        coming = server.say(type="flyball.gpu.error")
        assert [each.id for each in await listener.hear_all(1)] == coming
    async with server.listener("backfill=1000") as listener:
        assert len(await listener.hear_all(485)) == 485


async def test_who_wants_what_there_is_not_does_not_have_the_whole_past_searched(
    server: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    long_ago = server.say(type="flyball.gpu.error")
    server.say(SEARCHED - 3)
    (newer,) = server.say(type="flyball.gpu.error")
    server.say(2)
    pages = 0
    ask = server.feed._past._ask

    async def counted(*command: Any, **options: Any) -> Any:
        nonlocal pages
        pages += command[0] == "XREVRANGE"
        return await ask(*command, **options)

    monkeypatch.setattr(server.feed._past, "_ask", counted)
    async with server.listener("backfill=5&type=flyball.gpu.error") as listener:
        assert (await listener.hear()).id == newer
        await server.live()
        coming = server.say(type="flyball.gpu.error")
        assert [each.id for each in await listener.hear_all(1)] == coming
    assert pages == SEARCHED // PAGE
    async with server.listener("since=0&type=flyball.gpu.error") as listener:
        assert [each.id for each in await listener.hear_all(3)] == [*long_ago, newer, *coming]


async def test_nothing_of_the_past_comes_on_an_empty_stream(server: Stage) -> None:
    async with server.listener("backfill=10") as listener, server.listener(after="0-0") as other:
        await server.live()
        said = server.say(2)
        assert [each.id for each in await listener.hear_all(2)] == said
        assert [each.id for each in await other.hear_all(2)] == said


async def test_what_was_trimmed_away_meanwhile_is_said_before_the_rest(server: Stage) -> None:
    said = server.say(10)
    server.bus_client.xtrim(KEY, minid=said[6], approximate=False)
    async with server.listener("type=flyball.test", after=said[2]) as listener:
        gap = await listener.hear()
        assert (gap.id, gap.type) == ("", "flyball.stream.gap")
        assert gap.data["text"] == f"events after {said[2]} may be lost: the stream begins at {said[6]} now"
        assert gap.data["data"] == {
            "handler": "api", "stream": "events", "after": said[2], "first": said[6], "lost": None, "cause": said[6],
        }  # fmt: skip
        assert [each.id for each in await listener.hear_all(4)] == said[6:]


async def test_an_id_of_a_server_that_lost_its_data_is_said_and_gone_on_from_here(server: Stage) -> None:
    said = server.say(2)
    async with server.listener(after="99999999999999-0") as listener:
        gap = await listener.hear()
        assert gap.type == "flyball.stream.gap"
        assert gap.data["data"]["first"] == said[0]
        await server.live()
        coming = server.say()
        assert [each.id for each in await listener.hear_all(1)] == coming


async def test_an_entry_that_is_no_event_is_a_comment(server: Stage) -> None:
    async with server.listener() as listener, server.listener("type=flyball.*") as filtered:
        await server.live()
        strange: dict[Any, Any] = {"what": "is this"}
        strange_id = server.bus_client.xadd(KEY, strange).decode()
        server.say(type="flyball.x\nid: 7")
        (broken_id,) = server.say(data=b"{not JSON}")
        said = server.say()
        assert [each.id for each in await listener.hear_all(1)] == said
        assert listener.comments[0] == f"entry {strange_id} is not an event: field 'id' is missing"
        assert len(listener.comments) == 3
        assert [each.id for each in await filtered.hear_all(1)] == said
        (comment,) = filtered.comments
        assert comment.startswith(f"entry {broken_id} is not an event: its data is not JSON: ")


@pytest.mark.parametrize("data", [b"[" * 60_000, b"\xff", b'"\xff"', b""])
async def test_data_that_nobody_can_read_takes_nothing_else_with_it(server: Stage, data: bytes) -> None:
    before = server.say()
    async with server.listener() as listener:
        (broken_id,) = server.say(data=data)
        after = server.say()
        assert [each.id for each in await listener.hear_all(1)] == after
    async with server.listener("backfill=9") as late:
        assert [each.id for each in await late.hear_all(2)] == before + after
    for each in (listener, late):
        (comment,) = each.comments
        assert comment.startswith(f"entry {broken_id} is not an event: its data is not JSON: ")


async def test_what_fails_by_a_bug_ends_the_stream_and_is_no_second_answer_in_it(
    server: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(server.feed._past, "after", fail)
    host, port = server.url.removeprefix("http://").split(":")
    (said,) = server.say()
    server.say()
    reader, writer = await asyncio.open_connection(host, int(port))
    query = f"GET /api/events?since={said} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    writer.write(query.encode())
    got = b""
    try:
        while part := await reader.read(1 << 16):
            got += part
    except ConnectionResetError:
        pass
    writer.close()
    assert got.startswith(b"HTTP/1.1 200 ")
    assert got.endswith(b"\r\n\r\nd\r\nretry: 1000\n\n\r\n")
    assert "ZeroDivisionError" in caplog.text
    assert not server.feed._subscribers


@pytest.mark.parametrize("value", ["x", "-1", "1-", "1-2-3", "1.5", "18446744073709551616-0", "１-0", "9" * 50])
async def test_an_id_that_is_none_is_a_problem(server: Stage, value: str) -> None:
    if value.isascii():
        code, detail = await server.refused(Last_Event_ID=value)
        assert (code, repr(value) in detail, "1700000000000-0" in detail) == (400, True, True)
    assert (await server.refused(f"since={value}"))[0] in (400, 422)


@pytest.mark.parametrize(
    "query",
    ["typ=flyball.test", "backfill=-1", "backfill=1001", "backfill=x", "type=", f"type={'x' * 101}", "&type=x" * 21],
)
async def test_a_query_that_cannot_be_meant_is_a_problem(server: Stage, query: str) -> None:
    code, detail = await server.refused(query)
    assert code == 422
    assert query.strip("&").partition("=")[0] in detail


@pytest.mark.parametrize("pattern", ["*.error", "fly*.error", "**", "a**"])
async def test_a_star_stands_at_the_end_of_a_type_alone(server: Stage, pattern: str) -> None:
    code, detail = await server.refused(f"type=flyball.test&type={pattern}")
    assert (code, repr(pattern) in detail) == (422, True)
    assert "how types begin and a `*` at the end, such as flyball.gpu.*" in detail


async def test_what_else_a_shell_takes_for_a_pattern_is_taken_as_it_is(server: Stage) -> None:
    async with server.listener("type=flyball.tes?&type=flyball.[t]est&type=flyball.e*") as listener:
        await server.live()
        server.say()
        said = server.say(type="flyball.tes?") + server.say(type="flyball.end")
        assert [each.id for each in await listener.hear_all(2)] == said


async def test_nobody_waits_for_the_head_of_an_endless_answer(server: Stage) -> None:
    async with server.session.head(f"{server.url}/api/events") as response:
        assert response.status == 405


async def test_an_old_client_reads_to_the_end_of_the_connection(server: Stage) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    said = server.say(2)
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /api/events?since=%b HTTP/1.0\r\nHost: localhost\r\n\r\n" % said[0].encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert b"chunked" not in head.lower()
    await reader.readuntil(f"retry: 1000\n\nid: {said[1]}\nevent: flyball.test\ndata: ".encode())
    await server.live()
    server.say()
    text = (await reader.readuntil(b'"e3"')).decode()
    assert text.count("\n\n") == 1
    assert "\r" not in text
    writer.close()


async def test_there_are_only_so_many_and_who_leaves_makes_room(one_bus_server: BusServer) -> None:
    async with stage(one_bus_server, most=2) as server, server.listener() as listener:
        async with server.listener():
            code, detail = await server.refused()
            assert (code, "try again later" in detail) == (503, True)
        await until(lambda: any(each.is_gone for each in server.feed._subscribers))
        async with server.listener() as other:
            said = server.say()
            assert (await listener.hear()).id == (await other.hear()).id == said[0]


async def test_who_waits_hears_that_we_live(one_bus_server: BusServer) -> None:
    async with stage(one_bus_server, heartbeat_s=0.05) as server, server.listener() as listener:
        response = listener.response.content
        assert await response.readuntil(b"\n\n") == b"retry: 1000\n\n"
        assert await response.readuntil(b"\n\n") == b":\n\n"
        assert await response.readuntil(b"\n\n") == b":\n\n"


async def test_who_does_not_read_is_cut_off_and_the_others_hear_everything(server: Stage) -> None:
    """Then he comes back with the last id that he got, and has lost nothing."""
    long = b'{"text":"%b"}' % (b"x" * 20_000)
    with slow_connection(server.url) as slow:
        await until(lambda: len(server.feed._subscribers) == 1)
        async with server.listener() as listener:
            said = []
            while len(server.feed._subscribers) == 2:
                now = server.say(20, data=long)
                said += now
                assert [each.id for each in await listener.hear_all(20)] == now
        got = b""
        slow.settimeout(30)
        try:
            while part := slow.recv(1 << 20):
                got += part
        except ConnectionResetError:
            pass
    assert not got.endswith(b"0\r\n\r\n")
    ids = [line[4:].decode() for line in got.split(b"\n") if line.startswith(b"id: ")]
    # what came last may have come in part
    last = ids[-2]
    assert ids == said[: len(ids)]
    async with server.listener(after=last) as again:
        assert [each.id for each in await again.hear_all(len(said) - len(ids) + 1)] == said[len(ids) - 1 :]


async def test_across_an_outage_nothing_is_left_out_and_everybody_is_told() -> None:
    with start_bus_server("embedded", ["--appendfsync", "always"]) as bus:
        async with stage(bus) as server, server.listener() as listener:
            said = server.say(3)
            assert [each.id for each in await listener.hear_all(3)] == said
            bus.kill()
            away = await listener.hear()
            assert (away.id, away.type) == ("", "flyball.bus.away")
            assert "bus.sock is away" in away.data["text"]
            async with server.listener(after=said[0]) as late:
                assert (await late.hear()).type == "flyball.bus.away"
                bus.start()
                more = server.say(3)
                assert [each.id for each in await late.hear_all(6) if each.id] == said[1:] + more
            heard = await listener.hear_all(4)
            assert sorted(each.type for each in heard if not each.id) == ["flyball.bus.back"]
            assert [each.id for each in heard if each.id] == more


async def test_who_leaves_while_the_bus_is_away_is_forgotten_and_who_waits_then_can_be_let_go() -> None:
    with start_bus_server("embedded") as bus:
        async with stage(bus, heartbeat_s=0.05) as server, server.listener() as listener:
            bus.kill()
            assert (await listener.hear()).type == "flyball.bus.away"
            async with server.listener("backfill=1") as other:
                assert (await other.hear()).type == "flyball.bus.away"
                assert len(server.feed._subscribers) == 2
            await until(lambda: len(server.feed._subscribers) == 1)
            async with server.listener("backfill=1") as other:
                server.feed.close()
                assert [each.type for each in await other.left()] == ["flyball.bus.away"]
                assert await listener.left() == []


async def test_who_is_interrupted_while_he_reads_what_he_missed_goes_on_where_he_was(
    server: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = server.say(250)
    read = server.feed._past.after
    calls = 0

    async def breaks(position: Position) -> list[Message]:
        nonlocal calls
        calls += 1
        if calls % 2 == 0:
            raise BusLost("it is away")
        return await read(position)

    monkeypatch.setattr(server.feed._past, "after", breaks)
    async with server.listener(after=said[0]) as listener:
        await server.live()
        said += server.say()
        assert [each.id for each in await listener.hear_all(250)] == said[1:]
    calls = 1
    async with server.listener("backfill=150") as listener:
        await server.live()
        said += server.say()
        assert [each.id for each in await listener.hear_all(151)] == said[-151:]


async def test_a_bus_that_comes_back_without_its_data_is_said() -> None:
    with start_bus_server("embedded") as bus:
        async with stage(bus) as server, server.listener() as listener:
            server.say()
            await listener.hear()
            bus.kill()
            assert (await listener.hear()).type == "flyball.bus.away"
            for file in (bus.directory / "appendonlydir").iterdir():
                file.unlink()
            bus.start()
            assert [each.type for each in await listener.hear_all(2)] == ["flyball.stream.gap", "flyball.bus.back"]
            said = server.say()
            assert (await listener.hear()).id == said[0]


async def test_without_a_listener_nobody_reads(one_bus_server: BusServer) -> None:
    async with stage(one_bus_server, heartbeat_s=0.05) as server:

        def readers() -> list[Any]:
            return [each for each in server.bus_client.client_list() if each["cmd"] in ("xread", "xrange")]

        for _ in range(2):
            async with server.listener(after="0-0"):
                await server.live()
                assert readers()
            await until(lambda: not readers())
        assert server.feed._task is None


async def test_a_server_that_closes_lets_its_listeners_go(one_bus_server: BusServer) -> None:
    async with stage(one_bus_server) as server, server.listener() as listener:
        said = server.say()
        assert (await listener.hear()).id == said[0]
        server.feed.close()
        with pytest.raises(EOFError):
            await listener.hear()
        assert (await server.refused())[0] == 503


async def test_who_listens_when_the_feed_fails_by_a_bug_is_not_left_waiting(
    server: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_: object) -> None:
        raise ZeroDivisionError

    async with server.listener() as listener:
        monkeypatch.setattr(server.feed, "_pass_on", fail)
        (missed,) = server.say()
        assert await listener.left() == []
        assert "ZeroDivisionError" in caplog.text
        monkeypatch.undo()
    async with server.listener("since=0") as listener:
        assert (await listener.hear()).id == missed


async def test_a_thousand_who_wait_slow_nobody_down(one_bus_server: BusServer) -> None:
    """A request takes as long as without them; and while all are told something, others have their turn."""
    raise_descriptor_limit()
    async with stage(one_bus_server) as server:
        alone = await latency_s(server)
        with silent_connections(server.url, IDLE):
            await until(lambda: len(server.feed._subscribers) == IDLE)
            await server.live()
            beside = await latency_s(server)
            end = Position.read(server.say()[0])
            told = [each.position == end for each in server.feed._subscribers]
            turns = 0
            while not all(told):
                await asyncio.sleep(0)
                turns += any(told)
                told = [each.position == end for each in server.feed._subscribers]
    assert beside < 3 * alone
    assert turns >= IDLE // 50


def test_a_thousand_who_listen_hear_it_and_the_sampler_keeps_its_cadence() -> None:
    raise_descriptor_limit()
    with short_directory() as state, Daemon(state, config="[sampling]\ninterval_s = 0.5") as daemon:
        url = daemon.status_when(lambda status: status.api.url).api.url
        assert url is not None
        with silent_connections(url, IDLE) as clients:
            for client in clients:
                client.settimeout(60)
                assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
            since = daemon.position(samples_key())
            daemon.command("throttle", "host", "--speed", "0.7", "--for", "1m")
            heard = daemon.event("flyball.override.changed").id.encode()
            for client in clients:
                text = b""
                while b"id: " + heard not in text:
                    text += client.recv(1 << 16)
            daemon.sample(lambda sample: True, after=daemon.position(samples_key()))
        assert not any(sample.gap for sample in daemon.samples(after=since))


async def latency_s(server: Stage) -> float:
    """The median time of an empty request."""
    took = []
    for _ in range(300):
        begun = time.perf_counter()
        async with server.session.get(f"{server.url}/nothing") as response:
            await response.read()
        took.append(time.perf_counter() - begun)
    return statistics.median(took)


@contextmanager
def slow_connection(url: str) -> Iterator[socket.socket]:
    """A client that asks and does not read."""
    host, port = url.removeprefix("http://").split(":")
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((host, int(port)))
        client.sendall(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        yield client


@contextmanager
def silent_connections(url: str, count: int) -> Iterator[list[socket.socket]]:
    """Clients that ask and wait."""
    host, port = url.removeprefix("http://").split(":")
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection((host, int(port)))) for _ in range(count)]
        for client in clients:
            client.sendall(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        yield clients
