"""Server-Sent Events: an entry of the stream of events, or what we ourselves have to say, as the bytes that go out.

What a subscriber's Last-Event-ID holds is the entry's id in the stream; what has no place there carries no id.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Final, NamedTuple, Self

import msgspec

from schemas.envelope import Event, MalformedEntry, event_from_entry

MEDIA_TYPE: Final = "text/event-stream"
#: Comes now and then where nothing else does, so that whoever waits knows that we live.
HEARTBEAT: Final = b":\n\n"

_POSITION: Final = re.compile(r"([0-9]{1,20})(?:-([0-9]{1,20}))?")
_LARGEST: Final = 2**64 - 1
_to_json: Final = msgspec.json.Encoder().encode


class Position(NamedTuple):
    """The id of an entry, which is also its place in the stream."""

    milliseconds: int
    sequence: int

    @classmethod
    def read(cls, text: str) -> Self:
        """From `1700000000000-0`; without the second half, just before everything of that millisecond.

        :raises ValueError: it is no id.
        """
        match = _POSITION.fullmatch(text)
        milliseconds, sequence = (int(part or 0) for part in match.groups()) if match else (-1, 0)
        if match is None or max(milliseconds, sequence) > _LARGEST:
            raise ValueError(f"{text[:100]!r} is not the id of an event, such as 1700000000000-0")
        if match[2] is None and milliseconds:
            return cls(milliseconds - 1, _LARGEST)
        return cls(milliseconds, sequence)

    def __str__(self) -> str:
        """As the server writes it."""
        return f"{self.milliseconds}-{self.sequence}"


START: Final = Position(0, 0)


class Message:
    """An entry for whoever wants its type and subject; what is no event has neither, and is for who wants everything.

    It is encoded when the first one wants it. What cannot be encoded becomes a comment that says so.
    """

    def __init__(self, entry: bytes, fields: Mapping[bytes, bytes] | Sequence[bytes]) -> None:
        """The entry `entry` of the stream."""
        self.position = Position.read(entry.decode())
        self.type = self.subject = ""
        self._event: Event | None = None
        self._trouble = ""
        try:
            event = event_from_entry(fields)
            if "\n" in event.type or "\r" in event.type:
                raise MalformedEntry(f"a type has no line breaks, but {event.type!r} does")
        except MalformedEntry as error:
            self._trouble = str(error)
        else:
            self._event, self.type, self.subject = event, event.type, event.subject

    @cached_property
    def body(self) -> bytes:
        """What goes out, the same for everybody."""
        if self._event is None:
            return self._comment(self._trouble)
        event = self._event
        try:
            document = {
                "entry": str(self.position), **msgspec.structs.asdict(event), "data": msgspec.json.decode(event.data)
            }  # fmt: skip
            return b"id: %b\n%b" % (str(self.position).encode(), _named(event.type, document))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return self._comment(f"its data is not JSON: {error}")

    def _comment(self, why: str) -> bytes:
        return comment(f"entry {self.position} is not an event: {why}")


def notice(type: str, text: str, time: str, data: msgspec.Struct | None = None) -> bytes:
    """What is said to the subscribers alone, in the form of an event; it stands in no stream, so it has no id."""
    return _named(type, {"type": type, "source": "api", "subject": "events", "time": time, "text": text, "data": data})


def comment(text: str) -> bytes:
    """What clients pass over, and people read."""
    return b": %b\n\n" % " ".join(text.split()).encode()


def chunk(body: bytes) -> bytes:
    """A part of an HTTP/1.1 body of unknown length."""
    return b"%x\r\n%b\r\n" % (len(body), body)


def _named(type: str, document: Mapping[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (type.encode(), _to_json(document))
