"""The bus of our own: a private server in the state directory, kept alive, and found again after a kill of the daemon.

The server listens on the unix socket `<state>/bus.sock` only, keeps its data in `<state>/bus`, and holds the lock
`<state>/bus.lock` for as long as it lives: it inherits the locked descriptor, so not even a kill -9 of the daemon at a
bad moment makes two servers write one append-only file.
"""

import asyncio
import logging
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final
from urllib.parse import quote

import msgspec

from supervisor.bus.binary import Binary, find_binary
from supervisor.bus.ping import ask, is_listening
from supervisor.bus.serverprocess import ServerProcess
from supervisor.errors import BusError, BusRefused, StateDirectoryError

if sys.platform != "win32":
    import fcntl

__all__ = ["EmbeddedBus"]

_log = logging.getLogger(__name__)

#: A longer path does not fit sockaddr_un everywhere (108 bytes on Linux, 104 on macOS).
_LONGEST_SOCKET_PATH: Final = 100
#: A server of ours that is alive and says nothing for so long is ended; one that loads its data says so.
_SILENT_FOR_S: Final = 10.0
#: Well within the step that the daemon's teardown gives us.
_STOP_WITHIN_S: Final = 1.0
_LONGEST_LOG: Final = 1 << 20
#: Waits between restarts; the first is immediate, and the row begins anew after a minute of health.
_BACK_OFF_S: Final = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)
_HEALTHY_AFTER_S: Final = 60.0
#: What Redis 6.2 to 7 and Valkey 9 say before they give up on their data (aof.c, rdb.c).
_DAMAGE: Final = re.compile(
    r"bad file format reading|unrecoverable error reading|unexpected end of file reading|error reading the rdb preamble"
    r"|aof manifest|manifest file|wrong signature|internal error in rdb|rdb (file|format)|the aof file .* doesn't exist"
    r"|fatal error loading|unable to obtain the aof file .* no such file",
    re.IGNORECASE,
)


class _Record(msgspec.Struct, frozen=True):
    """Which process holds the lock; the JSON inside the lock file."""

    pid: int
    start_time_s: float


class EmbeddedBus:
    """A server of our own: `start`, then `keep` as a task of the caller's, then `stop`."""

    def __init__(self, state: Path, memory_mib: int = 256) -> None:
        """The bus of the state directory `state`; the server refuses samples when it holds `memory_mib`."""
        state = state.absolute()
        self.socket = state / "bus.sock"
        self.url = f"unix://{quote(str(self.socket))}"
        #: What it is, such as `valkey 9.1.2 (embedded)`, once it has started.
        self.kind = "none"
        #: Set while the server is dead.
        self.died = asyncio.Event()
        self.restarts = 0
        self._memory_mib = memory_mib
        self._state = state
        self._data = state / "bus"
        self._lock_file = state / "bus.lock"
        self._process: ServerProcess | None = None
        self._stopping = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """The server's process id, once it has started."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Find the server that outlived us, or start one; come back once it answers with its data loaded.

        Data that it cannot load is moved aside, which the log says, and it starts from nothing.

        :raises StateDirectoryError: the directory cannot be written, or its path is too long for a socket.
        :raises BusRefused: there is no server program, it does not start, or another one is on our socket.
        """
        if len(os.fsencode(self.socket)) > _LONGEST_SOCKET_PATH:
            raise StateDirectoryError(
                f"the path {self.socket} is too long for a socket",
                why=f"it has more than {_LONGEST_SOCKET_PATH} bytes",
                hint="Name a shorter directory in FLYBALL_STATE_DIR.",
            )  # fmt: skip
        binary = await asyncio.to_thread(find_binary)
        try:
            self._state.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._data.mkdir(mode=0o700, exist_ok=True)
            lock = os.open(self._lock_file, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as err:
            raise self._unusable(err) from err
        try:
            self._process = await self._find(lock) or await self._launch(binary, lock)
        except OSError as err:
            raise self._unusable(err) from err
        finally:
            os.close(lock)
        self.kind = await self._ask_kind() or f"{binary.flavour} (embedded)"
        self.died.clear()

    async def keep(self) -> None:
        """Start the server again whenever it dies, over the same data, until `stop`; log each time once."""
        failures = 0
        try:
            while self._process is not None and not self._stopping.is_set():
                since_s = time.monotonic()
                how = await self._process.ended()
                if self._stopping.is_set():
                    return
                self._process.close()
                self.died.set()
                _log.error("the bus (pid %d) %s; starting it again", self._process.pid, how)
                if time.monotonic() - since_s > _HEALTHY_AFTER_S:
                    failures = 0
                failures = await self._revive(failures)
        finally:
            if self._stopping.is_set():
                await self.stop()

    async def _revive(self, failures: int) -> int:
        """Start the server, with growing waits, until it runs; `failures` is how many there were, and are."""
        while self.died.is_set() and not self._stopping.is_set():
            await asyncio.sleep(_BACK_OFF_S[min(failures, len(_BACK_OFF_S) - 1)])
            failures += 1
            try:
                await self.start()
            except (BusError, StateDirectoryError) as err:
                _log.error("the bus does not start, trying again: %s", err)
            else:
                self.restarts += 1
                _log.warning("the bus runs again (pid %s)", self.pid)
        return failures

    async def stop(self) -> None:
        """End the server in good order: it writes its data, and is killed after a second. `keep` returns."""
        self._stopping.set()
        process, self._process = self._process, None
        if process is not None:
            await process.stop(_STOP_WITHIN_S)
            self.socket.unlink(missing_ok=True)

    async def _find(self, lock: int) -> ServerProcess | None:
        """The server that outlived us; None, with the lock ours, where there is none.

        :raises BusRefused: what lives there is not ours.
        """
        deadline = time.monotonic() + _SILENT_FOR_S
        while not _try_lock(lock):
            reply = await ask(self.socket, "PING")
            if reply is not None:
                if reply.startswith("+PONG"):
                    return await self._adopt(_read_record(lock))
                deadline = time.monotonic() + _SILENT_FOR_S  # it is loading its data
            if time.monotonic() > deadline:
                record = _read_record(lock)
                silent = ServerProcess.find(record.pid, record.start_time_s) if record else None
                if silent is None:
                    raise BusRefused(
                        "the bus of our own is taken", why=f"a process holds {self._lock_file}, and nothing answers",
                        hint=f"Find it with `fuser -v {self._lock_file}` and end it.",
                    )  # fmt: skip
                _log.error("the bus (pid %d) is alive and says nothing: it is ended and started again", silent.pid)
                await silent.stop(0)
            await asyncio.sleep(0.05)
        if self.socket.exists() and not self.socket.is_socket():
            raise BusRefused(
                f"{self.socket} is not a socket", why="Flyball did not make it", hint="Move it out of the way."
            )
        if await is_listening(self.socket):
            raise BusRefused(
                f"another server listens on {self.socket}", why="Flyball did not start it",
                hint=f"End it, or use it by bus.url = \"{self.url}\".",
            )  # fmt: skip
        self.socket.unlink(missing_ok=True)
        return None

    async def _adopt(self, record: _Record | None) -> ServerProcess:
        """Take up the server that answers on our socket, with the settings that hold now."""
        pid = int(_fields(await ask(self.socket, "INFO", "server")).get("process_id", 0))
        # without a record, an earlier daemon was killed before it could write one; the lock is held all the same
        process = ServerProcess.find(pid, record.start_time_s if record else None)
        if process is None or (record and record.pid != pid):
            raise BusRefused(
                f"another server listens on {self.socket}", why=f"process {pid} is not the one that Flyball started",
                hint=f"End it, or use it by bus.url = \"{self.url}\".",
            )  # fmt: skip
        await ask(self.socket, "CONFIG", "SET", "maxmemory", f"{self._memory_mib}mb")
        _log.info("found the bus that outlived an earlier daemon (pid %d)", pid)
        return process

    async def _launch(self, binary: Binary, lock: int) -> ServerProcess:
        """Start the server; where its data is damaged, once more without it.

        :raises BusRefused: it does not start.
        """
        text = await self._try_launch(binary, lock)
        if isinstance(text, str) and _DAMAGE.search(text):
            aside = self._state / f"bus.damaged-{time.time_ns() // 1_000_000}"
            self._data.rename(aside)
            self._data.mkdir(mode=0o700)
            _log.error(
                "the bus could not load its data (%s): moved to %s, beginning anew. redis-check-aof --fix may save it",
                _last_line(text), aside,
            )  # fmt: skip
            text = await self._try_launch(binary, lock)
        if isinstance(text, str):
            raise BusRefused(
                f"the bus of our own did not start ({binary.path})", why=_last_line(text),
                hint=f"See {self._data / 'server.log'}, or set bus.url to another server.",
            )  # fmt: skip
        return text

    async def _try_launch(self, binary: Binary, lock: int) -> ServerProcess | str:
        """The server once it answers, or what it had to say before it ended."""
        os.truncate(lock, 0)
        with self._open_log() as log:
            begin = log.tell()
            try:
                process = ServerProcess.spawn(self._arguments(binary), directory=self._state, log=log, keeps_open=lock)
            except ProcessLookupError:
                return _log_since(log, begin)
            ready = False
            try:
                _write_record(lock, _Record(process.pid, process.start_time_s))
                ready = await self._becomes_ready(process)
            finally:
                if not ready:
                    await process.stop(0)
            return process if ready else _log_since(log, begin)

    async def _becomes_ready(self, process: ServerProcess) -> bool:
        """Whether it answers in time; there is nothing but the socket to tell that it does."""
        deadline, wait_s = time.monotonic() + _SILENT_FOR_S, 0.004
        while process.is_alive() and time.monotonic() < deadline:
            reply = await ask(self.socket, "PING")
            if reply is not None:
                if reply.startswith("+PONG"):
                    return True
                deadline = time.monotonic() + _SILENT_FOR_S  # it is loading its data
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 1.5, 0.1)
        return False

    def _arguments(self, binary: Binary) -> list[str | Path]:
        """The command line. The append-only file holds plain commands, so that Redis reads Valkey's and the reverse."""
        arguments: list[str | Path] = [
            binary.path, "--port", "0", "--unixsocket", self.socket, "--unixsocketperm", "700",
            "--dir", self._data, "--appendonly", "yes", "--appendfsync", "everysec", "--aof-use-rdb-preamble", "no",
            "--save", "", "--maxmemory", f"{self._memory_mib}mb", "--maxmemory-policy", "noeviction",
            "--databases", "1", "--daemonize", "no", "--loglevel", "notice",
        ]  # fmt: skip
        if binary.version >= (7, 0):
            arguments += ["--enable-debug-command", "no"]
        return arguments

    async def _ask_kind(self) -> str | None:
        fields = _fields(await ask(self.socket, "INFO", "server"))
        if version := fields.get("valkey_version"):
            return f"valkey {version} (embedded)"
        return f"redis {fields['redis_version']} (embedded)" if "redis_version" in fields else None

    @contextmanager
    def _open_log(self) -> Iterator[IO[bytes]]:
        """The server's log, to append to; a long one is put away first, in the place of the one before."""
        path = self._data / "server.log"
        if path.exists() and path.stat().st_size > _LONGEST_LOG:
            path.replace(path.with_name("server.log.1"))
        with path.open("a+b") as log:
            yield log

    def _unusable(self, err: OSError) -> StateDirectoryError:
        return StateDirectoryError(
            f"the bus cannot use the state directory {self._state}", why=str(err),
            hint="Make it writable, or name another one in FLYBALL_STATE_DIR.",
        )  # fmt: skip


def _try_lock(lock: int) -> bool:
    """Whether the lock is ours now, and so no server lives."""
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_record(lock: int) -> _Record | None:
    try:
        return msgspec.json.decode(os.pread(lock, 4096, 0), type=_Record)
    except msgspec.MsgspecError:
        return None


def _write_record(lock: int, record: _Record) -> None:
    os.pwrite(lock, msgspec.json.encode(record) + b"\n", 0)


def _fields(info: str | None) -> dict[str, str]:
    """The `key:value` lines of an INFO reply."""
    return dict(line.split(":", 1) for line in (info or "").splitlines() if ":" in line and not line.startswith("#"))


def _log_since(log: IO[bytes], begin: int) -> str:
    log.seek(begin)
    return log.read().decode(errors="replace")


def _last_line(text: str) -> str:
    """The last thing that it said, without pid, date and mark."""
    lines = [line for line in text.splitlines() if line.strip()] or ["it said nothing"]
    return re.sub(r"^\d+:\w \d+ \w+ \d+ [\d:.]+ \S ", "", lines[-1])
