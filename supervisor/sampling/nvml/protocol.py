"""What a reader process and its parent say to each other: msgpack, each message after its length in four bytes."""

from collections.abc import Iterator
from typing import Final

import msgspec
from msgspec import Struct

from schemas.sample import Gpu

_LENGTH_BYTES: Final = 4


class Read(Struct, frozen=True, array_like=True):
    """To the reader: read these cards in this order; a request that has not ended by now is stuck, go on without it.

    Of the cards that are in `anew` the slowly changing figures are read, too.
    """

    sequence: int
    indices: tuple[int, ...]
    anew: tuple[int, ...] = ()


class Opened(Struct, frozen=True, array_like=True, tag="opened"):
    """From the reader: NVML is initialised and lists `count` cards."""

    count: int
    driver: str


class Failed(Struct, frozen=True, array_like=True, tag="failed"):
    """From the reader, which then ends: NVML as a whole does not work; `code` is the nvmlReturn_t."""

    code: int


class Answer(Struct, frozen=True, array_like=True, tag="answer"):
    """From the reader, as soon as it has it: one card. `gpu` is None where it cannot even be identified: see `code`."""

    sequence: int
    index: int
    code: int
    gpu: Gpu | None


class Heard(Struct, frozen=True, array_like=True, tag="heard"):
    """From the reader, at any time: a card had an XID."""

    uuid: str
    xid: int


class Hearing(Struct, frozen=True, array_like=True, tag="hearing"):
    """From the reader, when it changed: whether XIDs are listened for; `code` is the nvmlReturn_t why not, or 0.

    `index` is a card whose driver tells no XIDs, None where it is about all.
    """

    code: int
    index: int | None = None


Message = Opened | Failed | Answer | Heard | Hearing


class Frames:
    """Cuts a stream of bytes into the bodies of its messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The bodies that `data` completes."""
        self._buffer += data
        while len(self._buffer) >= _LENGTH_BYTES:
            end = _LENGTH_BYTES + int.from_bytes(self._buffer[:_LENGTH_BYTES], "big")
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[_LENGTH_BYTES:end])
            del self._buffer[:end]
            yield body


def frame(message: Read | Message) -> bytes:
    """A message as it goes over the pipe."""
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body
