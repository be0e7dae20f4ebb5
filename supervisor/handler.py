"""The door of every handler: what it may import from here, what comes in, and what it may return.

A handler consumes streams and returns `Decisions`; the runtime commits them in one step with the acknowledgement of
the input. It finds handlers by the entry point group `flyball.handlers`; each entry is a subclass of `Handler`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Protocol, TypeVar

import msgspec
from msgspec import Struct

from schemas.command import Command
from schemas.demand import Demand
from schemas.envelope import Event
from schemas.leak import OnLeak
from schemas.sample import Sample
from schemas.workload import Ask, Release, Reservation, Reserve, Started
from supervisor.process import lives, process_start_s
from supervisor.route import Answered, Asked, Example, GpuId, GpuQuery, Nothing, Refusal, Route, find_gpu

__all__ = [
    "Answered",
    "Asked",
    "Context",
    "Decisions",
    "Declared",
    "Draft",
    "Edge",
    "Example",
    "GpuId",
    "GpuQuery",
    "Handler",
    "LedgerEntry",
    "NoSettings",
    "Nothing",
    "Reconcile",
    "Record",
    "Refusal",
    "Route",
    "Stream",
    "Versioned",
    "Withdrawal",
    "find_gpu",
    "lives",
    "process_start_s",
    "read_snapshot",
    "sample_of",
]

Stream = Literal["samples", "events", "inbox", "commands"]


class Draft(Struct, frozen=True):
    """An event to be said; the runtime adds id, source and time. `text` is one plain sentence for people."""

    type: str
    subject: str
    text: str
    data: Struct


class Withdrawal(Struct, frozen=True):
    """An issuer no longer demands anything of a target."""

    issuer: str
    target: str


class Record(Struct, frozen=True):
    """A change of the hash `flyball:<kind>:{shard}:<name>`: sets `fields`, or deletes the hash where that is None."""

    kind: Literal["workload", "capacity", "override"]
    name: str
    fields: dict[str, str] | None
    ttl_s: float | None = None


class Reconcile(Struct, frozen=True):
    """Compare the ledger with what its handler takes it to be: where they differ, an event tells all that stands.

    The ledger is right, unless the server has lost its data: then it gets these.
    """

    reservations: tuple[Reservation, ...]


class LedgerEntry(Struct, frozen=True, kw_only=True):
    """A change of the ledger of reservations, which the server itself allows or denies in the step that commits it.

    `request` is the id under which it was asked for: the same one again gets the same answer. `reason` is why a release
    comes that nobody asked for, such as the end of the owner's process, or why a reservation is denied in any case.
    `of` is the request that made the reservation that is meant, so that a later one of the same name is left alone.
    `entered_ms` is when the request entered its stream, by the server's own time; 0: it is asked now.
    """

    request: str
    change: Reserve | Release | Started | Reconcile
    reason: str = ""
    of: str = ""
    entered_ms: int = 0


class Decisions(Struct, frozen=True):
    """What a handler makes of one input; all of it is committed at once, or nothing."""

    events: Sequence[Draft] = ()
    demands: Sequence[Demand | Withdrawal] = ()
    commands: Sequence[Command] = ()
    records: Sequence[Record] = ()
    ledger: Sequence[LedgerEntry] = ()
    #: Said once, on the channel of the workload; nobody need hear it.
    asks: Sequence[Ask] = ()


class Edge(Struct, frozen=True):
    """A threshold near which the sampler looks more often: `figure` within `margin` below `value`, and approaching.

    The figures are temperature_celsius, memory_used_percent (a GPU's) and host_memory_used_percent.
    """

    figure: Literal["temperature_celsius", "memory_used_percent", "host_memory_used_percent"]
    value: float
    margin: float = 5.0


class Declared(Struct, frozen=True, kw_only=True):
    """A workload as the configuration declares it, as far as handlers need it."""

    name: str
    targets: tuple[str, ...] = ()
    priority: int = 5
    may: tuple[str, ...] = ()
    #: argument list that starts it anew
    restart: tuple[str, ...] = ()
    on_leak: OnLeak = "report"


class NoSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The settings of a handler that has none."""


class Context(Struct, frozen=True, kw_only=True):
    """What surrounds an input: who we are, and what time it was when the input was taken.

    `wall_s` is Unix time, `monotonic_s` CLOCK_MONOTONIC. `replaying` is true while the past is re-read after a start:
    the results are then thrown away, and effects must not act. `stream` names the stream, `entry` the id in it.
    """

    host: str
    boot_id: str
    stream: Stream
    entry: str
    wall_s: float
    monotonic_s: float
    replaying: bool = False
    dry_run: bool = False
    #: False where anybody may write to the bus: a command is then no ground for a harmful act.
    trusted: bool = True


class Versioned(Protocol):
    """A handler's state, a Struct; `version` changes when an older one would be misread."""

    version: int


V = TypeVar("V", bound=Versioned)


def read_snapshot(snapshot: bytes, kind: type[V], version: int) -> V:
    """The state in a snapshot that was made by `msgspec.msgpack.encode`.

    :raises ValueError: it is damaged, or of another version.
    """
    try:
        state = msgspec.msgpack.decode(snapshot, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"not a {kind.__name__}: {error}") from error
    if state.version != version:
        raise ValueError(f"the snapshot has version {state.version}, not {version}")
    return state


class Handler(ABC):
    """An independent consumer of one or more streams.

    One coroutine runs a handler, one input at a time and in the order of each stream, so it needs no locks. An
    exception means that this input failed: it is tried again with back-off, and after 5 failures it goes to the
    dead-letter stream. `schemas.envelope.MalformedEntry` sends it there at once.
    """

    #: Unique name: consumer group, issuer of demands, section of the configuration.
    name: ClassVar[str]
    streams: ClassVar[tuple[Stream, ...]]
    #: Types that it wants; anything else on its streams is acknowledged unseen. Empty means all.
    types: ClassVar[frozenset[str]] = frozenset()
    #: The schema of its section `[<name>]` in the configuration. It may have a method `problems() -> list[str]`
    #: that checks across fields; each string starts with the key it is about.
    settings: ClassVar[type[Struct]] = NoSettings
    #: Seconds between snapshots; a larger state is stored less often, and what came since is read again. Samples stay
    #: in their stream for ten minutes.
    snapshot_every_s: ClassVar[float] = 10.0

    @abstractmethod
    def __init__(self, settings: Any, declared: Sequence[Declared]) -> None:
        """Start from nothing, with settings of type `settings` and the declared workloads."""

    @abstractmethod
    async def handle(self, event: Event, context: Context) -> Decisions | None:
        """Decide on one input; None means that nothing follows from it."""

    def snapshot(self) -> bytes:
        """State that must survive a restart; the runtime stores it with the position of each stream."""
        return b""

    def restore(self, snapshot: bytes) -> None:
        """Take up the state of an earlier `snapshot()`.

        :raises ValueError: it cannot be used; the handler then starts from nothing.
        """
        if snapshot:
            raise ValueError(f"{self.name} keeps no state, but has a snapshot of {len(snapshot)} bytes")

    def missed(self, stream: Stream, context: Context) -> Decisions | None:
        """Entries of `stream` were trimmed away unseen: void what depends on them."""
        return None

    def tick(self, context: Context) -> Decisions | None:
        """Called about once a second without an input, for what must end by itself even when nothing arrives."""
        return None

    def demands(self) -> Sequence[Demand]:
        """Everything that it demands now; said again after a start and whenever the bus was away."""
        return ()

    def restated(self, context: Context) -> Decisions | None:
        """Called when the bus is there, after a start and each time it was away, once nothing is left to be read."""
        return None

    def edges(self) -> Sequence[Edge]:
        """Thresholds near which the sampler should look more often."""
        return ()

    def reconfigure(self, settings: Any) -> bool:
        """Take up other settings of type `settings`, already checked, without losing state.

        Returns whether they hold from now on; False means that they do at the next start.
        """
        return False

    def routes(self) -> Sequence[Route]:
        """Resources of the HTTP API that it brings; asked for once."""
        return ()

    def view(self) -> dict[str, Any]:
        """What `flyball status` shows of it: plain JSON values, cheap to make.

        Known keys are `targets` (target → {state, reason}), `workloads`, `overrides`, `memory`, `problems` (what is
        wrong right now, one sentence each), and `registered`: the processes to look at, pid → (start_time_s, name),
        where a name that begins with `@` is no workload's.
        `supervisor/runtime/status.py` joins those of all handlers.
        """
        return {}


_decoded: tuple[bytes, Sample] | None = None


def sample_of(event: Event) -> Sample:
    """The sample in an event of the stream `samples`; every handler reads the same one, so the last one is kept.

    :raises MalformedEntry: when it is not one.
    """
    global _decoded  # noqa: PLW0603 - a cache of one immutable value
    if _decoded is None or _decoded[0] != event.data:
        _decoded = (event.data, event.decode(Sample))
    return _decoded[1]
