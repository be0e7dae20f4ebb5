"""Someone who listens to the events: what he wants, how far he is, and the transport to him."""

import asyncio
from typing import Final

from msgspec import Struct

from supervisor.api.sse import Message, Position

#: What may wait for a subscriber on our side, beside what the kernel holds for him.
LAGGING_BYTES: Final = 256 * 1024


class Wanted(Struct, frozen=True):
    """What a subscriber asked for; a `*` at the end of a type stands for anything, and nothing at all for everything.

    It stands nowhere else: such a pattern needs no regular expression, which Python would keep for whoever thinks of
    many.
    """

    types: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()

    def __call__(self, message: Message) -> bool:
        """Whether this message is among it."""
        return (not self.types or any(_fits(message.type, pattern) for pattern in self.types)) and (
            not self.subjects or message.subject in self.subjects
        )


class Subscriber:
    """Someone who listens; `ended` is done when there is no more to come."""

    def __init__(self, wanted: Wanted, *, chunked: bool) -> None:
        """`chunked` as HTTP/1.1 has it; older clients read to the end of the connection."""
        self.wanted = wanted
        self.chunked = chunked
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        #: the last entry that he got or did not want
        self.position: Position | None = None
        #: whether he hears what comes, since he has had everything before
        self.live = False
        self._transport: asyncio.WriteTransport | None = None

    def open(self, transport: asyncio.WriteTransport | None) -> None:
        """The headers are out: from now on he hears what everybody hears."""
        self._transport = transport

    @property
    def is_gone(self) -> bool:
        """Whether he hung up."""
        return self._transport is not None and self._transport.is_closing()

    def write(self, body: bytes) -> None:
        """Pass on what is framed already, unless he is gone or does not read."""
        if self._transport is None:
            return
        if self.is_gone:
            self.end()
        elif self._transport.get_write_buffer_size() <= LAGGING_BYTES:
            self._transport.write(body)
        elif self.live:  # until then we wait for him
            self.cut_off()

    def cut_off(self) -> None:
        """Hang up in the middle of a sentence, so that he notices."""
        if self._transport is not None:
            self._transport.abort()
        self.end()

    def end(self) -> None:
        """There is no more to come."""
        if not self.ended.done():
            self.ended.set_result(None)


def _fits(type: str, pattern: str) -> bool:
    return type.startswith(pattern[:-1]) if pattern.endswith("*") else type == pattern
