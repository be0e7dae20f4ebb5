"""`/`: what there is, in one line."""

from aiohttp import web

_TEXT = "Flyball: /api/status shows this host, /readyz whether it is looked after, /livez whether anyone is here.\n"


def routes() -> list[web.RouteDef]:
    """The page itself comes with the full API."""

    async def show(request: web.Request) -> web.Response:
        return web.Response(text=_TEXT)

    return [web.get("/", show)]
