"""The bus of our own, with real servers of both kinds: it starts, lasts, is found again, and loses no data unsaid."""

import asyncio
import errno
import fcntl
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from signal import SIGKILL, SIGSTOP
from typing import Any, NoReturn

import pytest
from redis.asyncio import Redis

from supervisor.bus import embedded
from supervisor.bus.embedded import EmbeddedBus
from supervisor.bus.ping import ask
from supervisor.errors import BusRefused, StateDirectoryError
from supervisor.process import process_start_s
from tests.busservers import KINDS, server_binary

ROOT = Path(__file__).parents[2]


def only(program: Path, monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    """Let this server program be the one that is found."""
    directory.mkdir()
    if program.name == "redis-server":
        (directory / "redis-server").symlink_to(program)
    monkeypatch.setenv("PATH", str(directory))


def damaged(state: Path) -> list[Path]:
    return list(state.glob("*damaged*"))


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    name: str = request.param
    only(server_binary(name), monkeypatch, tmp_path / name)
    return name


@pytest.fixture
def state() -> Iterator[Path]:
    """A state directory that is not there yet; its path is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="fb-") as directory:
        state = Path(directory, "a state")
        try:
            yield state
        finally:
            end_survivor(state)


def end_survivor(state: Path) -> None:
    """Where a test failed between a daemon's end and the next one's start, its server is still there."""
    try:
        record = json.loads((state / "bus.lock").read_bytes())
    except (OSError, ValueError):
        return
    if process_start_s(record["pid"]) == record["start_time_s"]:
        os.kill(record["pid"], SIGKILL)


@pytest.fixture
def made_state(state: Path) -> Path:
    state.mkdir()
    return state


@asynccontextmanager
async def running(state: Path) -> AsyncIterator[EmbeddedBus]:
    bus = EmbeddedBus(state)
    try:
        await bus.start()
        yield bus
    finally:
        await bus.stop()


@asynccontextmanager
async def kept(state: Path) -> AsyncIterator[EmbeddedBus]:
    async with asyncio.TaskGroup() as tasks, running(state) as bus:
        tasks.create_task(bus.keep(), name="keep the bus")
        yield bus


async def tell(bus: EmbeddedBus, *words: str) -> str | None:
    return await ask(bus.socket, *words)


async def runs_again(bus: EmbeddedBus, restarts: int) -> None:
    """Wait until the bus has died and come back so many times."""
    async with asyncio.timeout(20):
        while bus.restarts < restarts:  # noqa: ASYNC110 - only the server's socket tells when it is back
            await asyncio.sleep(0.002)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_it_is_private_persistent_and_bounded(kind: str, state: Path) -> None:
    async with running(state) as bus, Redis.from_url(bus.url, decode_responses=True) as client:
        flavour = {"debian": "redis", "embedded": "valkey"}[kind]
        assert bus.kind.startswith(f"{flavour} ") and bus.kind.endswith(" (embedded)")
        assert (await client.info("server"))["tcp_port"] == 0
        expected = {"appendonly": "yes", "appendfsync": "everysec", "save": "", "maxmemory-policy": "noeviction"}
        assert await client.config_get(*expected) == expected
        assert await client.config_get("maxmemory") == {"maxmemory": str(256 << 20)}
        assert mode(bus.socket) == 0o700
        assert mode(state) == 0o700
        assert bus.pid is not None and os.getsid(bus.pid) == bus.pid, "Ctrl-C at our terminal would end it"


async def test_data_is_kept_over_a_stop(kind: str, state: Path) -> None:
    async with running(state) as bus:
        await tell(bus, "SET", "key", "kept")
        pid = bus.pid
    assert pid is not None and not is_running(pid)
    assert not bus.socket.exists()
    async with running(state) as bus:
        assert await tell(bus, "GET", "key") == "kept"


async def test_it_is_started_again_with_its_data_when_it_dies(kind: str, state: Path) -> None:
    async with kept(state) as bus:
        for restarts in (1, 2):
            pid = bus.pid
            assert pid is not None
            await tell(bus, "SET", "key", f"life {restarts}")
            os.kill(pid, SIGKILL)
            await bus.died.wait()
            await runs_again(bus, restarts)
            assert bus.pid != pid
            assert await tell(bus, "GET", "key") == f"life {restarts}"


DAEMON = """
import asyncio, sys
from pathlib import Path
from supervisor.bus.embedded import EmbeddedBus
async def main():
    bus = EmbeddedBus(Path(sys.argv[1]))
    await bus.start()
    print(bus.pid, flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


def outlive_a_daemon(state: Path) -> int:
    """Start a bus in a real daemon, kill that, and return the pid of the bus."""
    daemon = subprocess.Popen([sys.executable, "-c", DAEMON, state], stdout=subprocess.PIPE, cwd=ROOT)
    assert daemon.stdout
    try:
        return int(daemon.stdout.readline())
    finally:
        daemon.kill()
        daemon.communicate()


async def test_a_bus_that_outlived_a_killed_daemon_is_used_again(
    kind: str, state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="supervisor.bus")
    pid = outlive_a_daemon(state)
    async with kept(state) as bus:
        assert bus.pid == pid
        assert f"found the bus that outlived an earlier daemon (pid {pid})" in caplog.text
        await tell(bus, "SET", "key", "kept")
        os.kill(pid, SIGKILL)
        await runs_again(bus, 1)
        assert bus.pid != pid
        assert await tell(bus, "GET", "key") == "kept"


async def test_what_was_answered_outlives_every_kill_of_daemon_and_bus_in_turn(kind: str, state: Path) -> None:
    for count in range(1, 11):
        pid = outlive_a_daemon(state)
        assert await ask(state / "bus.sock", "INCR", "count") == f":{count}"
        if count % 2:
            os.kill(pid, SIGKILL)
    async with running(state):
        pass


async def test_a_bus_whose_daemon_died_before_it_wrote_the_pid_is_found_too(kind: str, state: Path) -> None:
    pid = outlive_a_daemon(state)
    os.truncate(state / "bus.lock", 0)
    async with running(state) as bus:
        assert bus.pid == pid
    assert not is_running(pid)


async def test_an_adopted_bus_gets_the_limits_that_hold_now(state: Path) -> None:
    outlive_a_daemon(state)
    bus = EmbeddedBus(state, memory_mib=32)
    await bus.start()
    try:
        assert f"maxmemory:{32 << 20}" in (await tell(bus, "INFO", "memory") or "")
    finally:
        await bus.stop()


async def test_a_survivor_that_says_nothing_is_ended_and_started_again(
    kind: str, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_SILENT_FOR_S", 0.3)
    pid = outlive_a_daemon(state)
    assert (await ask(state / "bus.sock", "SET", "key", "kept")) == "+OK"
    os.kill(pid, SIGSTOP)
    async with running(state) as bus:
        assert bus.pid != pid and not is_running(pid)
        assert await tell(bus, "GET", "key") == "kept"


async def test_the_server_holds_the_lock_for_as_long_as_it_lives(kind: str, state: Path) -> None:
    async with running(state) as bus, _open(state / "bus.lock") as lock:
        with pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        await bus.stop()
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


@asynccontextmanager
async def _open(path: Path) -> AsyncIterator[int]:
    descriptor = os.open(path, os.O_RDWR)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


async def test_without_pidfds_its_end_is_noticed_all_the_same(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_pidfds(pid: int) -> NoReturn:
        raise OSError(errno.ENOSYS, "not here")

    monkeypatch.setattr(os, "pidfd_open", no_pidfds)
    async with kept(state) as bus:
        assert bus.pid is not None
        os.kill(bus.pid, SIGKILL)
        await runs_again(bus, 1)
        assert await tell(bus, "PING") == "+PONG"


def test_it_works_on_uvloop(kind: str, state: Path) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def die_and_come_back() -> None:
        async with kept(state) as bus:
            assert bus.pid is not None
            os.kill(bus.pid, SIGKILL)
            await runs_again(bus, 1)
            assert await tell(bus, "PING") == "+PONG"

    uvloop.run(die_and_come_back())


async def test_a_stopped_server_does_not_hold_up_the_end(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_STOP_WITHIN_S", 0.2)
    async with running(state) as bus:
        pid = bus.pid
        assert pid is not None
        os.kill(pid, SIGSTOP)
    assert not is_running(pid)
    assert not bus.socket.exists()


async def test_an_end_while_it_is_being_revived_leaves_nothing_behind(
    kind: str, state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="supervisor.bus")
    async with kept(state) as bus:
        assert bus.pid is not None
        os.kill(bus.pid, SIGKILL)
        await bus.died.wait()
        await bus.stop()
    async with running(state):
        assert "found the bus" not in caplog.text, "a server was left behind"


async def test_a_stale_socket_is_removed(made_state: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(made_state / "bus.sock"))
    async with running(made_state) as bus:
        assert await tell(bus, "PING") == "+PONG"


async def test_another_process_on_the_socket_is_left_alone(made_state: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(made_state / "bus.sock"))
        other.listen()
        with pytest.raises(BusRefused, match=r"another server listens on .*Flyball did not start it.*bus\.url"):
            await EmbeddedBus(made_state).start()
        assert (made_state / "bus.sock").exists()


async def test_a_file_in_the_place_of_the_socket_is_left_alone(made_state: Path) -> None:
    (made_state / "bus.sock").write_text("mine")
    with pytest.raises(BusRefused, match="is not a socket"):
        await EmbeddedBus(made_state).start()
    assert (made_state / "bus.sock").read_text() == "mine"


async def test_a_path_that_is_too_long_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StateDirectoryError, match=r"more than 100 bytes.*shorter directory in FLYBALL_STATE_DIR"):
        await EmbeddedBus(tmp_path / ("ä" * 50)).start()


async def test_a_directory_that_cannot_be_written_says_what_to_do() -> None:
    with pytest.raises(StateDirectoryError, match="FLYBALL_STATE_DIR"):
        await EmbeddedBus(Path("/dev/null/state")).start()


async def test_a_server_that_does_not_start_says_why(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "bin"
    directory.mkdir()
    server = directory / "redis-server"
    server.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo "Redis server v=7.0.0" || { echo "no such luck"; exit 1; }\n'
    )
    server.chmod(0o755)
    monkeypatch.setenv("PATH", str(directory))
    with pytest.raises(BusRefused, match=r"did not start .*no such luck.*server\.log"):
        await EmbeddedBus(state).start()
    assert not damaged(state)


@pytest.mark.parametrize("damage", ["garbage", "manifest", "missing"])
async def test_damaged_data_is_moved_aside_and_said(
    kind: str, state: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(state) as bus:
        for n in range(100):
            await tell(bus, "SET", f"key{n}", "x" * 100)
    directory = state / "bus" / "appendonlydir"
    (manifest,) = directory.glob("*.manifest")
    (log,) = directory.glob("*.incr.aof")
    if damage == "garbage":
        content = bytearray(log.read_bytes())
        content[3000:3400] = b"\xa5" * 400
        log.write_bytes(content)
    elif damage == "manifest":
        manifest.write_text("who knows\n")
    else:
        log.unlink()
    before = sorted(path.name for path in directory.iterdir())
    async with running(state) as bus:
        assert await tell(bus, "GET", "key1") in (None, "")
        await tell(bus, "SET", "key", "goes on")
    (aside,) = damaged(state)
    assert sorted(path.name for path in (aside / "appendonlydir").iterdir()) == before
    assert f"moved to {aside}" in caplog.text and "redis-check-aof" in caplog.text
    async with running(state) as bus:
        assert await tell(bus, "GET", "key") == "goes on"
        assert damaged(state) == [aside]


async def test_a_tail_that_was_cut_off_is_no_damage(kind: str, state: Path) -> None:
    async with running(state) as bus:
        await tell(bus, "SET", "first", "kept")
        await tell(bus, "SET", "last", "cut off")
    (log,) = (state / "bus" / "appendonlydir").glob("*.incr.aof")
    os.truncate(log, log.stat().st_size - 3)
    async with running(state) as bus:
        assert await tell(bus, "GET", "first") == "kept"
    assert not damaged(state)


@pytest.mark.parametrize(("first", "second"), [KINDS, KINDS[::-1]])
async def test_each_kind_of_server_reads_the_other_ones_data(
    first: str, second: str, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = {kind: server_binary(kind) for kind in KINDS}
    only(programs[first], monkeypatch, tmp_path / first)
    async with running(state) as bus:
        for n in range(3):
            await tell(bus, "XADD", "stream", f"{n + 1}-0", "n", str(n))
        await tell(bus, "XGROUP", "CREATE", "stream", "group", "1-0")
        await tell(
            bus, "FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('f', function() return 'called' end)"
        )
        await tell(bus, "BGREWRITEAOF")
        before = bus.kind
    only(programs[second], monkeypatch, tmp_path / second)
    async with running(state) as bus:
        assert bus.kind != before
        async with Redis.from_url(bus.url, decode_responses=True) as client:
            reply: Any = await client.xreadgroup("group", "me", {"stream": ">"})
            assert [[entry for entry, _ in entries] for _, entries in reply] == [["2-0", "3-0"]]
            assert await client.fcall("f", 0) == "called"
    assert not damaged(state)


async def test_a_long_log_is_put_away(state: Path) -> None:
    (state / "bus").mkdir(parents=True)
    log = state / "bus" / "server.log"
    log.write_bytes(b"x" * ((1 << 20) + 1))
    async with running(state):
        pass
    assert log.stat().st_size < 1 << 16
    assert log.with_name("server.log.1").stat().st_size == (1 << 20) + 1
