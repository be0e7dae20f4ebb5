"""The stream of events, read once and passed on to every subscriber of `/api/events`.

One reader follows the stream from the first subscriber to the last. Each entry is encoded once, and the same bytes go
straight to the transport of everyone who wants them: a subscriber who waits costs a future, not a wake-up. One who does
not read is cut off; he comes back with the id of the last event that he got, and is caught up.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

from msgspec import Struct

from schemas.event import StreamGap
from supervisor.api import sse
from supervisor.api.entries import PAGE, Edges, Entries
from supervisor.api.sse import START, Message, Position
from supervisor.api.subscriber import Subscriber, Wanted
from supervisor.bus.connection import Connection
from supervisor.clock import Clock, rfc3339
from supervisor.errors import BusError

_log: Final = logging.getLogger(__name__)
Send: TypeAlias = Callable[[bytes], Awaitable[None]]

HEARTBEAT_S: Final = 15.0
#: Subscribers that are served in one go; whoever else has to do something on the loop then has a turn.
_TOGETHER: Final = 32
#: A page of what he missed may take a subscriber this long to read.
_PAGE_WITHIN_S: Final = 30.0
_RETRY_S: Final = 0.5


class FeedFull(Exception):
    """There are as many subscribers as may be, or we are about to close."""


class Feed:
    """Everyone who listens to the events of one shard, and the task that reads for them."""

    def __init__(
        self,
        connect: Callable[[], Connection],
        key: str,
        clock: Clock,
        *,
        most: int = 2_000,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        """`connect` makes a connection of our own to the bus, `key` is the stream; `most` subscribers at a time."""
        self._connect = connect
        self._key = key
        self._clock = clock
        self._most = most
        self._heartbeat_s = heartbeat_s
        self._subscribers: set[Subscriber] = set()
        self._task: asyncio.Task[None] | None = None
        self._past = Entries(connect(), key)
        #: up to where everybody has been told; None until the bus answered for the first time
        self._end: Position | None = None
        self._there = asyncio.Event()
        self._trouble = ""
        self._closed = False

    @asynccontextmanager
    async def subscribed(self, subscriber: Subscriber) -> AsyncIterator[None]:
        """Have him among the subscribers.

        :raises FeedFull: there are too many already.
        """
        if len(self._subscribers) >= self._most:
            self._forget_who_is_gone()
        if self._closed or len(self._subscribers) >= self._most:
            raise FeedFull
        self._subscribers.add(subscriber)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="events for the API")
        try:
            yield
        finally:
            self._subscribers.discard(subscriber)
            if not self._subscribers:
                await self._stop()

    async def serve(self, subscriber: Subscriber, send: Send, after: Position | None, newest: int) -> None:
        """Tell him what came after `after` (None: the `newest` entries), and then what comes, until he is gone.

        `send` waits until he reads. :raises TimeoutError: he does not. :raises ConnectionError: he is gone.
        """
        catching_up = asyncio.create_task(self._catch_up(subscriber, send, after, newest), name="a listener catches up")
        try:
            await asyncio.wait({catching_up, subscriber.ended}, return_when=asyncio.FIRST_COMPLETED)
            if catching_up.done():
                catching_up.result()
                await subscriber.ended
        finally:
            catching_up.cancel()
            await asyncio.gather(catching_up, return_exceptions=True)

    def close(self) -> None:
        """Let everybody go, in good order."""
        self._closed = True
        for subscriber in self._subscribers:
            subscriber.end()

    # -- one subscriber --------------------------------------------------------------------------------------------

    async def _catch_up(self, subscriber: Subscriber, send: Send, after: Position | None, newest: int) -> None:
        """Bring him to where he hears what comes."""
        checked = after is None
        subscriber.position = after
        if self._trouble:
            await send(self._away())
        while not subscriber.live:
            await self._there.wait()
            try:
                if not checked and after is not None:
                    subscriber.position, checked = await self._checked(send, after), True
                if subscriber.position is None and newest:
                    found, subscriber.position = await self._past.newest(newest, subscriber.wanted)
                    for start in range(0, len(found), PAGE):
                        await self._page(send, found[start : start + PAGE])
                await self._page_by_page(subscriber, send)
            except BusError as error:
                _log.info("cannot tell a subscriber what was before: %s", error)
                await asyncio.sleep(_RETRY_S)

    async def _page_by_page(self, subscriber: Subscriber, send: Send) -> None:
        """Bring him to where the others are.

        Between that comparison and his going live nothing else runs, so there is no gap and nothing comes twice.
        """
        subscriber.position = subscriber.position or self._end or START
        while not subscriber.live:
            page = await self._past.after(subscriber.position) if self._end != subscriber.position else []
            await self._page(send, [message for message in page if subscriber.wanted(message)])
            if page:
                subscriber.position = page[-1].position
            subscriber.live = len(page) < PAGE and self._end is not None and self._end <= subscriber.position

    async def _page(self, send: Send, messages: Sequence[Message]) -> None:
        if messages:
            async with asyncio.timeout(_PAGE_WITHIN_S):
                await send(b"".join(message.body for message in messages))
                await asyncio.sleep(0)  # where he reads fast, nothing else has made room for the others

    async def _checked(self, send: Send, after: Position) -> Position:
        """From where he can go on; where that is not where he was, he is told."""
        edges = await self._past.edges()
        if gap := _gap(after, edges):
            await send(self._missed(gap))
        return min(after, edges.last)

    # -- all of them -----------------------------------------------------------------------------------------------

    def _forget_who_is_gone(self) -> None:
        """Who hung up is otherwise noticed when there is something to tell him."""
        for subscriber in tuple(self._subscribers):
            if subscriber.is_gone:
                subscriber.end()
                self._subscribers.discard(subscriber)

    async def _run(self) -> None:
        """Read for everybody until cancelled; should that fail by a bug, nobody is left waiting for nothing."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow(), name="events for the API: reader")
                group.create_task(self._beat(), name="events for the API: heartbeat")
        except ExceptionGroup:
            _log.exception("the events for the API ended; their subscribers are cut off")
            for subscriber in self._subscribers:
                subscriber.cut_off()

    async def _stop(self) -> None:
        """The last one has left."""
        task, self._task = self._task, None
        self._there.clear()
        self._end, self._trouble = None, ""
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
        if self._task is None:
            await self._past.close()

    async def _follow(self) -> None:
        """Pass on every entry, across the times when the bus is away."""
        entries = Entries(self._connect(), self._key)
        try:
            while True:
                try:
                    self._end = await self._from_here(entries)
                    await self._is_there()
                    while True:
                        if messages := await entries.wait(self._end):
                            await self._pass_on(messages)
                except BusError as error:
                    await self._is_away(error)
                    await asyncio.sleep(_RETRY_S)
        finally:
            await entries.close()

    async def _from_here(self, entries: Entries) -> Position:
        """Where to go on reading; where the stream is not what it was, everybody is told what is missing."""
        edges = await entries.edges()
        if self._end is None:
            return edges.last
        if gap := _gap(self._end, edges):
            await self._tell(self._missed(gap))
            for subscriber in self._subscribers:
                if subscriber.position is not None:
                    subscriber.position = min(subscriber.position, edges.last)
        return min(self._end, edges.last)

    async def _is_there(self) -> None:
        self._there.set()
        if self._trouble:
            self._trouble = ""
            await self._tell(self._notice("flyball.bus.back", "the bus is back"))

    async def _is_away(self, error: BusError) -> None:
        self._there.clear()
        if not self._trouble:
            self._trouble = str(error)
            await self._tell(self._away())

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._heartbeat_s)
            await self._tell(sse.HEARTBEAT)

    async def _tell(self, body: bytes) -> None:
        """Say the same to everybody."""
        bodies = {True: sse.chunk(body), False: body}
        for count, subscriber in enumerate(tuple(self._subscribers), 1):
            subscriber.write(bodies[subscriber.chunked])
            if count % _TOGETHER == 0:
                await asyncio.sleep(0)

    async def _pass_on(self, messages: Sequence[Message]) -> None:
        """Bring everybody who is live to the end of `messages`; who wants the same gets the same bytes."""
        self._end = messages[-1].position
        bodies: dict[tuple[Wanted, bool, int], bytes] = {}
        for count, subscriber in enumerate(tuple(self._subscribers), 1):
            if subscriber.live and subscriber.position is not None and subscriber.position < self._end:
                new = _after(subscriber.position, messages)
                key = (subscriber.wanted, subscriber.chunked, len(new))
                if key not in bodies:
                    body = b"".join(message.body for message in new if subscriber.wanted(message))
                    bodies[key] = sse.chunk(body) if body and subscriber.chunked else body
                subscriber.position = self._end
                if bodies[key]:
                    subscriber.write(bodies[key])
            if count % _TOGETHER == 0:
                await asyncio.sleep(0)

    # -- what we say ourselves -------------------------------------------------------------------------------------

    def _notice(self, type: str, text: str, data: Struct | None = None) -> bytes:
        return sse.notice(type, text, rfc3339(self._clock.wall()), data)

    def _away(self) -> bytes:
        return self._notice("flyball.bus.away", f"{self._trouble}; going on when it is back")

    def _missed(self, gap: StreamGap) -> bytes:
        kept = "is empty" if gap.first == str(START) else f"begins at {gap.first}"
        text = f"events after {gap.after} may be lost: the stream {kept} now"
        return self._notice("flyball.stream.gap", text, gap)


def _after(position: Position, messages: Sequence[Message]) -> Sequence[Message]:
    if position < messages[0].position:
        return messages
    return [message for message in messages if message.position > position]


def _gap(after: Position, edges: Edges) -> StreamGap | None:
    """What is missing between `after` and what is kept: it was trimmed, or the server lost its data."""
    if after == START or edges.first <= after <= edges.last:
        return None
    return StreamGap(
        handler="api", stream="events", after=str(after), first=str(edges.first), lost=None, cause=str(edges.first)
    )
