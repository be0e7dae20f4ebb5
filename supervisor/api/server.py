"""The HTTP server: puts the resources together, serves, and closes."""

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final

from aiohttp import web
from msgspec import Struct

from supervisor.api import health, home, openapi
from supervisor.api.adapter import Decide, Facts, resource
from supervisor.api.address import AddressUnavailable, listen, url_of
from supervisor.api.bodies import LARGEST_BYTES
from supervisor.api.connections import accept
from supervisor.api.guard import Access, guard
from supervisor.api.problems import problems
from supervisor.route import Route

__all__ = ["AddressUnavailable", "Contents", "Server", "serve", "serve_on"]

#: A request under way may finish within this time when we close.
_GRACE_S: Final = 1.0


class Contents(Struct, frozen=True, kw_only=True):
    """What the server shows."""

    facts: Facts
    #: what is still missing before this supervisor does its job, one sentence each
    ready: Callable[[], Sequence[str]]
    #: every route, and how its handler commits what it decides
    routes: Sequence[tuple[Route, Decide | None]] = ()
    #: what is no route: streams, and what others have formats for
    plain: Sequence[web.RouteDef] = ()
    access: Access = Access()
    #: called before the connections are closed: whoever listens to a stream is let go
    closing: Sequence[Callable[[], Any]] = ()


class Server:
    """A server that listens at `url`."""

    def __init__(self, contents: Contents, runner: web.AppRunner, accepting: asyncio.Server, url: str) -> None:
        """Take over `runner` and what listens."""
        self.url = url
        self._contents = contents
        self._runner = runner
        self._accepting = accepting

    @property
    def connections(self) -> int:
        """How many there are now."""
        return len(self._runner.server.connections) if self._runner.server else 0

    async def close(self) -> None:
        """Stop listening, and give requests under way a second."""
        self._accepting.close()
        for close in self._contents.closing:
            close()
        await self._runner.cleanup()


async def serve(host: str, port: int, contents: Contents) -> Server:
    """Listen at `host`:`port`, or at a free port where that is 0, and serve there.

    :raises AddressUnavailable: the port is taken or forbidden, or the host is not this machine's.
    """
    return await serve_on(listen(host, port), contents)


async def serve_on(listener: socket.socket, contents: Contents) -> Server:
    """Serve on a socket of `supervisor.api.address.listen`, and take it over."""
    url = url_of(listener)
    application = web.Application(middlewares=[problems, guard(contents.access)], client_max_size=LARGEST_BYTES)
    routes = [route for route, _ in contents.routes]
    application.add_routes([
        *home.routes(routes),
        *health.routes(contents.ready),
        *openapi.routes(routes, contents.access.needs_token),
        *contents.plain,
        *(resource(route, contents.facts, decide) for route, decide in contents.routes),
    ])  # fmt: skip
    runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=_GRACE_S)
    try:
        await runner.setup()
        assert runner.server is not None, "it is set up"
        accepting = await accept(listener, runner.server)
    except BaseException:
        listener.close()
        await runner.cleanup()
        raise
    return Server(contents, runner, accepting, url)
