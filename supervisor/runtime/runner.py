"""Runs one handler: reads its streams, lets it decide, commits, retries, and goes on in process while the bus is away.

One coroutine and one connection a handler. What it decided on a batch travels together with the acknowledgements and
the next read, in one write.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Self

import msgspec

from schemas.envelope import Event, MalformedEntry, event_from_entry
from schemas.status import HandlerStatus
from supervisor.bus.commit import Acknowledge, Commit, as_answered
from supervisor.bus.connection import Connection
from supervisor.bus.consume import BATCH, Consumer, Delivery, Gap, trimmed
from supervisor.clock import Clock
from supervisor.errors import BusError, BusFull, BusLost, Fenced
from supervisor.handler import Context, Decisions, Handler, Stream, Withdrawal
from supervisor.runtime import remarks
from supervisor.runtime.link import RESEND_S, Link
from supervisor.runtime.results import Origin, dead_letter, to_commit
from supervisor.runtime.seen import Seen
from supervisor.runtime.snapshots import Snapshots

_log = logging.getLogger(__name__)

ATTEMPTS: Final = 5
#: Waits between the attempts on one input.
RETRY_AFTER_S: Final = (0.01, 0.05, 0.2, 0.5)
#: How long a read waits when nothing comes; also how often `Handler.tick` is called.
TICK_S: Final = 1.0
GAP_CHECK_S: Final = 10.0
#: A read ends after a second, so a handler without a turn for this long hangs in something.
STUCK_AFTER_S: Final = 5.0
RESEND_MOST: Final = 2_000
#: What a server says of a group, or of the stream under a read that waits, that went with its data.
_DATA_LOST: Final = ("NOGROUP", "UNBLOCKED")
_LONGEST_ERROR: Final = 500


class _Failure(NamedTuple):
    """Why an input cannot be handled, after how many attempts."""

    error: str
    attempts: int

    @classmethod
    def of(cls, text: str, attempts: int) -> Self:
        """With a text that any JSON can hold: a program on the bus may have had a hand in it."""
        return cls(text[:_LONGEST_ERROR].encode(errors="backslashreplace").decode(), attempts)


class Runner:
    """The owner of one handler. `run` is a task of the caller's and ends after `stop`."""

    def __init__(
        self, handler: Handler, *, link: Link, connection: Connection, origin: Origin, keys: dict[Stream, str],
        boot_id: str, clock: Clock, dry_run: bool = False, trusted: bool = True,
        say_locally: Callable[[Stream, Event], None] = lambda stream, event: None,
        committed: Callable[[object], None] = lambda reply: None,
    ) -> None:  # fmt: skip
        """`keys` maps the handler's streams to keys on the bus; `committed` is called with the answer to each commit.

        `say_locally` is called with each event of a commit that has to wait, so that other handlers see it meanwhile.
        """
        self.handler = handler
        self.restarts = 0
        #: Every target that the handler has demanded something of.
        self.targets: set[str] = set()
        self._origin = origin
        self._link = link
        self._consumer = Consumer(connection, f"{handler.name}.{origin.host}", keys)
        self._snapshots = Snapshots(handler, origin, clock)
        self._boot_id = boot_id
        self._clock = clock
        self._dry_run = dry_run
        self._trusted = trusted
        self._say_locally = say_locally
        self._committed = committed
        self._stopping = False
        self._local: asyncio.Queue[tuple[Stream, Event] | None] = asyncio.Queue()
        #: What waits to be sent with the next turn.
        self._commits: list[Commit] = []
        self._done: dict[Stream, list[str]] = {}
        #: Sent and not answered yet.
        self._unanswered: list[Commit] = []
        #: Answered lately, and when.
        self._recent: deque[tuple[float, Commit, Any]] = deque(maxlen=RESEND_MOST)
        self._seen = Seen(link.spool, handler.name, origin.host, boot_id)
        #: Whether our demands have been said since the bus is there, which waits until nothing is left to be read.
        self._restated = False
        self._decided_in_process = False
        #: Whether the state is older than what was decided in process: that is then shown to the handler again.
        self._behind = False
        self._next_tick_s = 0.0
        self._next_gap_check_s = 0.0
        self._handled = self._results = self._failed = 0
        self._last_error = ""
        self._last_turn_s = clock.monotonic()
        self._has_failed = False
        link.when_lost.append(self._on_lost)
        link.when_restored.append(lambda _: self._local.put_nowait(None))

    def stop(self) -> None:
        """End after the batch in hand."""
        self._stopping = True
        self._local.put_nowait(None)

    def offer(self, stream: Stream, event: Event) -> None:
        """An entry in process, while the bus is away; ignored where the handler does not read that stream."""
        if stream in self.handler.streams:
            self._local.put_nowait((stream, event))

    def status(self) -> HandlerStatus:
        """How it is doing."""
        silent_s = self._clock.monotonic() - self._last_turn_s
        if self._stopping:
            state = "stopped"
        elif self._has_failed:
            state = "restarting"
        elif silent_s > STUCK_AFTER_S:
            state = f"stuck for {silent_s:.0f} s"
        else:
            state = "running" if self._link.up else "running in process"
        return HandlerStatus(
            name=self.handler.name, state=state, lag=self._consumer.lag, handled=self._handled, results=self._results,
            failed=self._failed, restarts=self.restarts, last_error=self._last_error,
        )  # fmt: skip

    def failed_with(self, error: Exception) -> None:
        """Remember why the task has to be started again."""
        self.restarts += 1
        self._has_failed = True
        self._last_error = f"{type(error).__name__}: {error}"

    async def run(self) -> None:
        """Consume until `stop`.

        :raises Fenced: another supervisor took the lease.
        """
        self._last_turn_s, self._has_failed = self._clock.monotonic(), False
        while not self._stopping:
            if not self._link.up:
                await self._consume_in_process()
                continue
            try:
                await self._consume_bus()
            except (BusLost, BusFull) as error:
                self._link.lost(error)
            except BusError as error:
                if isinstance(error, Fenced) or not any(word in str(error) for word in _DATA_LOST):
                    raise
                _log.warning("%s: its group is gone with the server's data; starting a new one", self.handler.name)

    async def close(self) -> None:
        """Store the state a last time and hang up."""
        if self._link.up and (snapshot := self._snapshots.due(now=True)):
            try:
                await self._send_now([], snapshot)
            except BusError as error:
                _log.warning("%s: its last snapshot is not stored: %s", self.handler.name, error)
        await self._consumer.connection.close()

    # -- over the bus ----------------------------------------------------------------------------------------------

    async def _consume_bus(self) -> None:
        gaps = await self._consumer.open()
        self._next_gap_check_s = self._clock.monotonic() + GAP_CHECK_S
        if await self._snapshots.restore(self._consumer, self._replay):
            self._behind = self._decided_in_process
        self._snapshots.store_again()
        self._commits += [self._on_gap(gap) for gap in gaps]
        self._restated = False
        doomed = {key for key, times in (await self._consumer.deliveries()).items() if times >= ATTEMPTS}
        while self._link.up and not self._stopping:
            self._do_what_is_due()
            reads_pending = self._consumer.reads_pending
            deliveries = await self._turn()
            self._commits += [self._on_gap(gap) for gap in self._trimmed(deliveries)]
            for delivery in deliveries:
                poison = (delivery.stream, delivery.entry) in doomed
                if commit := await self._take(delivery, poison=poison):
                    self._hold(commit)
                else:
                    self._done.setdefault(delivery.stream, []).append(delivery.entry)
            if not self._restated and not reads_pending and len(deliveries) < BATCH:
                self._restated, self._behind = True, False
                await self._restate()
            self._commits += [self._on_gap(gap) for gap in await self._gaps()]
        if self._link.up:
            await self._send_now(self._take_commits())
            self._done = {}

    def _trimmed(self, deliveries: Sequence[Delivery]) -> list[Gap]:
        """What was trimmed away between its delivery and now."""
        gone: dict[Stream, list[str]] = {}
        for stream, entry, fields in deliveries:
            if fields is None:
                gone.setdefault(stream, []).append(entry)
        return [gap for stream, entries in gone.items() for gap in trimmed(stream, entries)]

    async def _turn(self) -> list[Delivery]:
        """Send the results of the last batch and read the next one, in one write."""
        block_s = min(TICK_S if self._restated else 0, max(0.001, self._next_tick_s - self._clock.monotonic()))
        connection = self._consumer.connection
        snapshot = None if self._consumer.reads_pending else self._snapshots.due()
        commits = self._take_commits()
        done, self._done = self._done, {}
        count = await self._consumer.send(
            [self._link.commit_command(connection, commit) for commit in commits], done, block_s,
            [self._link.commit_command(connection, snapshot)] if snapshot else [],
        )  # fmt: skip
        await self._settle(commits, count)
        return await self._consumer.receive(block_s)

    async def _send_now(self, commits: Sequence[Commit], snapshot: Commit | None = None) -> None:
        """Send without reading more, at the end."""
        connection = self._consumer.connection
        commands = [self._link.commit_command(connection, commit) for commit in commits]
        commands += self._consumer.acknowledgements(self._done)
        if snapshot:
            commands.append(self._link.commit_command(connection, snapshot))
        if commands:
            await connection.send(*commands)
            await self._settle(commits, len(commands))

    async def _settle(self, commits: Sequence[Commit], count: int) -> None:
        """Take the answers: the first are those to `commits`. What the server refuses by itself goes no further.

        :raises BusError: what concerns all of them; the connection is closed then, since answers may be left in it.
        """
        try:
            replies = await self._consumer.connection.replies(count)
            for reply in replies:
                if isinstance(reply, Fenced | BusFull):
                    raise reply
            self._unanswered = []
            now = self._clock.monotonic()
            for commit, reply in zip(commits, replies[: len(commits)], strict=True):
                if isinstance(reply, BusError):
                    self._on_refusal(commit, reply)
                else:
                    self._recent.append((now, commit, reply))
                    self._committed(reply)
        except BaseException:
            await self._consumer.connection.close()
            raise

    def _take_commits(self) -> list[Commit]:
        """What waits to be sent; it is kept until it is answered, and a while longer."""
        oldest_s = self._clock.monotonic() - RESEND_S
        while self._recent and self._recent[0][0] < oldest_s:
            self._recent.popleft()
        self._unanswered, self._commits = self._commits, []
        return self._unanswered

    def _on_refusal(self, commit: Commit, error: BusError) -> None:
        """The server refuses this commit alone, and would again: its input is done with, and an event says so."""
        self._failed += 1
        self._last_error = str(error)
        _log.error("%s: what follows from %s is lost: %s", self.handler.name, commit.input, error)
        input_id = f"refused/{commit.input}"
        if commit.input.startswith("refused/"):
            return
        said, _ = to_commit(
            self._origin, input_id, Decisions([remarks.refused(self.handler.name, commit, error)]),
            wall_s=self._clock.wall(),
        )  # fmt: skip
        self._commits.append(msgspec.structs.replace(said, acknowledges=commit.acknowledges))

    def _do_what_is_due(self) -> None:
        """The handler's own tick."""
        now = self._last_turn_s = self._clock.monotonic()
        if now >= self._next_tick_s:
            self._next_tick_s = now + TICK_S
            if commit := self._tick():
                self._commits.append(commit)
                self._snapshots.store_now()  # what no input led to cannot be read again

    async def _gaps(self) -> list[Gap]:
        now = self._clock.monotonic()
        if now < self._next_gap_check_s:
            return []
        self._next_gap_check_s = now + GAP_CHECK_S
        return await self._consumer.gaps()

    async def _restate(self) -> None:
        """Say again what the handler demands, and withdraw what stands in its name beyond that.

        A clean stop withdrew its demands, a server may have lost them, and a state that could not be restored may have
        forgotten some.
        """
        demands = [*self.handler.demands()]
        wanted = {demand.target for demand in demands}
        standing = await self._consumer.demanded(self._origin.host, self.handler.name, self._origin.shard)
        withdrawn = [Withdrawal(self.handler.name, target) for target in sorted(standing - wanted)]
        restated = self.handler.restated(self._context(self.handler.streams[0], "")) or Decisions()
        if demands or withdrawn or restated != Decisions():
            input_id = f"start/{self._link.epoch}/{self._clock.monotonic():.3f}"
            decisions = msgspec.structs.replace(restated, demands=[*demands, *withdrawn, *restated.demands])
            self._commits.append(self._commit(input_id, decisions))

    async def _replay(self, delivery: Delivery) -> None:
        """Let the handler see an entry of the past again; what it decides was committed long ago."""
        self._snapshots.read(delivery.stream, delivery.entry)
        if delivery.fields is None:
            return
        try:
            event = event_from_entry(delivery.fields)
        except MalformedEntry:
            return  # it is in the dead-letter stream since it first came
        await self._show(event, delivery.stream, delivery.entry)
        self._seen.add(delivery.stream, event)

    async def _show(self, event: Event, stream: Stream, entry: str) -> None:
        """Let the handler see what was decided already, so that its state follows; a failure was dealt with then."""
        try:
            await self._ask(event, self._context(stream, entry, replaying=True))
        except Exception as error:  # noqa: BLE001 - a handler may fail in any way
            _log.warning("%s failed again on %s, of the past: %s", self.handler.name, event.id, error)

    # -- in process ------------------------------------------------------------------------------------------------

    async def _consume_in_process(self) -> None:
        """Decide on what arrives here until the bus is back; what follows from it waits in the spool."""
        await self._consumer.connection.close()  # it may have broken unseen, which must not look like another loss
        while not self._link.up and not self._stopping:
            self._last_turn_s = self._clock.monotonic()
            try:
                async with asyncio.timeout(max(0.001, self._next_tick_s - self._clock.monotonic())):
                    offered = await self._local.get()
            except TimeoutError:
                self._next_tick_s = self._clock.monotonic() + TICK_S
                self._hold(self._tick())
                continue
            if offered is None:
                continue
            stream, event = offered
            if self._seen.comes_again(stream, event):
                continue
            outcome = await self._attempt(event, self._context(stream, ""))
            self._seen.add(stream, event)
            self._decided_in_process = True
            if isinstance(outcome, _Failure):
                came = [part if isinstance(part, bytes) else part.encode() for part in event.fields()]
                self._hold(self._bury(stream, event.id, came, outcome), event, stream)
            elif outcome:
                self._hold(self._commit(event.id, outcome), event, stream)
        # What is still in the queue waits in the spool too, and comes over the bus.
        while not self._local.empty():
            self._local.get_nowait()

    def _hold(self, commit: Commit | None, event: Event | None = None, stream: Stream = "samples") -> None:
        """Send it with the next turn where the bus is there, else let it wait in the spool.

        `event` is what was decided on; it is marked, so that it is not decided on again after a restart. Samples are
        not: there are many, and they give the same results again.
        """
        if commit is None:
            return
        if self._link.up:
            self._commits.append(commit)
        elif event is None or stream == "samples":
            if not commit.is_empty:
                self._link.hold(commit)
        else:
            self._seen.mark(event)
            self._link.hold(commit, handled=(self.handler.name, event.id))

    def _on_lost(self) -> None:
        """Called at once when the bus is away: what was sent lately goes out again, each commit once by its token."""
        for answered_s, commit, reply in self._recent:
            self._link.send_again(as_answered(commit, reply), answered_s)
        for commit in (*self._unanswered, *self._commits):
            self._link.hold(commit)
        self._recent.clear()
        self._unanswered = []
        self._commits.clear()
        self._done.clear()

    # -- deciding --------------------------------------------------------------------------------------------------

    async def _take(self, delivery: Delivery, *, poison: bool) -> Commit | None:
        """The commit that follows from an entry, or None where it needs only to be acknowledged."""
        stream, entry, fields = delivery
        if fields is None:
            return None  # trimmed while it was pending, see `_trimmed`
        self._snapshots.read(stream, entry)
        try:
            event = event_from_entry(fields)
        except MalformedEntry as error:
            return self._bury(stream, entry, fields, _Failure.of(str(error), 1), self._up_to(stream, entry))
        if self._seen.comes_again(stream, event):
            if self._seen.take_inherited(event) or self._behind:
                await self._show(event, stream, entry)
            return None
        if poison:
            failure = _Failure("it ended the supervisor each time it was handled", ATTEMPTS)
            return self._bury(stream, entry, fields, failure, self._up_to(stream, entry))
        outcome = await self._attempt(event, self._context(stream, entry))
        self._seen.add(stream, event)
        if isinstance(outcome, _Failure):
            return self._bury(stream, entry, fields, outcome, self._up_to(stream, entry))
        return self._commit(event.id, outcome, self._up_to(stream, entry)) if outcome else None

    def _up_to(self, stream: Stream, entry: str) -> list[Acknowledge]:
        """Acknowledge an entry with all before it: a restart goes on behind the first that is not acknowledged."""
        self._done.setdefault(stream, []).append(entry)
        done, self._done = self._done, {}
        group = self._consumer.group
        return [Acknowledge(self._consumer.streams[name], group, entries) for name, entries in done.items()]

    async def _attempt(self, event: Event, context: Context) -> Decisions | _Failure | None:
        """Ask the handler, again after a pause where it fails."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self._ask(event, context)
            except MalformedEntry as error:
                return _Failure.of(str(error), attempt)
            except Exception as error:  # noqa: BLE001 - a handler may fail in any way; what it was is kept with the entry
                _log.warning("%s failed on %s (attempt %d)", self.handler.name, event.id, attempt, exc_info=True)
                self._last_error = f"{type(error).__name__}: {error}"
                if attempt < ATTEMPTS:
                    await asyncio.sleep(RETRY_AFTER_S[attempt - 1])
        return _Failure.of(self._last_error, ATTEMPTS)

    async def _ask(self, event: Event, context: Context) -> Decisions | None:
        if self.handler.types and event.type not in self.handler.types:
            return None
        decisions = await self.handler.handle(event, context)
        self._handled += 1
        self._last_turn_s = context.monotonic_s
        return decisions

    def _tick(self) -> Commit | None:
        decisions = self.handler.tick(self._context(self.handler.streams[0], ""))
        if not decisions:
            return None
        return self._commit(f"tick/{self._boot_id[:8]}/{self._clock.monotonic():.3f}", decisions)

    def _commit(self, input_id: str, decisions: Decisions, acknowledge: Sequence[Acknowledge] = ()) -> Commit:
        if self._dry_run:
            # what is said is all that is done
            decisions = msgspec.structs.replace(decisions, demands=(), commands=(), asks=())
        if not self._link.up:
            decisions = self._lasting(decisions)
        commit, events = to_commit(
            self._origin, input_id, decisions, wall_s=self._clock.wall(), acknowledge=acknowledge
        )
        self._results += 1
        self.targets.update(change.target for change in decisions.demands)
        if not self._link.up:
            for event in events:
                self._say_locally("events", event)
        return commit

    def _lasting(self, decisions: Decisions) -> Decisions:
        """What is still of use when the bus is back: commands would come too late, and what is free now is not then."""
        if decisions.commands:
            _log.warning("%s: %d commands are dropped, the bus is away", self.handler.name, len(decisions.commands))
        records = [record for record in decisions.records if record.kind != "capacity"]
        return msgspec.structs.replace(decisions, commands=(), records=records)

    def _bury(
        self,
        stream: Stream,
        entry: str,
        fields: list[bytes],
        failure: _Failure,
        acknowledge: Sequence[Acknowledge] = (),
    ) -> Commit:
        """Move an entry to the dead-letter stream, with an event that says so."""
        error, attempts = failure
        self._failed += 1
        self._last_error = error
        _log.error("%s cannot handle entry %s of %s: %s", self.handler.name, entry, stream, error)
        commit, _ = to_commit(
            self._origin,
            f"{stream}/{entry}",
            Decisions([remarks.failed(self.handler.name, stream, entry, error, attempts)]),
            wall_s=self._clock.wall(),
            acknowledge=acknowledge,
            dead=dead_letter(self._origin, stream, entry, fields, error, attempts),
        )
        return commit

    def _on_gap(self, gap: Gap) -> Commit:
        """Say that entries were lost, and let the handler void what depends on them."""
        voided = self.handler.missed(gap.stream, self._context(gap.stream, gap.first)) or Decisions()
        said = remarks.missed(self.handler.name, gap)
        return self._commit(
            f"gap/{gap.stream}/{gap.first}",
            msgspec.structs.replace(voided, events=[said, *voided.events]),
        )

    def _context(self, stream: Stream, entry: str, *, replaying: bool = False) -> Context:
        return Context(
            host=self._origin.host, boot_id=self._boot_id, stream=stream, entry=entry, wall_s=self._clock.wall(),
            monotonic_s=self._clock.monotonic(), replaying=replaying, dry_run=self._dry_run, trusted=self._trusted,
        )  # fmt: skip
