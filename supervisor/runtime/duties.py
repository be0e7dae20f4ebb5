"""The periodic work on the bus: keep the lease, report the state, say directives again, keep memory in bounds."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from schemas.status import HandlerStatus, Status
from schemas.workload import Directive
from supervisor.bus import lease
from supervisor.bus.commit import Commit, HashChange
from supervisor.bus.connection import Connection
from supervisor.bus.keys import directive_key, handler_key, lease_key
from supervisor.bus.memory import keep_memory
from supervisor.clock import Clock, rfc3339
from supervisor.errors import BusError, BusFull, Fenced
from supervisor.runtime.link import Link
from supervisor.runtime.standing import Standing

_log = logging.getLogger(__name__)

EVERY_S: Final = 1.0
STATUS_EVERY: Final = 2
HANDLERS_EVERY: Final = 5
MEMORY_EVERY: Final = 5
#: The directive that stands is said again this often (seconds), a third of its time to live.
ANNOUNCE_EVERY: Final = 10
STATUS_TTL_S: Final = 15.0


class Duties:
    """What the link does while the bus is there."""

    def __init__(
        self, *, host: str, shard: int, clock: Clock, standing: Standing, status: Callable[[], Status],
        handlers: Callable[[], Sequence[HandlerStatus]], targets: Callable[[], Iterable[str]],
    ) -> None:  # fmt: skip
        """`targets` are those that our handlers demand something of."""
        self.link: Link | None = None
        #: Commits of the daemon's own that go out with the next round.
        self.also: list[Commit] = []
        self._host = host
        self._shard = shard
        self._clock = clock
        self._standing = standing
        self._status = status
        self._handlers = handlers
        self._targets = targets

    async def run(self, connection: Connection) -> None:
        """Until an error ends it.

        :raises BusLost: the bus is away. :raises Fenced: another supervisor took the lease.
        """
        await self._read_standing(connection, self._standing.targets())
        beat = 0
        while True:
            await self._say_what_waits(connection)
            await self._read_standing(connection, set(self._targets()).difference(self._standing.targets()))
            if beat % lease.RENEW_EVERY == 0:
                await lease.renew(connection, self._host, self._epoch, shard=self._shard)
            if beat % STATUS_EVERY == 0:
                await self._report(connection)
            if beat % HANDLERS_EVERY == 0:
                await self._report_handlers(connection)
            if beat % MEMORY_EVERY == 0:
                await keep_memory(connection, self._shard)
            if beat % ANNOUNCE_EVERY == 0:
                await self._announce(connection)
            beat += 1
            await asyncio.sleep(EVERY_S)

    async def _say_what_waits(self, connection: Connection) -> None:
        assert self.link is not None, "the link is set before it runs"
        while self.also:
            await connection.send(self.link.commit_command(connection, self.also[0]))
            (reply,) = await connection.replies(1)
            if isinstance(reply, Fenced | BusFull):
                raise reply
            if isinstance(reply, BusError):
                _log.error("%s, and is dropped: %s", reply, self.also[0])
            self.also.pop(0)

    @property
    def _epoch(self) -> int:
        assert self.link is not None, "the link is set before it runs"
        return self.link.epoch

    async def _read_standing(self, connection: Connection, targets: Iterable[str]) -> None:
        """What stood before we came, or while the bus was away; what we demand may have changed nothing."""
        for target in [*targets]:
            reply = await connection.ask("HGETALL", directive_key(self._host, target, self._shard))
            fields = {name.decode(): value.decode() for name, value in zip(reply[::2], reply[1::2], strict=True)}
            if fields:
                try:
                    self._standing.take(msgspec.convert(fields, Directive, strict=False))
                except msgspec.ValidationError as error:
                    _log.warning("what stands for %s is no directive: %s", target, error)

    async def _report(self, connection: Connection) -> None:
        body = msgspec.json.encode(self._status())
        await lease.report(connection, self._host, self._epoch, body, STATUS_TTL_S, shard=self._shard)

    async def _report_handlers(self, connection: Connection) -> None:
        assert self.link is not None, "the link is set before it runs"
        hashes = []
        for status in self._handlers():
            fields = ["host", self._host]
            for name, value in msgspec.to_builtins(status).items():
                fields += [name, "" if value is None else str(value)]
            hashes.append(HashChange(handler_key(status.name, self._shard), fields))
        commit = Commit("", f"{self._host}/duties", "", 0, self._host, rfc3339(self._clock.wall()), hashes=hashes)
        await connection.ask(*self.link.commit_command(connection, commit))

    async def _announce(self, connection: Connection) -> None:
        directives = [directive_key(self._host, target, self._shard) for target in self._standing.targets()]
        if directives:
            await connection.call("announce", [lease_key(self._host, self._shard), *directives], self._epoch)
