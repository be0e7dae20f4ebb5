"""`/`: what there is, a line each."""

from collections.abc import Iterable

from aiohttp import web

from supervisor.api.plain import PLAIN
from supervisor.route import Route


def routes(table: Iterable[Route]) -> list[web.RouteDef]:
    """Lists the routes of `table`, and what is served beside them."""
    rows = [(route.method, route.path, route.summary) for route in table]
    rows += [("GET", plain.path, plain.summary) for plain in PLAIN]
    rows.sort(key=lambda row: (row[1], row[0]))
    width = max(len(path) for _, path, _ in rows)
    text = "".join(f"{method:<7}{path:<{width + 2}}{summary}\n" for method, path, summary in rows)

    async def show(request: web.Request) -> web.Response:
        return web.Response(text=text)

    return [web.get("/", show)]
