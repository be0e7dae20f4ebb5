"""`/livez`: the event loop turns. `/readyz`: bus and sampler are fresh."""

from collections.abc import Callable, Sequence

import orjson
from aiohttp import web


def routes(ready: Callable[[], Sequence[str]]) -> list[web.RouteDef]:
    """`ready` tells what is missing, one sentence each; nothing means ready.

    Liveness never depends on the bus: a restart would not bring it back, and would end the protection of this host.
    """

    async def livez(request: web.Request) -> web.Response:
        return web.json_response({"state": "alive"})

    async def readyz(request: web.Request) -> web.Response:
        missing = list(ready())
        body = orjson.dumps({"state": "waiting" if missing else "ready", "missing": missing})
        return web.Response(status=503 if missing else 200, body=body, content_type="application/json")

    return [web.get("/livez", livez), web.get("/readyz", readyz)]
