"""The HTTP server: puts the resources together, serves, and closes."""

import socket
from collections.abc import Callable, Sequence
from typing import Final

from aiohttp import web

from schemas.status import Status
from supervisor.api import health, home, state
from supervisor.api.address import AddressUnavailable, listen, url_of
from supervisor.api.problems import problems
from supervisor.api.rebinding import loopback_only

__all__ = ["AddressUnavailable", "Server", "serve", "serve_on"]

#: A request under way may finish within this time when we close.
_GRACE_S: Final = 1.0


class Server:
    """A server that listens at `url`."""

    def __init__(self, runner: web.AppRunner, url: str) -> None:
        """Take over `runner`."""
        self.url = url
        self._runner = runner

    async def close(self) -> None:
        """Stop listening, and give requests under way a second."""
        await self._runner.cleanup()


async def serve(host: str, port: int, status: Callable[[], Status], ready: Callable[[], Sequence[str]]) -> Server:
    """Listen at `host`:`port`, or at a free port where that is 0, and serve there.

    :raises AddressUnavailable: the port is taken or forbidden, or the host is not this machine's.
    """
    return await serve_on(listen(host, port), status, ready)


async def serve_on(listener: socket.socket, status: Callable[[], Status], ready: Callable[[], Sequence[str]]) -> Server:
    """Serve on a socket of `supervisor.api.address.listen`, and take it over.

    `status` gives the present state, `ready` what is still missing (one sentence each; see `/readyz`).
    """
    application = web.Application(middlewares=[loopback_only, problems])
    application.add_routes([*home.routes(), *health.routes(ready), *state.routes(status)])
    runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=_GRACE_S)
    try:
        await runner.setup()
        await web.SockSite(runner, listener).start()
    except BaseException:
        listener.close()
        await runner.cleanup()
        raise
    return Server(runner, url_of(listener))
