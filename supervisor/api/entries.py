"""Reads the stream of events: its ends, what came after an entry, the newest ones, and what comes next."""

import asyncio
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from supervisor.api.sse import START, Message, Position
from supervisor.bus.connection import Connection

#: Entries that are read, and encoded where they are wanted, in one go; a millisecond of work.
PAGE: Final = 100
#: So many of the newest entries are searched for those that a new listener wants.
SEARCHED: Final = 20 * PAGE
#: How long the server holds a read open where nothing comes.
_BLOCK_S: Final = 5.0


class Edges(NamedTuple):
    """The oldest and the newest entry that are kept; both are `START` where there are none."""

    first: Position
    last: Position


class Entries:
    """A reader of the stream `key` over a connection of its own, which several tasks may ask; it reconnects by itself.

    Every method raises `BusError` where the server is away or refuses.
    """

    def __init__(self, connection: Connection, key: str) -> None:
        """Take over `connection`."""
        self._connection = connection
        self._key = key
        self._turn = asyncio.Lock()

    async def edges(self) -> Edges:
        """Between which entries the stream lies now."""
        first = await self._ask("XRANGE", self._key, "-", "+", "COUNT", 1)
        last = await self._ask("XREVRANGE", self._key, "+", "-", "COUNT", 1)
        return Edges(*(Position.read(found[0][0].decode()) if found else START for found in (first, last)))

    async def after(self, position: Position) -> list[Message]:
        """The next entries after that one; fewer than `PAGE` where these are all that there are."""
        page = await self._ask("XRANGE", self._key, f"({position}", "+", "COUNT", PAGE)
        return [Message(*entry) for entry in page]

    async def newest(self, count: int, wanted: Callable[[Message], bool]) -> tuple[list[Message], Position]:
        """The newest `count` entries that are wanted, oldest first, and where the stream ended then.

        Only the newest `SEARCHED` entries are looked through: to find nothing must not cost the whole stream.
        """
        found: list[Message] = []
        end, before = START, "+"
        for _ in range(SEARCHED // PAGE):
            page = [Message(*entry) for entry in await self._ask("XREVRANGE", self._key, before, "-", "COUNT", PAGE)]
            if not page:
                break
            end = max(end, page[0].position)
            found += filter(wanted, page)
            if len(found) >= count:
                break
            before = f"({page[-1].position}"
        return found[:count][::-1], end

    async def wait(self, position: Position) -> list[Message]:
        """The next entries after that one, waiting for them; now and then none."""
        block_ms = int(_BLOCK_S * 1000)
        command = ("XREAD", "COUNT", PAGE, "BLOCK", block_ms, "STREAMS", self._key, str(position))
        reply = await self._ask(*command, wait_s=_BLOCK_S)
        return [Message(*entry) for entry in reply[0][1]] if reply else []

    async def close(self) -> None:
        """Drop the connection; the next question makes another one."""
        await self._connection.close()

    async def _ask(self, *command: str | int, wait_s: float = 0.0) -> Any:
        async with self._turn:
            return await self._connection.ask(*command, wait_s=wait_s)
