"""Turns a `Route` into a handler of aiohttp: reads the request, asks the route, encodes the answer."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from inspect import isawaitable
from typing import Any, Final

import msgspec
from aiohttp import hdrs, web
from msgspec import Struct

from schemas.sample import Sample
from schemas.workload import LedgerAnswer
from supervisor.api import bodies
from supervisor.api.reading import read_body, read_path, read_query
from supervisor.handler import Decisions
from supervisor.route import Answered, Asked, Nothing, Route

_HEADERS: Final = {
    hdrs.CONTENT_TYPE: bodies.MEDIA_TYPE, hdrs.CACHE_CONTROL: "no-store", "X-Content-Type-Options": "nosniff",
}  # fmt: skip
_NOTHING: Final = Nothing()
#: Queries are few and come again and again.
_QUERIES_KEPT: Final = 256

_to_json: Final = msgspec.json.Encoder().encode

Decide = Callable[[Decisions], Awaitable[Sequence[LedgerAnswer]]]


class Facts(Struct, frozen=True, kw_only=True):
    """What every route may ask for: the latest full sample, and the settings in force by section."""

    latest: Callable[[], Sample | None]
    settings: Callable[[], Mapping[str, Struct]] = dict


def resource(route: Route, facts: Facts, decide: Decide | None = None) -> web.RouteDef:
    """The route as aiohttp takes it; `decide` commits for the handler that brought it."""
    queries: dict[str, Any] = {}

    def query_of(request: web.Request) -> Any:
        text = request.rel_url.raw_query_string
        known = queries.get(text)
        if known is None:
            known = read_query(route.query, request.rel_url.query.items())
            if len(queries) < _QUERIES_KEPT:
                queries[text] = known
        return known

    async def answer(request: web.Request) -> web.Response:
        asked = Asked(
            query=query_of(request),
            path=_NOTHING if route.path_kind is Nothing else read_path(route.path_kind, request.match_info),
            body=_NOTHING if route.body is None else read_body(route.body, await bodies.read(request)),
            headers=request.headers,
            who=f"api {request.remote}",
            latest=facts.latest(),
            settings=facts.settings(),
            decide=decide,
        )
        found = route.call(asked)
        if isawaitable(found):
            found = await found
        if not isinstance(found, Answered):
            return web.Response(status=route.status, body=_to_json(found), headers=_HEADERS)
        return web.Response(
            status=found.status or route.status, body=_to_json(found.body), headers={**_HEADERS, **found.headers}
        )

    return web.route(route.method, route.path, answer, expect_handler=bodies.expected)
