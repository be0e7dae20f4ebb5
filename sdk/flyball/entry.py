"""An entry of the inbox: what is said, in the wire's seven fields, under one id however often it is sent."""

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from flyball.wire import ENTRY_FIELDS, INBOX_TYPES, inbox_key

#: About how many entries the inbox holds.
INBOX_LENGTH: Final = "10000"
_TYPE_OF: Final = {kind: name for name, kind in INBOX_TYPES.items()}


class Message(NamedTuple):
    """A message with the id under which it goes out: readers drop the second one of the same id."""

    id: str
    time: str
    text: str
    data: Struct


def message(text: str, data: Struct, at_s: float) -> Message:
    """A new message, said then (Unix time)."""
    return Message(uuid.uuid4().hex, _rfc3339(at_s), text, data)


def command(message: Message, *, host: str, speaker: str, subject: str, shard: int) -> Sequence[str | bytes]:
    """The XADD of a message that `speaker` says on `host`."""
    values: tuple[str | bytes, ...] = (
        message.id, _TYPE_OF[type(message.data)], f"{host}/{speaker}", subject, message.time, message.text,
        msgspec.json.encode(message.data),
    )  # fmt: skip
    fields = [part for pair in zip(ENTRY_FIELDS, values, strict=True) for part in pair]
    return ["XADD", inbox_key(shard), "MAXLEN", "~", INBOX_LENGTH, "*", *fields]


def _rfc3339(at_s: float) -> str:
    """In UTC with milliseconds."""
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
