"""What a workload has to say, kept until the bus has taken it."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Literal

from msgspec import Struct

from flyball.entry import Message, command, message
from flyball.identity import Identity
from flyball.wire import (
    LARGEST_AMOUNT,
    MOST_WATCHED,
    Acknowledgement,
    CleanupResult,
    Counters,
    Directive,
    InnerEvidence,
    Join,
    Leave,
)

log = logging.getLogger("flyball")

#: What is kept while the bus is away; the oldest goes first.
KEPT: Final = 1000


class _Waiting:
    """A message that waits; it is put into words when it is first sent, so that callbacks need not wait for that."""

    def __init__(self, word: Callable[[], tuple[str, Struct]]) -> None:
        self._word = word
        self._at_s = time.time()
        self._message: Message | None = None

    def message(self) -> Message:
        """Always the same one."""
        if self._message is None:
            text, data = self._word()
            self._message = message(text, data, self._at_s)
        return self._message


class Outbox:
    """Messages of one workload in the order in which they were said; safe from every thread."""

    _me: Identity

    def __init__(self, version: str) -> None:
        """`version` of the SDK; before anything but `count` it must be told who speaks."""
        self._version = version
        self.reset()

    def introduce(self, me: Identity) -> None:
        """Say who speaks."""
        self._me = me

    def reset(self) -> None:
        """Empty it, with a lock that nobody holds (also in a forked child)."""
        self._messages: deque[_Waiting] = deque(maxlen=KEPT)
        self._lock = threading.Lock()
        self._counts: dict[str, float] = {}
        self._gauges: dict[str, float] = {}
        self._counted = False
        #: kinds of which a name was left out, which is said once
        self._left_out: set[str] = set()

    def join(self) -> None:
        """Introduce the workload; goes before everything else that waits, and tells its counts again."""
        me = self._me
        data = Join(
            workload=me.name, pid=me.pid, start_time_s=me.start_time_s, targets=me.targets,
            priority=me.priority, on_silence=me.on_silence, sdk_version=self._version,
        )  # fmt: skip
        text = f"{me.name} joined as pid {me.pid} and listens for {', '.join(me.targets)}"
        self._messages.appendleft(_Waiting(lambda: (text, data)))
        self._counted = bool(self._counts or self._gauges)

    def leave(self, reason: str) -> None:
        """Say the last counts, and goodbye."""
        self.post_counts()
        me = self._me
        data = Leave(workload=me.name, pid=me.pid, start_time_s=me.start_time_s, reason=reason)
        self._messages.append(_Waiting(lambda: (f"{me.name} (pid {me.pid}) left: {reason}", data)))

    def accepted(self, directive: Directive) -> None:
        """The directive was heard."""
        self._messages.append(
            _Waiting(
                lambda: self._acknowledgement(directive, "accepted", directive.speed, f"heard {_named(directive)}")
            )
        )

    def applied(self, directive: Directive, speed: float) -> None:
        """The loop has reached the directive, and goes on with `speed`: the slowest of all that stand."""
        self._messages.append(
            _Waiting(
                lambda: self._acknowledgement(
                    directive, "applied", speed, f"applied {_named(directive)}, and runs at speed {speed:g}"
                )
            )
        )

    def _acknowledgement(
        self, directive: Directive, stage: Literal["accepted", "applied"], speed: float, text: str
    ) -> tuple[str, Acknowledgement]:
        data = Acknowledgement(
            workload=self._me.name, pid=self._me.pid, directive=directive.id, seq=directive.seq,
            target=directive.target, stage=stage, speed=speed,
        )  # fmt: skip
        return f"{self._me.name} {text}", data

    def cleaned(self, directive: Directive, freed_bytes: int, *, ok: bool, error: str = "") -> None:
        """The workload's own cleanup was called."""
        text = _utf8(error) or f"{self._me.name} freed {freed_bytes} bytes ({directive.cleanup} cleanup)"
        data = CleanupResult(
            workload=self._me.name, pid=self._me.pid, directive=directive.id, cleanup=directive.cleanup,
            freed_bytes=freed_bytes, ok=ok, text=text,
        )  # fmt: skip
        self._messages.append(_Waiting(lambda: (text, data)))

    def count(self, counter: str, amount: float) -> None:
        """Add to a counter, which holds no more than the wire does: `LARGEST_AMOUNT` up or down.

        :raises ValueError: not a number.
        """
        if amount != amount:  # only NaN is not itself; math.isnan takes no large integer
            raise ValueError(f"the counter {counter!r} cannot count NaN")
        counter = _utf8(counter)
        with self._lock:
            room = counter in self._counts or len(self._counts) < MOST_WATCHED
            if room:
                total = self._counts.get(counter, 0) + max(-LARGEST_AMOUNT, min(amount, LARGEST_AMOUNT))
                self._counts[counter] = float(max(-LARGEST_AMOUNT, min(total, LARGEST_AMOUNT)))
                self._counted = True
        if not room:
            self._leave_out("counter", counter)

    def gauge(self, name: str, value: float) -> None:
        """Set a level, within `LARGEST_AMOUNT` up or down; the last value counts.

        :raises ValueError: not a number.
        """
        if value != value:
            raise ValueError(f"the gauge {name!r} cannot be NaN")
        name, value = _utf8(name), float(max(-LARGEST_AMOUNT, min(value, LARGEST_AMOUNT)))
        with self._lock:
            room = name in self._gauges or len(self._gauges) < MOST_WATCHED
            if room:
                self._counted |= self._gauges.get(name) != value
                self._gauges[name] = value
        if not room:
            self._leave_out("gauge", name)

    def post_counts(self) -> None:
        """Say the counters and gauges, if they have changed since they were last said."""
        with self._lock:
            if not self._counted:
                return
            self._counted = False
            counts, gauges = dict(self._counts), dict(self._gauges)
        me = self._me
        data = Counters(workload=me.name, pid=me.pid, start_time_s=me.start_time_s, counts=counts, gauges=gauges)
        said = ["counted " + _listed(counts)] if counts else []
        said += ["measures " + _listed(gauges)] if gauges else []
        text = f"{me.name} {' and '.join(said)}"
        self._messages.append(_Waiting(lambda: (text, data)))

    def _leave_out(self, kind: str, name: str) -> None:
        """Said without the lock, which a handler of the log may want."""
        if kind not in self._left_out:
            self._left_out.add(kind)
            log.warning(
                "the %s %.60r is left out, and so is every further one: a workload has at most %d; "
                "name kinds of calls, not each call",
                kind, name, MOST_WATCHED,
            )  # fmt: skip

    def found(self, evidence: InnerEvidence) -> None:
        """The workload has looked into its process."""
        lines, types = evidence.allocations, evidence.objects
        if lines or types:
            most = [f"{one.size_bytes} bytes at {one.where}" for one in lines[:1]]
            most += [f"{one.more} {one.type}" for one in types[:1]]
            what = f"kept {' and '.join(most)} in {evidence.took_s:.1f} s"
        else:
            what = "; ".join(evidence.missing) or f"kept nothing in {evidence.took_s:.1f} s"
        text = f"{self._me.name} (pid {self._me.pid}) looked into itself: {what}"
        self._messages.append(_Waiting(lambda: (text, evidence)))

    def __len__(self) -> int:
        """How many messages wait."""
        return len(self._messages)

    def commands(self, most: int) -> list[Sequence[str | bytes]]:
        """The XADDs of the oldest messages; they stay until `sent`."""
        return [self._command(waiting.message()) for waiting in list(self._messages)[:most]]

    def sent(self, count: int) -> None:
        """The bus has answered about the `count` oldest."""
        for _ in range(count):
            self._messages.popleft()

    def _command(self, message: Message) -> Sequence[str | bytes]:
        """The XADD of one message."""
        me, subject = self._me, f"workload.{self._me.name}"
        return command(message, host=me.host, speaker=subject, subject=subject, shard=me.shard)


def _named(directive: Directive) -> str:
    """A directive in a few words."""
    return f"{directive.action} at {directive.speed:g} for {directive.target} (seq {directive.seq})"


def _listed(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in values.items())


def _utf8(text: str) -> str:
    """What the program says, as UTF-8 can: a file's name in an error may hold other bytes."""
    return text.encode(errors="backslashreplace").decode()
