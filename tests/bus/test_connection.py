"""Whatever goes wrong between us and a server is one of our errors, says where and why, and shows no password."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing

import pytest

from supervisor.bus.connection import Connection
from supervisor.errors import BusError, BusFull, BusLost, BusRefused, ConfigurationError
from tests.bus.talk import Bus, an_event, decided, eventually
from tests.busservers import KINDS, BusServer, start_bus_server

PASSWORD = "correct-horse"


@asynccontextmanager
async def connection_to(url: str, *, timeout_s: float = 5.0, password_file: str = "") -> AsyncIterator[Connection]:
    connection = Connection(url, timeout_s=timeout_s, password_file=password_file)
    try:
        yield connection
    finally:
        await connection.close()


@pytest.fixture(scope="module", params=KINDS)
def guarded(request: pytest.FixtureRequest) -> Iterator[BusServer]:
    """A server with a password for everybody, and users who may not do everything."""
    users = [
        "user", "unloaded", "on", f">{PASSWORD}", "~*", "&*", "+@all", "-function", "-fcall",
        "user", "reader", "on", f">{PASSWORD}", "~*", "&*", "+@read", "+@connection",
    ]  # fmt: skip
    words = " ".join(users).replace(" user ", "\nuser ").splitlines()
    options = ["--requirepass", PASSWORD, *(part for line in words for part in ("--user", *line.split()[1:]))]
    with start_bus_server(request.param, options) as server:
        yield server


def with_credentials(server: BusServer, user: str, password: str) -> str:
    return f"unix://{user}:{password}@{server.path}"


async def somebody_waits(bus: Bus) -> bool:
    """Whether a client is blocked in a read."""
    return bool((await bus.client.info("clients"))["blocked_clients"])


async def test_it_opens_by_itself_and_again(own_bus: Bus) -> None:
    connection = own_bus.connection
    assert await connection.ask("PING") == b"PONG"
    await connection.close()
    assert not connection.is_open
    assert await connection.ask("PING") == b"PONG"


async def test_several_commands_have_their_replies_in_order(bus: Bus) -> None:
    await bus.connection.send(*(("ECHO", n) for n in range(500)))
    assert await bus.connection.replies(500) == [b"%d" % n for n in range(500)]


@pytest.mark.parametrize("user", ["", "unloaded", "reader"])
async def test_no_or_a_wrong_password_is_refused(guarded: BusServer, user: str) -> None:
    for url in (f"unix://{guarded.path}", with_credentials(guarded, user, "wr0ng-secret")):
        async with connection_to(url) as connection:
            with pytest.raises(BusRefused) as caught:
                await connection.ask("PING")
            assert not connection.is_open
        assert "wr0ng" not in str(caught.value)
        assert "bus.password_file" in caught.value.hint
        assert caught.value.exit_code == 2


async def test_the_password_may_be_in_a_file(guarded: BusServer) -> None:
    file = guarded.directory / "password"
    file.write_text(PASSWORD + "\n")
    async with connection_to(guarded.url, password_file=str(file)) as connection:
        assert await connection.ask("PING") == b"PONG"


async def test_who_may_not_load_functions_uses_scripts(guarded: BusServer) -> None:
    async with connection_to(with_credentials(guarded, "unloaded", PASSWORD)) as connection:
        assert await connection.call("acquire", ["lease"], "{}", 1000, "", 0) == [1, b"1"]
        assert connection.function("commit", [])[0] == "EVALSHA"
        await connection.ask("DEL", "lease")


async def test_who_may_do_nothing_is_refused_when_it_opens(guarded: BusServer) -> None:
    async with connection_to(with_credentials(guarded, "reader", PASSWORD)) as connection:
        with pytest.raises(BusRefused, match=r"(?i)no permissions") as caught:
            await connection.open()
        assert PASSWORD not in str(caught.value)


async def test_what_the_user_may_not_do_is_refused_and_the_connection_stays(guarded: BusServer) -> None:
    async with connection_to(with_credentials(guarded, "unloaded", PASSWORD)) as connection:
        with pytest.raises(BusRefused):
            await connection.ask("FUNCTION", "LIST")
        assert connection.is_open


async def test_a_refused_request_is_an_error_of_its_own(bus: Bus) -> None:
    with pytest.raises(BusError, match=r"unknown command.*NOSUCH|NOSUCH") as caught:
        await bus.connection.ask("NOSUCH")
    assert type(caught.value) is BusError
    assert bus.connection.is_open


@pytest.fixture
async def full(bus: Bus) -> AsyncIterator[Bus]:
    """A server over its memory limit."""
    await bus.client.config_set("maxmemory", 1)
    try:
        yield bus
    finally:
        await bus.client.config_set("maxmemory", 0)


async def test_a_server_without_room_is_full(full: Bus) -> None:
    with pytest.raises(BusFull, match="over its memory limit"):
        await full.connection.ask("SET", "x", "y")


async def test_decisions_do_not_wait_for_room(full: Bus) -> None:
    if full.connection.function("commit", [])[0] == "EVALSHA":
        with pytest.raises(BusFull):  # before Redis 7 nothing is exempt: the link then treats it as an outage
            await full.commit(decided(events=[an_event(1)]))
        return
    await full.commit(decided(events=[an_event(1)]))
    assert await full.publish(1)
    assert len(await full.events()) == 1


async def test_a_server_that_loads_its_data_is_away_for_now(own_bus: Bus) -> None:
    await own_bus.client.eval("for i = 1, 2000 do redis.call('SET', 'k' .. i, i) end", 0)
    await own_bus.client.save()
    await own_bus.connection.close()
    server = own_bus.server
    server.stop()
    slowly = ["--key-load-delay", "2000", "--loading-process-events-interval-bytes", "1024"]  # µs a key
    words = [server.binary, "--port", "0", "--unixsocket", server.path, "--dir", server.directory, *server.options]
    with server.log.open("ab") as log:
        loading = await asyncio.create_subprocess_exec(*map(str, words), *slowly, stdout=log, stderr=log)
        try:
            await eventually(lambda: asyncio.to_thread(server.path.exists))
            with pytest.raises(BusLost, match=r"cannot serve right now.*loading"):
                await own_bus.connection.open()
        finally:
            loading.kill()
            await loading.wait()


async def test_a_replica_cannot_serve(own_bus: Bus) -> None:
    await own_bus.client.replicaof("127.0.0.1", "1")
    with pytest.raises(BusLost, match="cannot serve right now"):
        await own_bus.connection.ask("SET", "x", "y")
    await own_bus.client.config_set("replica-serve-stale-data", "no")
    with pytest.raises(BusLost, match="cannot serve right now"):
        await own_bus.connection.ask("GET", "x")


async def test_nobody_there_is_away(own_bus: Bus) -> None:
    own_bus.server.kill()
    await own_bus.connection.close()
    with pytest.raises(BusLost, match="is away"):
        await own_bus.connection.open()


async def test_a_refused_connection_is_away() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    async with connection_to(f"redis://me:{PASSWORD}@127.0.0.1:{port}/0") as connection:
        with pytest.raises(BusLost, match=f"@127.0.0.1:{port}/0 is away") as caught:
            await connection.ask("PING")
    assert PASSWORD not in str(caught.value)


async def test_a_killed_server_is_away_and_found_again(own_bus: Bus) -> None:
    own_bus.server.kill()
    with pytest.raises(BusLost, match="is away"):
        await own_bus.connection.ask("PING")
    assert not own_bus.connection.is_open
    own_bus.server.start()
    await own_bus.commit(decided(events=[an_event(1)]))


async def test_a_server_that_dies_while_we_wait_is_away(own_bus: Bus) -> None:
    waiting = asyncio.create_task(own_bus.connection.ask("BLPOP", "nothing", 0, wait_s=20))
    await eventually(lambda: somebody_waits(own_bus))
    own_bus.server.kill()
    with pytest.raises(BusLost):
        await waiting


async def test_a_silent_server_is_lost_in_time(own_bus: Bus) -> None:
    async with connection_to(own_bus.server.url, timeout_s=1.0) as connection:
        await connection.open()
        own_bus.server.pause()
        with pytest.raises(BusLost, match="did not answer within 1 s"):
            await connection.ask("PING")
        assert not connection.is_open
        own_bus.server.resume()
        assert await connection.ask("ECHO", "mine") == b"mine"


async def test_a_cancelled_request_leaves_no_reply_behind(bus: Bus) -> None:
    request = asyncio.create_task(bus.connection.ask("BLPOP", "nothing", 0, wait_s=20))
    await eventually(lambda: somebody_waits(bus))
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert await bus.connection.ask("ECHO", "mine") == b"mine"


async def test_functions_that_somebody_flushed_are_loaded_again(bus: Bus) -> None:
    await bus.commit(decided())
    if bus.connection.function("commit", [])[0] == "FCALL":
        await bus.client.function_flush("SYNC")
    else:
        await bus.client.script_flush("SYNC")
    with pytest.raises(BusLost, match="lost our functions"):
        await bus.commit(decided())
    await bus.commit(decided(events=[an_event(1)]))
    assert len(await bus.events()) == 1


async def test_two_connections_share_the_functions(bus: Bus) -> None:
    async with connection_to(bus.server.url) as other:
        await other.open()
        await other.call("announce", [bus.lease], bus.epoch)


@pytest.mark.parametrize("url", ["http://x", "redis://host:99999", "redis://host/0?socket_timeout=soon"])
def test_a_url_that_cannot_be_used_says_so(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"bus\.url"):
        Connection(url, timeout_s=1)


def test_a_password_file_that_is_missing_says_so() -> None:
    with pytest.raises(ConfigurationError, match=r"bus\.password_file: /nowhere/pw cannot be read: No such file"):
        Connection("redis://x", timeout_s=1, password_file="/nowhere/pw")


async def test_a_server_that_speaks_something_else_is_no_bus() -> None:
    done = asyncio.Event()

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        await reader.read()
        writer.close()
        done.set()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with connection_to(f"redis://127.0.0.1:{port}") as connection:
            with pytest.raises(BusError):
                await connection.open()
        await done.wait()
