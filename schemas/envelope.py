"""The envelope of every stream entry: seven fields in fixed order that mirror CloudEvents 1.0."""

import builtins
import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

from schemas.workload import ENTRY_FIELDS

T = TypeVar("T")
NonEmpty = Annotated[str, Meta(min_length=1)]


class MalformedEntry(ValueError):
    """A stream entry that no schema accepts; it belongs in the dead-letter stream."""


class Event(Struct, frozen=True):
    """One fact on the wire; `data` is JSON still encoded, so that passing an event on costs nothing.

    `text` is one plain sentence for people; `time` is RFC 3339 in UTC.
    """

    id: NonEmpty
    type: NonEmpty
    source: str
    subject: str
    time: str
    text: str
    data: bytes

    def decode(self, kind: builtins.type[T]) -> T:
        """`data` as a `kind`.

        :raises MalformedEntry: when the schema does not accept it.
        """
        try:
            return msgspec.json.decode(self.data, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise MalformedEntry(f"data of {self.type} is not a {kind.__name__}: {error}") from error

    def fields(self) -> list[bytes | str]:
        """Names and values in turn, as XADD takes them."""
        return [
            "id", self.id, "type", self.type, "source", self.source, "subject", self.subject,
            "time", self.time, "text", self.text, "data", self.data,
        ]  # fmt: skip


def event_from_entry(fields: Mapping[bytes, bytes] | Sequence[bytes]) -> Event:
    """Read a stream entry as a Redis client returns it: a mapping, or names and values in turn.

    Fields that we do not know are ignored.

    :raises MalformedEntry: when a field or the value of one is missing, empty where it must not be, or not UTF-8.
    """
    if not isinstance(fields, Mapping):
        if len(fields) % 2:
            raise MalformedEntry("the last field has no value")
        fields = dict(zip(fields[::2], fields[1::2], strict=True))
    try:
        values = [fields[name.encode()] for name in ENTRY_FIELDS]
        texts = [value.decode() for value in values[:-1]]
    except KeyError as error:
        raise MalformedEntry(f"field {error.args[0].decode()!r} is missing") from error
    except UnicodeDecodeError as error:
        raise MalformedEntry(f"a field is not UTF-8: {error}") from error
    if not texts[0] or not texts[1]:
        raise MalformedEntry("fields 'id' and 'type' must not be empty")
    entry_id, kind, source, subject, time, text = texts
    return Event(entry_id, kind, source, subject, time, text, values[-1])


def event_id(issuer: str, input_id: str, ordinal: int) -> str:
    """The id of the `ordinal`-th result of `issuer` on an input: the same input gives the same ids.

    The commit function computes the same in Lua for the directives that it derives.
    """
    return hashlib.sha1(f"{issuer}|{input_id}|{ordinal}".encode(), usedforsecurity=False).hexdigest()[:20]
