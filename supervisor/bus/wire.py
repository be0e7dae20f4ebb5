"""What goes over a connection that stands: commands packed and replies parsed by hiredis, on the transport itself.

redis-py connects (address, TLS, password, hello) and hands its transport over. Its own reading and writing passes each
message through several coroutines and buffers; without them a sample reaches a workload a tenth sooner (bench/loop.py).
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self, TypeAlias, cast

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as ConnectionBroken
from redis.exceptions import InvalidResponse

Command: TypeAlias = Sequence[bytes | str | int | float]


class Wire(asyncio.Protocol):
    """Replies in the order of the commands; one task at a time waits for them."""

    def __init__(self, transport: asyncio.Transport, refusal: Callable[[str], Exception]) -> None:
        """`refusal` makes an exception of what the server refuses with."""
        self._transport = transport
        self._parser = hiredis.Reader(protocolError=InvalidResponse, replyError=refusal)
        self._replies: deque[Any] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._broken: Exception | None = None

    @classmethod
    def taken_from(cls, connection: AbstractConnection) -> Self:
        """Take over the transport of a connection that stands and on which nothing is under way."""
        # redis-py has no public way to either; these are the two private names that we use
        writer, parser = connection._writer, connection._parser
        assert writer is not None, "a connection that stands has one"
        transport = cast("asyncio.Transport", writer.transport)
        wire = cls(transport, parser.parse_error)
        transport.set_protocol(wire)
        return wire

    def send(self, commands: Iterable[Command]) -> None:
        """Write all commands at once.

        :raises redis.ConnectionError: it broke.
        """
        if self._broken is not None:
            raise self._broken
        # hiredis' stub means a tuple of any length, and writes one of length 1
        packed = [hiredis.pack_command(tuple(command)) for command in commands]  # type: ignore[arg-type]
        self._transport.write(b"".join(packed))

    async def receive(self, timeout_s: float) -> Any:
        """The next reply.

        :raises redis.RedisError: what the server answered instead, or that the connection broke.
        :raises TimeoutError: nothing came.
        """
        if not self._replies:
            if self._broken is not None:
                raise self._broken
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            timer = loop.call_later(timeout_s, self._give_up)
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None
        reply = self._replies.popleft()
        if isinstance(reply, Exception):
            raise reply
        return reply

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        try:
            self._parser.feed(data)
            while (reply := self._parser.gets()) is not False:
                self._replies.append(reply)
        except InvalidResponse as error:
            self._replies.append(error)
            self._transport.abort()
        if self._replies:
            self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        """The server hung up, or we did."""
        self._broken = ConnectionBroken(str(error) if error else "the server closed the connection")
        self._wake(self._broken)

    def _give_up(self) -> None:
        self._wake(TimeoutError())

    def _wake(self, error: Exception | None = None) -> None:
        if self._waiter is None or self._waiter.done():
            return
        if error is None:
            self._waiter.set_result(None)
        else:
            self._waiter.set_exception(error)
