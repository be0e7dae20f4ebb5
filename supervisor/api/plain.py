"""What is served beside the routes, described: no JSON, or JSON in a form that others have laid down."""

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

from supervisor.api.events import EventsQuery
from supervisor.api.guard import OPEN
from supervisor.route import Nothing


class Said(Struct, frozen=True):
    """An answer: when it comes, its media type, and its JSON Schema."""

    when: str
    media_type: str
    schema: Mapping[str, Any]


class Plain(Struct, frozen=True, kw_only=True):
    """A GET that is no `Route`."""

    path: str
    summary: str
    answers: Mapping[int, Said]
    query: type[Struct] = Nothing
    headers: Mapping[str, str] = {}
    #: how it is asked with curl, behind the address
    shown: str = ""

    @property
    def is_open(self) -> bool:
        """Whether it never needs the token."""
        return self.path in OPEN


_TEXT: Final = {"type": "string"}


def _state(name: str, **further: Any) -> dict[str, Any]:
    properties = {"state": {"const": name}, **further}
    return {"type": "object", "properties": properties, "required": list(properties)}


_MISSING: Final = {"type": "array", "items": _TEXT}

PLAIN: Final = (
    Plain(path="/", summary="What there is, a line each.", answers={200: Said("The list.", "text/plain", _TEXT)}),
    Plain(
        path="/livez",
        summary="Whether the supervisor's event loop turns; the bus does not count.",
        answers={200: Said("It does.", "application/json", _state("alive"))},
    ),
    Plain(
        path="/readyz",
        summary="Whether this host is looked after: bus and sampler are fresh.",
        answers={
            200: Said("It is.", "application/json", _state("ready", missing=_MISSING)),
            503: Said("It is not, and what is missing.", "application/json", _state("waiting", missing=_MISSING)),
        },
    ),
    Plain(
        path="/metrics",
        summary="Figures for Prometheus.",
        answers={200: Said("The figures, in the format that the header Accept prefers.", "text/plain", _TEXT)},
    ),
    Plain(
        path="/api/events",
        summary="What is decided or noticed, as it happens, by Server-Sent Events.",
        answers={200: Said("Events, one JSON object each, until either side hangs up.", "text/event-stream", _TEXT)},
        query=EventsQuery,
        headers={"Last-Event-ID": "id of the last event that you got: what came after it comes first"},
        shown="?backfill=10",
    ),
    Plain(
        path="/openapi.json",
        summary="All of this as OpenAPI 3.1.",
        answers={200: Said("The document.", "application/json", {"type": "object"})},
    ),
)
