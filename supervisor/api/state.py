"""`/api/status`: the latest state of this host, the same document as `flyball status --json`."""

from collections.abc import Callable

import msgspec
from aiohttp import web

from schemas.status import Status


def routes(status: Callable[[], Status]) -> list[web.RouteDef]:
    """`status` is asked for every request."""

    async def show(request: web.Request) -> web.Response:
        body = msgspec.json.encode(status())
        return web.Response(body=body, content_type="application/json", headers={"Cache-Control": "no-store"})

    return [web.get("/api/status", show)]
