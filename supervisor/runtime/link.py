"""The link to the bus: whether it is there, under which lease, and what is sent when it comes back.

While it is away, samples and commits wait in the disk spool; on return they go out in order, each once, and only then
is the link up again.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from itertools import chain, islice
from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec

from schemas.envelope import Event
from supervisor.bus import lease
from supervisor.bus.commit import Commit, call_arguments, from_bytes, to_bytes
from supervisor.bus.connection import Command, Connection
from supervisor.bus.keys import events_key, lease_key, samples_key
from supervisor.bus.memory import keep_memory
from supervisor.bus.spool import Spool, Waiting
from supervisor.clock import Clock, unix_time
from supervisor.config import BusSection
from supervisor.errors import BusError, BusFull, Fenced, FlyballError, SpoolError
from supervisor.identity import Identity, is_alive

_log = logging.getLogger(__name__)
_pack = msgspec.msgpack.Encoder().encode

#: Waits between attempts; an embedded server is back within a fraction of a second.
_BACK_OFF_S: Final = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
#: After so long without trouble the waits begin anew.
_HEALTHY_AFTER_S: Final = 10.0
#: What was answered this short a time before a loss is sent again: a killed server may have lost its last writes.
RESEND_S: Final = 3.0
#: What is kept in memory where not even the disk takes it.
_IN_MEMORY_MOST: Final = 10_000
#: Requests in flight while the spool is sent.
_WINDOW: Final = 64
#: The server knows for an hour what it has committed already; a bit less, for its clock is not ours.
TOKENS_KNOWN_S: Final = 3_300.0


#: (token of the commit, target, issuer)
Superseded: TypeAlias = set[tuple[str, str, str]]


class Outage(msgspec.Struct, frozen=True):
    """What an outage was: how long, and what was sent after it."""

    away_s: float
    commits: int
    samples: int
    dropped: int


class Link:
    """The one who knows whether the bus is there. `run` is a task of the caller's."""

    def __init__(
        self,
        *,
        connection: Connection,
        spool: Spool,
        bus: BusSection,
        identity: Identity,
        state: Path,
        clock: Clock,
        duties: Callable[[Connection], Coroutine[None, None, None]],
    ) -> None:
        """`duties` does the periodic work on the bus while it is there, and ends only by an error."""
        self.up = False
        self.epoch = _read_epoch(state)
        self.trouble = "not connected yet"
        self.away_since_s: float | None = clock.monotonic()
        self.spool = spool
        self.shard = bus.shard
        self.host = identity.host
        #: Called at once when the bus is lost, in the order of registration.
        self.when_lost: list[Callable[[], None]] = []
        #: Called when it is there again and everything that waited has been sent.
        self.when_restored: list[Callable[[Outage], None]] = []
        self._connection = connection
        self._bus = bus
        self._identity = identity
        self._epoch_file = state / "epoch"
        self._clock = clock
        self._duties = duties
        self._lost = asyncio.Event()
        self._in_memory: deque[Waiting] = deque(maxlen=_IN_MEMORY_MOST)
        #: What was answered just before the loss: when, for how long the server knows it, and what.
        self._answered: list[tuple[float, float, Commit]] = []

    async def run(self) -> None:
        """Keep the link until cancelled.

        :raises HostTaken: another supervisor holds the lease. :raises Fenced: it took it while we were silent.
        """
        attempt = 0
        while True:
            try:
                if not self.up:
                    await self.connect()
                since_s = self._clock.monotonic()
                try:
                    await self._keep()
                finally:
                    if self._clock.monotonic() - since_s > _HEALTHY_AFTER_S:
                        attempt = 0
            except Fenced:
                raise
            except (BusError, SpoolError) as error:
                self.lost(error)
                await self._connection.close()
                await asyncio.sleep(_BACK_OFF_S[min(attempt, len(_BACK_OFF_S) - 1)])
                attempt += 1

    async def connect(self) -> None:
        """Take the lease and send what waits.

        :raises BusLost: nothing answers. :raises BusRefused: it does not want us. :raises BusFull: it has no room.
        :raises HostTaken: see `run`. :raises SpoolError: what waits cannot be read or forgotten.
        """
        await self._connection.open()
        self.epoch = await lease.acquire(
            self._connection,
            self.host,
            msgspec.to_builtins(self._identity),
            shard=self.shard,
            known_epoch=self.epoch,
            is_dead=self._is_dead,
        )
        self._remember_epoch()
        await keep_memory(self._connection, self.shard)
        sent = await self._send_what_waits()
        away_s = self._clock.monotonic() - (self.away_since_s or self._clock.monotonic())
        outage = Outage(away_s, sent["commit"], sent["sample"], self.spool.counts().dropped_samples)
        self.spool.forget_dropped()
        self._lost.clear()
        self.up, self.away_since_s = True, None
        _log.info("the bus is there (lease epoch %d, %.1f s away)", self.epoch, away_s)
        self.trouble = ""
        for tell in self.when_restored:
            tell(outage)

    async def release(self, connection: Connection) -> None:
        """Give the lease up, at a clean stop."""
        await lease.release(connection, self.host, self.epoch, shard=self.shard)

    def lost(self, error: FlyballError) -> None:
        """The bus is away: from now on everything waits in the spool. May be called by whoever notices first."""
        self.trouble = str(error)
        if not self.up:
            return
        self.up, self.away_since_s = False, self._clock.monotonic()
        _log.warning("%s; going on without it", error)
        self._lost.set()
        for tell in self.when_lost:
            tell()

    def hold(self, commit: Commit, *, handled: tuple[str, str] | None = None) -> None:
        """Let a commit wait until the bus is back; where the disk fails, in memory.

        `handled` is the handler and the id of the input that it has thereby decided on, marked in the same step.
        """
        try:
            with self.spool.together():
                if handled:
                    self.spool.handled(*handled)
                self.spool.add_commit(commit.token, to_bytes(commit))
        except SpoolError as error:
            self._hold_in_memory("commit", to_bytes(commit), error)

    def hold_sample(self, sample: Event) -> None:
        """Let a sample wait until the bus is back."""
        try:
            self.spool.add_sample(sample.id, _pack(sample))
        except SpoolError as error:
            self._hold_in_memory("sample", _pack(sample), error)

    def send_again(self, commit: Commit, answered_s: float, *, known_s: float = TOKENS_KNOWN_S) -> None:
        """A commit that was answered just before the bus was lost: a killed server may have forgotten it.

        All of them are sent again in the order of `answered_s` (monotonic), as long as its token tells the server that
        it knows it already: for `known_s`. What is older must not be done twice, and stays forgotten.
        """
        self._answered.append((answered_s, known_s, commit))

    def _hold_in_memory(self, kind: Literal["commit", "sample"], payload: bytes, error: SpoolError) -> None:
        if not self._in_memory:
            _log.error("%s; what follows waits in memory, the newest %d entries of it", error, self._in_memory.maxlen)
        self._in_memory.append(Waiting(0, kind, payload))

    def commit_command(self, connection: Connection, commit: Commit) -> Command:
        """The command that carries out a commit under our lease."""
        keys, payload = call_arguments(
            commit,
            lease=lease_key(self.host, self.shard),
            events=events_key(self.shard),
            epoch=self.epoch,
            shard=self.shard,
            events_kept=self._bus.events_kept,
        )
        return connection.function("commit", keys, payload)

    def publish_command(self, connection: Connection, sample: Event) -> Command:
        """The command that adds a sample to its stream under our lease, unless it is there already."""
        _, boot, tick = sample.id.rsplit("/", 2)
        keys = [lease_key(self.host, self.shard), samples_key(self.shard)]
        kept_ms = int(self._bus.samples_kept_s * 1000)
        return connection.function("publish", keys, self.epoch, boot, tick, kept_ms, *sample.fields())

    async def _keep(self) -> None:
        """Do the duties until they fail, or somebody else notices that the bus is away."""
        duties = asyncio.create_task(self._duties(self._connection), name="duties")
        lost = asyncio.create_task(self._lost.wait(), name="link lost")
        try:
            await asyncio.wait({duties, lost}, return_when=asyncio.FIRST_COMPLETED)
            if duties.done():
                duties.result()
        finally:
            for task in (duties, lost):
                task.cancel()
            await asyncio.gather(duties, lost, return_exceptions=True)
            if not self.up:
                await self._connection.close()

    async def _send_what_waits(self) -> dict[str, int]:
        """Send the spool in order; entries that are added meanwhile go too."""
        sent = {"sample": 0, "commit": 0}
        now_s = self._clock.monotonic()
        by_time = sorted(self._answered, key=lambda one: one[0])
        answered = [commit for answered_s, known_s, commit in by_time if now_s - answered_s < known_s]
        superseded = _superseded_demands(chain(answered, _commits(self.spool.pending())))
        for start in range(0, len(answered), _WINDOW):
            await self._carry_out([self._still(one, superseded) for one in answered[start : start + _WINDOW]])
        self._answered.clear()
        while window := list(islice(self.spool.pending(_WINDOW), _WINDOW)):
            await self._deliver(window, superseded, sent)
            self.spool.done(window[-1].position)
        while self._in_memory:
            await self._deliver([self._in_memory[0]], superseded, sent)
            self._in_memory.popleft()
        return sent

    async def _deliver(self, window: list[Waiting], superseded: Superseded, sent: dict[str, int]) -> None:
        """Send some of what waits, in its order."""
        ready: list[Commit | Event] = []
        for waiting in window:
            try:
                ready.append(
                    msgspec.msgpack.decode(waiting.payload, type=Event)
                    if waiting.kind == "sample"
                    else self._still(from_bytes(waiting.payload), superseded)
                )
            except msgspec.DecodeError as error:
                _log.error("a %s in the spool is of another version, and is dropped: %s", waiting.kind, error)
            else:
                sent[waiting.kind] += 1
        await self._carry_out(ready)

    def _still(self, commit: Commit, superseded: Superseded) -> Commit:
        """What is left to be said of a commit that had to wait: no older demand, and of a hash's life the rest."""
        age_ms = int((self._clock.wall() - unix_time(commit.time)) * 1000)
        demands = [one for one in commit.demands if (commit.token, one.target, one.issuer) not in superseded]
        hashes = [
            msgspec.structs.replace(one, ttl_ms=one.ttl_ms - max(0, age_ms)) if one.ttl_ms else one
            for one in commit.hashes
            if not one.ttl_ms or one.ttl_ms > age_ms
        ]
        return msgspec.structs.replace(commit, demands=demands, hashes=hashes)

    async def _carry_out(self, ready: list[Commit | Event]) -> None:
        """Publish and commit in one write; what the server refuses by itself it always would: it is dropped."""
        await self._connection.send(
            *(
                self.publish_command(self._connection, one)
                if isinstance(one, Event)
                else self.commit_command(self._connection, one)
                for one in ready
            )
        )
        for one, reply in zip(ready, await self._connection.replies(len(ready)), strict=True):
            if isinstance(reply, Fenced | BusFull):
                raise reply
            if isinstance(reply, BusError):
                _log.error("%s, and is dropped: %s", reply, one)

    def _remember_epoch(self) -> None:
        try:
            self._epoch_file.write_text(f"{self.epoch}\n")
        except OSError as error:
            _log.warning("cannot write %s: %s", self._epoch_file, error.strerror)

    def _is_dead(self, holder: dict[str, object]) -> bool:
        try:
            other = msgspec.convert(holder, Identity)
        except msgspec.ValidationError:
            return False
        return is_alive(other, self._identity) is False


def _commits(waiting: Iterable[Waiting]) -> Iterable[Commit]:
    """The commits in the spool; what cannot be read is said when it is its turn."""
    for one in waiting:
        if one.kind == "commit":
            try:
                yield from_bytes(one.payload)
            except msgspec.DecodeError:
                continue


def _superseded_demands(commits: Iterable[Commit]) -> Superseded:
    """The demands that a later commit replaces: of directives only the newest is said."""
    newest: dict[tuple[str, str], str] = {}
    superseded: Superseded = set()
    for commit in commits:
        for change in commit.demands:
            key = change.target, change.issuer
            before = newest.get(key, commit.token)
            if before != commit.token:
                superseded.add((before, *key))
            newest[key] = commit.token
    return superseded


def _read_epoch(state: Path) -> int:
    """The highest epoch that this host is known to have had, so that a server that lost its data cannot go back."""
    try:
        return int((state / "epoch").read_text())
    except (OSError, ValueError):
        return 0
