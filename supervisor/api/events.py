"""`/api/events`: what is decided or noticed, as it happens, by Server-Sent Events.

    curl -N 'http://127.0.0.1:8470/api/events?type=flyball.gpu.*&backfill=10'

Each event is one JSON object, the line that `flyball events --json` prints, with the id of its entry in the stream. Who
comes back with that id in `Last-Event-ID` gets what he missed first: no gap, and nothing twice.
"""

from logging import getLogger
from typing import Annotated, Final

from aiohttp import hdrs, web
from msgspec import Meta, Struct

from supervisor.api.entries import SEARCHED
from supervisor.api.feed import Feed, FeedFull
from supervisor.api.problems import problem
from supervisor.api.reading import read_query
from supervisor.api.sse import MEDIA_TYPE, Position
from supervisor.api.subscriber import Subscriber, Wanted

_log: Final = getLogger(__name__)
LAST_EVENT_ID: Final = "Last-Event-ID"
#: How long a browser waits before it comes back.
_RETRY: Final = b"retry: 1000\n\n"
_HEADERS: Final = {
    hdrs.CACHE_CONTROL: "no-store",
    "X-Accel-Buffering": "no",  # nginx would hold events back to fill a buffer
}

EventType = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=100,
        pattern=r"^[^*]*\*?$",
        description="a type such as flyball.gpu.error, or how types begin and a `*` at the end, such as flyball.gpu.*",
    ),
]
Subject = Annotated[str, Meta(min_length=1, max_length=100)]
_BACKFILL: Final = f"so many of the past come first, as far as the newest {SEARCHED} events have them"


class EventsQuery(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which events."""

    #: these types alone; a `*` at the end stands for anything
    type: Annotated[
        tuple[EventType, ...], Meta(max_length=20, description="types; a `*` at the end stands for anything")
    ] = ()
    #: about these subjects alone, such as `gpu0`
    subject: Annotated[tuple[Subject, ...], Meta(max_length=20, description="subjects, such as `gpu0`")] = ()
    #: what came after it comes first; for clients that cannot send `Last-Event-ID`, which wins over it
    since: Annotated[str, Meta(max_length=41, description="id of an event, or Unix time in milliseconds")] = ""
    #: without `since`
    backfill: Annotated[int, Meta(ge=0, le=1000, description=_BACKFILL)] = 0


def routes(feed: Feed) -> list[web.RouteDef]:
    """`feed` has the subscribers; who closes the server closes it first, or each of them is waited for."""

    async def follow(request: web.Request) -> web.StreamResponse:
        query = read_query(EventsQuery, request.rel_url.query.items())
        since = request.headers.get(LAST_EVENT_ID) or query.since
        try:
            after = Position.read(since) if since else None
        except ValueError as error:
            return problem(400, str(error))
        subscriber = Subscriber(Wanted(query.type, query.subject), chunked=request.version >= (1, 1))
        response = web.StreamResponse(headers=_HEADERS | {hdrs.CONTENT_TYPE: MEDIA_TYPE})
        try:
            async with feed.subscribed(subscriber):
                await response.prepare(request)
                await response.write(_RETRY)
                subscriber.open(request.transport)
                await feed.serve(subscriber, response.write, after, query.backfill)
        except FeedFull:
            detail = "there are as many listeners to the events as this server takes; try again later"
            return problem(503, detail, {hdrs.RETRY_AFTER: "10"})
        except TimeoutError:
            subscriber.cut_off()
        except ConnectionError:
            pass  # he is gone
        except Exception:
            if not response.prepared:
                raise
            _log.exception("the events to %s ended by a bug; he is cut off", request.remote)
            subscriber.cut_off()
        return response

    return [web.get("/api/events", follow, allow_head=False)]
