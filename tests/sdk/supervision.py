"""The test as supervisor: says directives as the daemon does, and reads what workloads say."""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import redis
from msgspec import Struct

from flyball.wire import (
    INBOX_TYPES,
    Acknowledgement,
    Action,
    Ask,
    Cleanup,
    Directive,
    Join,
    ask_channel,
    directive_key,
    inbox_key,
    throttle_channel,
)
from schemas.envelope import Event, event_from_entry

HOST: Final = "test-box"
#: Nothing here takes so long, unless it never comes.
PATIENCE_S: Final = 20
#: What the shipped file lets a workload do, as words of ACL SETUSER, with the password `secret`.
WORKLOAD_RIGHTS: Final = (
    "on", ">secret", *(Path(__file__).parents[2] / "deploy" / "acl" / "workload.acl").read_text().split()[4:],
)  # fmt: skip


class Supervisor:
    """Speaks for one host on a real bus."""

    def __init__(self, url: str) -> None:
        """Connect to `url`."""
        self.client = redis.Redis.from_url(url, socket_timeout=PATIENCE_S + 5)
        self._seq = 0
        self._read = "0"
        self._seen: list[Event] = []
        self._timers: list[threading.Timer] = []

    def directive(
        self, action: Action, speed: float, target: str = "gpu0", *, seq: int | None = None,
        cleanup: Cleanup = "none", ttl_s: float = 30.0,
    ) -> Directive:  # fmt: skip
        """A new one, with the next `seq`."""
        self._seq = self._seq + 1 if seq is None else seq
        return Directive(
            id=f"directive-{self._seq}", seq=self._seq, time="2026-11-21T08:00:00.000Z", host=HOST, target=target,
            action=action, speed=speed, cleanup=cleanup, reason="the test wants it", cause="test", ttl_s=ttl_s,
        )  # fmt: skip

    def say(self, action: Action, speed: float, target: str = "gpu0", **words: Any) -> Directive:
        """Retain a new directive and publish it."""
        directive = self.directive(action, speed, target, **words)
        self.retain(directive)
        self.publish(directive)
        return directive

    def retain(self, directive: Directive) -> None:
        """Only the hash, its values as text."""
        fields = {name: str(value) for name, value in msgspec.to_builtins(directive).items()}
        self.client.hset(directive_key(HOST, directive.target), mapping=fields)

    def publish(self, directive: Directive) -> None:
        """Only the channel."""
        self.client.publish(throttle_channel(HOST, directive.target), msgspec.json.encode(directive))

    def heard(self, wanted: Callable[[Event, Any], bool]) -> Event:
        """The next entry of the inbox that is `wanted`, from where the last one was found; each must be well-formed."""
        while True:
            while self._seen:
                event = self._seen.pop(0)
                if wanted(event, event.decode(INBOX_TYPES[event.type])):
                    return event
            self._more()

    def until(self, kind: type[Struct], **values: Any) -> Event:
        """The next entry of that kind with these values."""
        return self.heard(
            lambda _, data: isinstance(data, kind) and all(getattr(data, key) == value for key, value in values.items())
        )

    def until_applied(self, speed: float) -> Event:
        """The next acknowledgement of a loop that goes on with `speed`."""
        return self.until(Acknowledgement, stage="applied", speed=speed)

    def until_heard(self, pid: int) -> Event:
        """The next directive that this process has heard."""
        return self.until(Acknowledgement, stage="accepted", pid=pid)

    def start_of(self, pid: int) -> float:
        """When a process began, by its own word: once it has joined."""
        started_s: float = self.until(Join, pid=pid).decode(Join).start_time_s
        return started_s

    def ask(
        self, workload: str, pid: int, start_time_s: float, *, id: str = "c1", within_s: float = 1.0, host: str = HOST
    ) -> None:
        """Ask a process for evidence, once somebody listens."""
        question = Ask(
            id=id, host=host, workload=workload, pid=pid, start_time_s=start_time_s, within_s=within_s
        )  # fmt: skip
        deadline_s = time.monotonic() + PATIENCE_S
        while not self.client.publish(ask_channel(HOST, workload), msgspec.json.encode(question)):
            assert time.monotonic() < deadline_s, f"{workload} does not listen"
            time.sleep(0.01)

    def later(self, action: Callable[[], object], after_s: float = 0.05) -> None:
        """Do something while the test's own thread waits in the SDK; joined by `close`."""
        timer = threading.Timer(after_s, action)
        self._timers.append(timer)
        timer.start()

    def inbox(self) -> list[tuple[Event, Any]]:
        """All that was ever said."""
        rows: Any = self.client.xrange(inbox_key())
        return [(event, event.decode(INBOX_TYPES[event.type])) for event in (event_from_entry(row) for _, row in rows)]

    def close(self) -> None:
        """Hang up."""
        for timer in self._timers:
            timer.join()
        self.client.close()

    def _more(self) -> None:
        found: Any = self.client.xread({inbox_key(): self._read}, block=PATIENCE_S * 1000)
        assert found, (
            f"nothing more was said within {PATIENCE_S} s; it was: {[event.text for event, _ in self.inbox()]}"
        )
        for entry, fields in found[0][1]:
            self._read = entry
            self._seen.append(event_from_entry(fields))


def calls(client: Any, command: str) -> int:
    """How often the server has run a command."""
    return int(client.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"])


class Heard:
    """A callback that collects directives, to be waited for."""

    def __init__(self) -> None:
        self._queue: queue.Queue[Directive] = queue.Queue()

    def __call__(self, directive: Directive) -> None:
        """As `on_change` calls it."""
        self._queue.put(directive)

    def next(self) -> Directive:
        """The next change."""
        return self._queue.get(timeout=PATIENCE_S)

    def nothing(self) -> bool:
        """Nothing more has come."""
        return self._queue.empty()


class Lines(logging.Handler):
    """What was logged, to be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self._queue: queue.Queue[logging.LogRecord] = queue.Queue()
        self.warnings: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Collect it."""
        if record.levelno >= logging.WARNING:
            self.warnings.append(record.getMessage())
        self._queue.put(record)

    def until(self, part: str) -> str:
        """The next line that holds `part`."""
        while part not in (line := self._queue.get(timeout=PATIENCE_S).getMessage()):
            continue
        return line


@contextmanager
def lines_of(logger: str) -> Iterator[Lines]:
    """Listen to a logger."""
    lines, source = Lines(), logging.getLogger(logger)
    before = source.level
    source.setLevel(logging.DEBUG)
    source.addHandler(lines)
    try:
        yield lines
    finally:
        source.removeHandler(lines)
        source.setLevel(before)
