"""Sends an operator's request to our own host, as the command line does, and waits for what comes of it."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec import Struct

from schemas.envelope import Event
from schemas.event import OverrideChanged
from supervisor.bus.connection import Connection
from supervisor.bus.keys import commands_key, events_key
from supervisor.clock import Clock, rfc3339
from supervisor.errors import BusError
from supervisor.request import KEPT, envelope, outcome, requested
from supervisor.route import Refusal

#: What is not answered after this time has to be looked for.
WITHIN_S: Final = 2.0
#: Requests under way; each has a connection of its own, since it waits there.
_AT_ONCE: Final = 16
_PAGE: Final = 100


class Reply(Struct, frozen=True):
    """What came of a request; `answer` is None where nothing came in time."""

    command: str
    answer: tuple[Event, OverrideChanged] | None


class Commands:
    """The sender of requests to one host."""

    def __init__(self, connect: Callable[[], Connection], host: str, shard: int, clock: Clock) -> None:
        """`connect` makes a connection."""
        self._connect = connect
        self._host = host
        self._shard = shard
        self._clock = clock
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def ask(self, action: str, target: str, arguments: Mapping[str, Any], operator: str) -> Reply:
        """Send a request and wait for its outcome.

        :raises Refusal: 503 where the bus is away or refuses, or too many requests are under way: nothing was asked.
        """
        try:
            async with asyncio.timeout(WITHIN_S):
                await self._places.acquire()
        except TimeoutError:
            raise Refusal(503, f"{_AT_ONCE} requests are under way already; try again") from None
        try:
            return await self._ask(action, target, arguments, operator)
        finally:
            self._places.release()

    async def _ask(self, action: str, target: str, arguments: Mapping[str, Any], operator: str) -> Reply:
        time = rfc3339(self._clock.wall())
        command = requested(action, target, arguments, host=self._host, operator=operator, time=time)
        events, sent = events_key(self._shard), False
        connection = self._connect()
        try:
            newest = await connection.ask("XREVRANGE", events, "+", "-", "COUNT", 1)
            position = newest[0][0] if newest else b"0-0"
            key, entry = commands_key(self._host, self._shard), envelope(command, "api").fields()
            sent = True
            await connection.ask("XADD", key, "MAXLEN", "~", KEPT, "*", *entry)
            async with asyncio.timeout(WITHIN_S):
                while True:
                    block = ("COUNT", _PAGE, "BLOCK", int(WITHIN_S * 1000), "STREAMS", events, position)
                    reply = await connection.ask("XREAD", *block, wait_s=WITHIN_S)
                    for entry, fields in reply[0][1] if reply else ():
                        position = entry
                        if found := outcome(fields, command):
                            return Reply(command.id, found)
        except TimeoutError:
            return Reply(command.id, None)
        except BusError as error:
            after = "; whether it was asked is not known, so look before you ask again" if sent else ""
            raise Refusal(503, f"{error}{after}") from error
        finally:
            await connection.close()
