"""A handler's state with the position of each stream: written now and then, taken up again at a start."""

import base64
import binascii
import heapq
import json
import logging
from collections.abc import Awaitable, Callable

from supervisor.bus.commit import Commit, HashChange
from supervisor.bus.consume import Consumer, Delivery
from supervisor.bus.keys import snapshot_key
from supervisor.clock import Clock, rfc3339
from supervisor.handler import Handler, Stream
from supervisor.runtime.results import Origin

_log = logging.getLogger(__name__)


class Snapshots:
    """The snapshots of one handler."""

    def __init__(self, handler: Handler, origin: Origin, clock: Clock) -> None:
        """Nothing is read yet."""
        self._handler = handler
        self._origin = origin
        self._clock = clock
        self._key = snapshot_key(origin.host, handler.name, origin.shard)
        self._positions: dict[Stream, str] = {}
        self._written: dict[Stream, str] = {}
        self._next_s = clock.monotonic() + handler.snapshot_every_s
        self._restored = False

    def read(self, stream: Stream, entry: str) -> None:
        """The handler has seen this entry."""
        self._positions[stream] = entry

    def store_again(self) -> None:
        """The server may have lost what was stored."""
        self._written = {}

    def store_now(self) -> None:
        """Something happened that reading again would not bring back."""
        self._written = {}
        self._next_s = self._clock.monotonic()

    def due(self, *, now: bool = False) -> Commit | None:
        """A commit that stores the state, when it is time (or `now`) and something was read since."""
        if self._positions == self._written or not (now or self._clock.monotonic() >= self._next_s):
            return None
        self._next_s = self._clock.monotonic() + self._handler.snapshot_every_s
        try:
            state = base64.b64encode(self._handler.snapshot()).decode()
        except Exception as error:  # noqa: BLE001 - a handler may fail in any way; its decisions go out all the same
            _log.warning("%s: its state cannot be stored: %s: %s", self._handler.name, type(error).__name__, error)
            return None
        self._written = dict(self._positions)
        time = rfc3339(self._clock.wall())
        fields = ["time", time, "positions", json.dumps(self._positions), "state", state]
        return Commit(
            token="",
            issuer=self._origin.issuer,
            input="",
            ordinal=0,
            host=self._origin.host,
            time=time,
            hashes=(HashChange(self._key, fields),),
        )

    async def restore(self, consumer: Consumer, replay: Callable[[Delivery], Awaitable[None]]) -> bool:
        """Take up the stored state, and re-read silently what was acknowledged after it was stored; once a process.

        Returns whether there was one. An unusable snapshot is a warning: the handler then starts from nothing. Where
        nothing was stored, the state is stored at the next occasion, so that all that is acknowledged from now on can
        be read again.
        """
        if self._restored:
            return False
        reply = await consumer.connection.ask("HGETALL", self._key)
        committed = await consumer.positions()
        self._restored = True
        positions = self._take_up(dict(zip(reply[::2], reply[1::2], strict=True)))
        # A stream that the snapshot does not know is one that the handler has learned to read since.
        self._positions = committed | (positions or {})
        if positions is None:
            self._next_s = self._clock.monotonic()
            return False
        pages = [
            [delivery async for delivery in consumer.reread(stream, self._positions[stream], upto)]
            for stream, upto in committed.items()
        ]
        for delivery in heapq.merge(*pages, key=lambda delivery: tuple(map(int, delivery.entry.split("-")))):
            await replay(delivery)
        self._written = dict(self._positions)
        return True

    def _take_up(self, stored: dict[bytes, bytes]) -> dict[Stream, str] | None:
        """Restore the handler; returns the positions of its state, None where it starts from nothing."""
        if not stored:
            return None
        try:
            positions: dict[Stream, str] = json.loads(stored[b"positions"])
            self._handler.restore(base64.b64decode(stored[b"state"], validate=True))
        except (KeyError, ValueError, binascii.Error) as error:
            _log.warning("%s: its snapshot cannot be used (%s); it starts from nothing", self._handler.name, error)
            return None
        return {stream: entry for stream, entry in positions.items() if stream in self._handler.streams}
