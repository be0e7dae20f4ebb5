"""The routes that handlers bring: one that cannot be served costs itself alone, and a line in the log."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

import msgspec
from aiohttp import web

from schemas.workload import LedgerAnswer
from supervisor.api.adapter import Decide
from supervisor.api.plain import PLAIN
from supervisor.handler import Decisions, Handler
from supervisor.route import Route

_log: Final = logging.getLogger(__name__)


def brought(
    handlers: Sequence[Handler],
    own: Sequence[Route],
    decide: Callable[[str, Decisions], Awaitable[Sequence[LedgerAnswer]]],
) -> list[tuple[Route, Decide | None]]:
    """Every route of `handlers` that can be served beside our `own`, and how each commits: `decide` as that handler."""
    taken = {(route.method, route.path) for route in own} | {("GET", plain.path) for plain in PLAIN}
    found: list[tuple[Route, Decide | None]] = []
    for handler in handlers:
        for route in _routes(handler):
            if why := _unusable(route, taken):
                _log.error("handler %s: %s %s is not served: %s", handler.name, route.method, route.path, why)
            else:
                taken.add((route.method, route.path))
                found.append((route, partial(decide, handler.name)))
    return found


def _routes(handler: Handler) -> Sequence[Route]:
    try:
        return handler.routes()
    except Exception:  # noqa: BLE001 - a handler may fail in any way, which must not keep the others back
        _log.exception("handler %s cannot tell its routes; none is served", handler.name)
        return ()


def _unusable(route: Route, taken: set[tuple[str, str]]) -> str:
    if (route.method, route.path) in taken:
        return "another one has that path"
    if not route.path.startswith("/api/"):
        return "its path does not begin with /api/"
    types = [route.answer, *route.further.values(), route.query, route.path_kind]
    try:
        msgspec.json.schema_components([*types, *([] if route.body is None else [route.body])])
    except TypeError as error:
        return f"a type of it has no schema: {error}"
    try:
        web.UrlDispatcher().add_route(route.method, route.path, _nobody)
    except ValueError as error:
        return str(error)
    return ""


async def _nobody(request: web.Request) -> web.Response:
    """Stands for a resource where a path is tried."""
    raise web.HTTPNotFound
