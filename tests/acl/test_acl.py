"""The ACL files that ship, by what each user may not do; on real servers of both kinds."""

import hashlib
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError, ResponseError

from schemas.workload import (
    ask_channel,
    directive_key,
    inbox_key,
    memory_channel,
    pause_channel,
    reservation_key,
    throttle_channel,
)
from supervisor.bus import keys, lease
from supervisor.bus.connection import Connection
from tests.busservers import KINDS, BusServer, start_bus_server

FILES = Path(__file__).parents[2] / "deploy" / "acl"
USERS = ("supervisor", "workload", "reader")

DIRECTIVE = directive_key("box", "gpu0")
LEDGER = reservation_key("box")
#: What a workload must never write, each with a command that would.
FORBIDDEN_WRITES = {
    "directive": ("HSET", DIRECTIVE, "speed", "1"),
    "directive as a stream": ("XADD", DIRECTIVE, "*", "speed", "1"),
    "command": ("XADD", keys.commands_key("box"), "*", "type", "flyball.command.requested"),
    "event": ("XADD", keys.events_key(), "*", "type", "flyball.directive.issued"),
    "sample": ("XADD", keys.samples_key(), "*", "type", "flyball.host.sampled"),
    "dead letter": ("XADD", keys.dead_key(), "*", "type", "x"),
    "demand": ("HSET", keys.demands_key("box", "gpu0"), "me", "{}"),
    "lease": ("HSET", keys.lease_key("box"), "epoch", "99"),
    "status": ("SET", keys.status_key("box"), "{}"),
    "ledger": ("HSET", LEDGER, "llm_model", "{}"),
    "entry of the ledger": ("HDEL", LEDGER, "llm_model"),
    "whole ledger": ("DEL", LEDGER),
    "ledger by rename": ("RENAME", inbox_key(), LEDGER),
    "capacity": ("HSET", keys.record_key("capacity", "box:gpu0"), "limit_bytes", "1"),
    "override": ("HSET", keys.record_key("override", "gpu0"), "speed", "1"),
    "throttle channel": ("PUBLISH", throttle_channel("box", "gpu0"), "{}"),
    "pause channel": ("PUBLISH", pause_channel("box", "gpu0"), "{}"),
    "memory channel": ("PUBLISH", memory_channel("box"), "{}"),
    "ask channel": ("PUBLISH", ask_channel("box", "trainer"), "{}"),
    "foreign key": ("SET", "other", "x"),
    "script": ("EVAL", "return redis.call('HSET', KEYS[1], 'speed', '1')", "1", DIRECTIVE),
    "function": ("FUNCTION", "LOAD", "#!lua name=mine\nredis.register_function('f', function() return 1 end)"),
}
#: What a workload may read, and what it may not.
READS = {
    "directive": ("HGETALL", DIRECTIVE),
    "ledger": ("HGETALL", LEDGER),
    "entry of the ledger": ("HGET", LEDGER, "llm_model"),
    "status": ("GET", keys.status_key("box")),
}
FURTHER_READS = {
    "events": ("XREVRANGE", keys.events_key(), "+", "-", "COUNT", "5"),
    "samples": ("XREAD", "STREAMS", keys.samples_key(), "0"),
    "inbox": ("XRANGE", inbox_key(), "-", "+"),
    "demands": ("HGETALL", keys.demands_key("box", "gpu0")),
    "lease": ("HGETALL", keys.lease_key("box")),
    "override": ("HGETALL", keys.record_key("override", "gpu0")),
    "snapshot": ("HGET", keys.snapshot_key("box", "throttle"), "state"),
    "what was done": ("GET", keys.idempotency_key("x")),
}
ADMINISTRATION = {
    "flush": ("FLUSHALL",),
    "configuration": ("CONFIG", "GET", "*"),
    "configuration change": ("CONFIG", "SET", "maxmemory", "0"),
    "users": ("ACL", "SETUSER", "flyball-workload", "allcommands"),
    "shutdown": ("SHUTDOWN",),
    "monitor": ("MONITOR",),
    "replica": ("REPLICAOF", "NO", "ONE"),
    "kill clients": ("CLIENT", "KILL", "TYPE", "normal"),
    "all key names": ("KEYS", "*"),
    "flush functions": ("FUNCTION", "FLUSH"),
}


@pytest.fixture(scope="module", params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BusServer]:
    """A server with the users of deploy/acl, made by the words of its README, and an administrator for the test."""
    directory = tmp_path_factory.mktemp("acl")
    for file in FILES.glob("*.acl"):
        (directory / file.name).write_text(file.read_text())
    (recipe,) = re.findall(r"```sh\n(.*?)```", (FILES / "README.md").read_text(), re.DOTALL)
    subprocess.run(["sh", "-eu", "-c", recipe], cwd=directory, check=True)
    users = directory / "users.acl"
    assert users.stat().st_mode & 0o077 == 0
    users.write_text(users.read_text() + "user admin on >admin ~* &* +@all\n")
    with start_bus_server(request.param, ["--aclfile", str(users)]) as server:
        for name in USERS:
            (server.directory / f"{name}.password").write_text((directory / f"{name}.password").read_text())
        yield server


@asynccontextmanager
async def client_of(server: BusServer, name: str, protocol: int = 3) -> AsyncIterator[Redis]:
    password = "admin" if name == "admin" else (server.directory / f"{name}.password").read_text()
    username = name if name == "admin" else f"flyball-{name}"
    async with Redis.from_url(
        server.url, username=username, password=password, protocol=protocol, decode_responses=True,
        retry=Retry(NoBackoff(), 0),
    ) as client:  # fmt: skip
        yield client


async def run(server: BusServer, name: str, words: tuple[str, ...]) -> Any:
    async with client_of(server, name) as client:
        return await client.execute_command(*words)


@pytest.mark.parametrize("what", FORBIDDEN_WRITES)
async def test_a_workload_writes_nothing_but_the_inbox(server: BusServer, what: str) -> None:
    with pytest.raises(NoPermissionError):
        await run(server, "workload", FORBIDDEN_WRITES[what])


@pytest.mark.parametrize("what", READS)
async def test_a_workload_reads_what_is_said_to_it(server: BusServer, what: str) -> None:
    await run(server, "workload", READS[what])


@pytest.mark.parametrize("what", FURTHER_READS)
async def test_a_workload_reads_nothing_else(server: BusServer, what: str) -> None:
    with pytest.raises(NoPermissionError):
        await run(server, "workload", FURTHER_READS[what])


async def test_of_all_commands_of_the_server_a_workload_has_only_these(server: BusServer) -> None:
    """Every command of this server, with as many arguments as it wants, so that it gets as far as the permissions."""
    allowed = set()
    async with client_of(server, "admin") as admin, client_of(server, "workload", protocol=2) as workload:
        described = [one for command in (await admin.command()).values() for one in _with_subcommands(command)]
        assert len(described) > 300
        connection = await workload.connection_pool.get_connection()
        for name, arity in described:
            if name in NO_PERMISSION_NEEDED:
                continue
            words = name.split("|")
            await connection.send_command(*words, *["1"] * (abs(arity) - len(words)))
            try:
                await connection.read_response()
            except ResponseError as refused:
                # anything else is an answer of the command, or a refusal of these keys or channels alone
                if not re.search("has no permissions to run|command not allowed", str(refused)):
                    allowed.add(name)
            else:
                allowed.add(name)
        await connection.disconnect()
    assert allowed == {
        "xadd", "get", "hget", "hgetall", "subscribe", "psubscribe", "unsubscribe", "punsubscribe", "ping",
    }  # fmt: skip


#: Commands that no server asks permission for: they are about the connection itself.
NO_PERMISSION_NEEDED = frozenset({"auth", "hello", "quit", "reset"})


def _with_subcommands(command: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Names and arities (negative: at least) of a command, or of its subcommands where it has any."""
    subcommands = command.get("subcommands") or []
    if not subcommands:
        yield command["name"], command["arity"]
    for subcommand in subcommands:
        name, arity = subcommand[0], subcommand[1]
        yield (name.decode() if isinstance(name, bytes) else name), arity


async def test_a_workload_obeys_and_speaks(server: BusServer) -> None:
    channels = (
        throttle_channel("box", "gpu0"),
        pause_channel("box", "gpu0"),
        memory_channel("box"),
        ask_channel("box", "trainer"),
    )
    async with client_of(server, "workload") as client, client.pubsub() as pubsub:
        await pubsub.subscribe(*channels)
        await pubsub.psubscribe("flyball:throttle:*", "flyball:ask:*")
        assert await client.hgetall(DIRECTIVE) == {}
        for said in ("flyball.workload.join", "flyball.memory.reserve"):
            assert await client.xadd(inbox_key(), {"type": said}, maxlen=10000, approximate=True)
        assert await client.ping()


@pytest.mark.parametrize("channel", ["flyball:other:*", "*", "__keyspace@0__:*"])
async def test_a_workload_hears_only_what_is_said_to_it(server: BusServer, channel: str) -> None:
    async with client_of(server, "workload") as client, client.pubsub() as pubsub:
        with pytest.raises(NoPermissionError):
            await pubsub.psubscribe(channel)
            await pubsub.get_message(timeout=5)


@pytest.mark.parametrize("what", [*READS, *FURTHER_READS])
async def test_a_reader_reads_everything_of_flyball(server: BusServer, what: str) -> None:
    await run(server, "reader", (READS | FURTHER_READS)[what])


@pytest.mark.parametrize("what", [*FORBIDDEN_WRITES, "inbox"])
async def test_a_reader_writes_nothing(server: BusServer, what: str) -> None:
    with pytest.raises(NoPermissionError):
        await run(server, "reader", {**FORBIDDEN_WRITES, "inbox": ("XADD", inbox_key(), "*", "a", "b")}[what])


@pytest.mark.parametrize(
    "words", [("GET", "other"), ("SCAN", "0"), ("XGROUP", "CREATE", keys.events_key(), "g", "$"), ("RANDOMKEY",)]
)
async def test_a_reader_sees_nothing_else(server: BusServer, words: tuple[str, ...]) -> None:
    with pytest.raises(NoPermissionError):
        await run(server, "reader", words)


async def test_a_reader_hears_every_channel_of_flyball(server: BusServer) -> None:
    async with client_of(server, "reader") as client, client.pubsub() as pubsub:
        await pubsub.psubscribe("flyball:*")
        assert (await pubsub.get_message(timeout=5))["type"] == "psubscribe"


@pytest.mark.parametrize("name", USERS)
@pytest.mark.parametrize("what", ADMINISTRATION)
async def test_nobody_administers_the_server(server: BusServer, name: str, what: str) -> None:
    with pytest.raises(NoPermissionError):
        await run(server, name, ADMINISTRATION[what])


@pytest.mark.parametrize("words", [("SET", "other", "x"), ("GET", "other"), ("PUBLISH", "other", "x")])
async def test_the_supervisor_keeps_to_its_own_keys(server: BusServer, words: tuple[str, ...]) -> None:
    with pytest.raises(NoPermissionError):
        await run(server, "supervisor", words)


async def test_the_supervisor_cannot_reach_other_keys_through_a_script(server: BusServer) -> None:
    async with client_of(server, "supervisor") as client:
        digest = await client.script_load("return redis.call('SET', 'other', 'x')")
        with pytest.raises(
            ResponseError, match=r"can't access at least one of the keys|No permissions to access a key"
        ):
            await client.evalsha(digest, 0)


SUPERVISION: tuple[tuple[str, ...], ...] = (
    ("XGROUP", "CREATE", keys.inbox_key(), "throttle", "0", "MKSTREAM"),
    ("XADD", keys.inbox_key(), "*", "a", "b"),
    ("XREADGROUP", "GROUP", "throttle", "flyball", "COUNT", "1", "BLOCK", "1", "STREAMS", keys.inbox_key(), ">"),
    ("XAUTOCLAIM", keys.inbox_key(), "throttle", "flyball", "0", "0-0"),
    ("XPENDING", keys.inbox_key(), "throttle"),
    ("XINFO", "GROUPS", keys.inbox_key()),
    ("XACK", keys.inbox_key(), "throttle", "1-1"),
    ("XTRIM", keys.samples_key(), "MINID", "~", "1"),
    ("XLEN", keys.samples_key()),
    ("HGETALL", DIRECTIVE),
    ("SET", keys.status_key("box"), "{}", "PX", "15000"),
    ("HSET", keys.handler_key("throttle"), "lag", "0"),
    ("PEXPIRE", keys.handler_key("throttle"), "60000"),
    ("PTTL", keys.lease_key("box")),
    ("DEL", keys.record_key("override", "gpu0")),
    ("PUBLISH", throttle_channel("box", "gpu0"), "{}"),
    ("PUBLISH", ask_channel("box", "trainer"), "{}"),
    ("SCAN", "0", "MATCH", "flyball:*"),
    ("INFO", "memory"),
    ("TIME",),
    ("MULTI",),
)


@pytest.mark.parametrize("words", SUPERVISION, ids=lambda words: words[0])
async def test_the_supervisor_may_do_its_work(server: BusServer, words: tuple[str, ...]) -> None:
    async with client_of(server, "supervisor") as client:
        await client.execute_command("DEL", keys.inbox_key())
        if words[0] != "XGROUP":
            await client.xgroup_create(keys.inbox_key(), "throttle", mkstream=True)
        await client.execute_command(*words)


async def test_the_supervisor_loads_and_calls_its_functions(server: BusServer) -> None:
    url = server.url.replace("unix://", "unix://flyball-supervisor@")
    connection = Connection(url, timeout_s=5, password_file=str(server.directory / "supervisor.password"))
    try:
        epoch = await lease.acquire(connection, "box", {"pid": 1}, is_dead=lambda _: False)
        await lease.renew(connection, "box", epoch)
        await lease.release(connection, "box", epoch)
    finally:
        await connection.close()


async def test_without_a_password_nothing_goes(server: BusServer) -> None:
    async with Redis.from_url(server.url, protocol=2, retry=Retry(NoBackoff(), 0)) as client:
        with pytest.raises(RedisConnectionError, match="Authentication required"):
            await client.ping()


@pytest.mark.parametrize("name", USERS)
def test_a_file_with_its_placeholder_does_not_load(name: str) -> None:
    (line,) = (FILES / f"{name}.acl").read_text().splitlines()
    (placeholder,) = re.findall(r" #(\S+) ", line)
    assert placeholder == f"{name.upper()}_PASSWORD_SHA256"
    assert len(placeholder) != len(hashlib.sha256().hexdigest())
