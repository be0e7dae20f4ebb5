"""The real daemon as a process, for tests and shows: started, asked, watched, ended, and nothing left behind.

::

    with short_directory() as state, Daemon(state, config="sampling.interval_s = 0.2") as daemon:
        daemon.event("flyball.host.state_changed")
        assert daemon.status().targets
"""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import msgspec
import redis

from schemas.envelope import Event, event_from_entry
from schemas.sample import Sample
from schemas.status import Status
from schemas.workload import Directive
from supervisor.bus.keys import directive_key, events_key, samples_key, status_key

__all__ = ["Daemon", "Entry", "short_directory"]

ROOT: Final = Path(__file__).parent.parent
HOST: Final = "box"
#: A busy machine starts slowly; what takes longer hangs.
PATIENCE_S: Final = 30.0
#: What the issue of the closed loop promises of SIGTERM.
STOPS_WITHIN_S: Final = 5.0
_ANSWERS_WITHIN_S: Final = 10.0
_BLOCK_S: Final = 5.0


class Entry(NamedTuple):
    """An entry of a stream: its id there, and what it says."""

    id: str
    event: Event


class Daemon:
    """`flyball run` with a state directory and a configuration of its own; a context manager that starts and ends it.

    Leaving it asserts that the daemon ended in good order if it still ran, that it left no process behind unless it was
    killed, and that it never printed a traceback.
    """

    def __init__(
        self, state: Path, config: str = "", *, environ: Mapping[str, str] | None = None, arguments: Sequence[str] = ()
    ) -> None:
        """`state` is the state directory (a short path), made here; `config` is the text of `flyball.toml` in it.

        `environ` comes on top of what every daemon here gets, so `FLYBALL_HOST__NAME`, `FLYBALL_API__PORT` (0: a free
        one) and `FLYBALL_BUS__URL` are changed there; `arguments` follow `flyball run`.
        """
        self.state = state
        self.arguments = tuple(arguments)
        inherited = {name: os.environ[name] for name in ("PATH", "LANG", "HOME") if name in os.environ}
        self.environ = {
            **inherited,
            "FLYBALL_STATE_DIR": str(state),
            "FLYBALL_CONFIG": str(state / "flyball.toml"),
            "FLYBALL_HOST__NAME": HOST,
            "FLYBALL_API__PORT": "0",
            **(environ or {}),
        }
        self.host = self.environ["FLYBALL_HOST__NAME"]
        self.url = self.environ.get("FLYBALL_BUS__URL", f"unix://{state / 'bus.sock'}")
        self.output: list[str] = []
        self._process: subprocess.Popen[str] | None = None
        self._errors = state / "stderr.log"
        self._reader: threading.Thread | None = None
        self._greeted = threading.Event()
        self._client: Any = None
        self._killed = False
        state.mkdir(mode=0o700, exist_ok=True)
        (state / "flyball.toml").write_text(config)

    # -- life ------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        """`start()`."""
        try:
            self.start()
        except BaseException:
            self._clean_up()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it, and see that it was well."""
        errors = ""
        try:
            if self.running and kind is None:
                self.terminate()
            if not self._killed and kind is None:
                self.assert_nothing_left()
        finally:
            errors = self.errors
            self._clean_up()
        if kind is not None:
            sys.stderr.write(f"--- the daemon's stderr ---\n{errors}---\n")
        assert "Traceback" not in errors, errors

    def start(self, *, ready: bool = True) -> None:
        """Start it, by default until it has greeted: bus, handlers and API are there then."""
        assert not self.running, "it runs already"
        self._greeted = threading.Event()  # a new one: the reader of one that was killed may not have noticed yet
        self._killed = False
        with self._errors.open("ab") as errors:
            self._process = subprocess.Popen(
                self.words("run", *self.arguments), env=self.environ, cwd=ROOT, text=True, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=errors, start_new_session=True,
            )  # fmt: skip
        self._reader = threading.Thread(
            target=self._read_output, args=(self._process, self._greeted), name="daemon's output"
        )
        self._reader.start()
        if ready:
            self.wait_ready()

    def wait_ready(self) -> None:
        """Come back once it has greeted."""
        greeted = self._greeted.wait(PATIENCE_S)
        assert greeted and self.running, f"it did not start:\n{self.errors}"

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id, or that of the last one."""
        assert self._process is not None, "it was never started"
        return self._process.pid

    def terminate(self, within_s: float = STOPS_WITHIN_S) -> int:
        """SIGTERM, and its exit code; it fails if it takes longer than that."""
        self._signal(signal.SIGTERM)
        return self.wait(within_s)

    def wait(self, within_s: float = PATIENCE_S) -> int:
        """Its exit code once it has ended by itself."""
        assert self._process is not None, "it was never started"
        try:
            return self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"it did not end within {within_s:g} s:\n{self.errors}") from None

    def kill(self) -> None:
        """SIGKILL of the daemon alone; its bus goes on."""
        self._killed = True
        self._signal(signal.SIGKILL)
        assert self._process is not None, "it was never started"
        self._process.wait()

    def stop(self) -> None:
        """SIGSTOP."""
        self._signal(signal.SIGSTOP)

    def cont(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    @property
    def errors(self) -> str:
        """All that it said on stderr, of every start."""
        return self._errors.read_text(errors="replace") if self._errors.exists() else ""

    def left(self) -> list[int]:
        """Processes that belong to it and live: itself, its readers, its bus."""
        return [pid for pid in _pids() if pid != os.getpid() and self._owns(pid)]

    def assert_nothing_left(self) -> None:
        """No process of it lives any more; what was just killed may still be on its way out."""
        deadline = time.monotonic() + STOPS_WITHIN_S
        while (left := self.left()) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not left, f"left behind: {[_command_line(pid) for pid in left]}\n{self.errors}"

    # -- the command line ------------------------------------------------------------------------------------------

    def command(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run another command of Flyball in the daemon's environment, to its end."""
        return subprocess.run(
            self.words(*arguments), env=self.environ | environ, cwd=ROOT, capture_output=True, text=True,
            timeout=PATIENCE_S, check=False,
        )  # fmt: skip

    @staticmethod
    def words(*arguments: str) -> list[str]:
        """The command line of a Flyball command."""
        return [sys.executable, "-m", "supervisor.cli.main", *arguments]

    @property
    def workload_environ(self) -> dict[str, str]:
        """The environment of a program that obeys through the SDK; it is none of the daemon's own processes."""
        others = {name: value for name, value in self.environ.items() if name != "FLYBALL_STATE_DIR"}
        return others | {"FLYBALL_URL": self.url, "FLYBALL_HOST": self.host}

    # -- the bus ---------------------------------------------------------------------------------------------------

    def redis(self) -> Any:
        """A synchronous client of its bus, always the same; replies are bytes."""
        if self._client is None:
            self._client = redis.Redis.from_url(self.url, protocol=2, socket_timeout=_ANSWERS_WITHIN_S)
        return self._client

    @property
    def bus_pid(self) -> int:
        """The process of its bus."""
        return int(self.redis().info("server")["process_id"])

    def status(self) -> Status:
        """The status that it last reported on the bus."""
        body = self.redis().get(status_key(self.host))
        assert body is not None, f"there is no status:\n{self.errors}"
        return msgspec.json.decode(body, type=Status)

    def status_when(self, accept: Callable[[Status], object], within_s: float = PATIENCE_S) -> Status:
        """The first reported status that is accepted; it is reported every 2 s."""
        deadline = time.monotonic() + within_s
        client = self.redis()
        while True:
            body = client.get(status_key(self.host))
            status = msgspec.json.decode(body, type=Status) if body else None
            if status is not None and accept(status):
                return status
            assert time.monotonic() < deadline, f"no such status came, but {status}\n{self.errors}"
            time.sleep(0.05)

    def directive(self, target: str) -> Directive:
        """The standing directive, from the hash that retains it."""
        fields = self.redis().hgetall(directive_key(self.host, target))
        texts = {name.decode(): value.decode() for name, value in fields.items()}
        return msgspec.convert(texts, Directive, strict=False)

    def events(self, *types: str, after: str = "-") -> list[Event]:
        """Every event so far, oldest first; of these types, where any are given; `after` an entry's id."""
        return [entry.event for entry in self.entries(events_key(), *types, after=after)]

    def samples(self, after: str = "-") -> list[Sample]:
        """Every sample so far, oldest first."""
        return [entry.event.decode(Sample) for entry in self.entries(samples_key(), after=after)]

    def entries(self, stream: str, *types: str, after: str = "-") -> list[Entry]:
        """The entries of a stream so far."""
        start = after if after == "-" else f"({after}"
        read = (_entry(row) for row in self.redis().xrange(stream, start, "+"))
        return [entry for entry in read if not types or entry.event.type in types]

    def position(self, stream: str = events_key()) -> str:
        """Where a stream ends now, to wait for what comes after it."""
        newest = self.redis().xrevrange(stream, "+", "-", count=1)
        return newest[0][0].decode() if newest else "0-0"

    def event(
        self,
        type: str,
        accept: Callable[[Event], object] = lambda event: True,
        *,
        after: str = "0-0",
        within_s: float = PATIENCE_S,
    ) -> Entry:
        """The first event of this type after that entry that is accepted, waiting for it if need be."""
        return self.entry(events_key(), lambda event: event.type == type and accept(event), after, within_s)

    def sample(
        self, accept: Callable[[Sample], object], *, after: str = "0-0", within_s: float = PATIENCE_S
    ) -> tuple[str, Sample]:
        """The id and text of the first sample after that entry that is accepted, waiting for it if need be."""
        entry = self.entry(samples_key(), lambda event: accept(event.decode(Sample)), after, within_s)
        return entry.id, entry.event.decode(Sample)

    def entry(
        self, stream: str, accept: Callable[[Event], object], after: str = "0-0", within_s: float = PATIENCE_S
    ) -> Entry:
        """The first entry of a stream after that one that is accepted, waiting for it if need be."""
        deadline, client, seen = time.monotonic() + within_s, self.redis(), 0
        while (left_s := deadline - time.monotonic()) > 0:
            reply = client.xread({stream: after}, count=500, block=int(min(left_s, _BLOCK_S) * 1000) or 1)
            for row in reply[0][1] if reply else ():
                entry = _entry(row)
                after, seen = entry.id, seen + 1
                if accept(entry.event):
                    return entry
        lines = "\n".join(event.text for event in self.events()[-40:])
        raise AssertionError(f"no such entry came among {seen} of {stream} in {within_s:g} s:\n{lines}\n{self.errors}")

    # -- inside ----------------------------------------------------------------------------------------------------

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None, "it was never started"
        self._process.send_signal(number)

    def _read_output(self, process: "subprocess.Popen[str]", greeted: threading.Event) -> None:
        assert process.stdout is not None, "it is a pipe"
        with process.stdout as lines:
            for line in lines:
                self.output.append(line.rstrip("\n"))
                if line.startswith("  stop:"):
                    greeted.set()
        greeted.set()

    def _owns(self, pid: int) -> bool:
        """Whether it has our state directory in its environment or as its place: a server overwrites the former."""
        try:
            environ = Path(f"/proc/{pid}/environ").read_bytes()
            place = str(Path(f"/proc/{pid}/cwd").readlink())
            alive = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False
        named = f"FLYBALL_STATE_DIR={self.state}".encode() in environ.split(b"\0")
        return alive and (named or place.startswith(f"{self.state}/"))

    def _clean_up(self) -> None:
        if self._client is not None:
            self._client.close()
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        for pid in self.left():
            with suppress(ProcessLookupError):  # it was on its way out
                os.kill(pid, signal.SIGKILL)
        if self._reader is not None:
            self._reader.join(PATIENCE_S)


@contextmanager
def short_directory() -> Iterator[Path]:
    """A place for a state directory: a socket's path may have only about 100 bytes, so not pytest's tmp_path."""
    with tempfile.TemporaryDirectory(prefix="fb-") as directory:
        yield Path(directory) / "state"


def _entry(row: Any) -> Entry:
    return Entry(row[0].decode(), event_from_entry(row[1]))


def _pids() -> Iterable[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return str(pid)
