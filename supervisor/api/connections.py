"""Connections to the HTTP server: no more than we can bear, none forever, and every error on them a problem.

A connection that waits costs some kilobytes and a descriptor, so their number is bounded; one that says nothing, or
half a request, ends after `IDLE_S`; one that does not read what it asked for is ended by the kernel.
"""

import asyncio
import logging
import socket
from typing import Any, Final

from aiohttp import web
from aiohttp.web_request import BaseRequest

from supervisor.api.problems import MEDIA_TYPE, problem, problem_body

#: A request has to be there this long after the connection or the last answer.
IDLE_S: Final = 30.0
#: What was sent must be taken within this time.
UNREAD_S: Final = 30.0
MOST: Final = 2_500
#: What follows a body that was refused is thrown away for so long, so that the refusal can be read.
_LINGERING_S: Final = 1.0
_BACKLOG: Final = 512
#: Requests are not logged: they would drown what is.
_NOBODY: Final[Any] = None
_log: Final = logging.getLogger(__name__)


async def accept(listener: socket.socket, server: web.Server) -> asyncio.Server:
    """Serve those who connect to `listener`, which is taken over."""
    loop = asyncio.get_running_loop()
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # who is accepted inherits it
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(UNREAD_S * 1000))

    def connection() -> asyncio.Protocol:
        if len(server.connections) >= MOST:
            return _Turned()
        return _Connection(
            server, loop=loop, access_log=_NOBODY, keepalive_timeout=IDLE_S, lingering_time=_LINGERING_S,
            auto_decompress=False,
        )  # fmt: skip

    return await loop.create_server(connection, sock=listener, backlog=_BACKLOG)


class _Connection(web.RequestHandler):
    """A connection as aiohttp has it, but for what is said of a request that is no HTTP."""

    __slots__ = ()

    def handle_error(
        self, request: BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """A problem, and the end of the connection: nobody knows what follows.

        :raises ConnectionError: an answer has begun already.
        """
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")
        if status == 500:
            _log.error("a request of %s failed", request.remote, exc_info=exc)
            detail = "this is a bug in Flyball; the supervisor's log has the details"
        else:
            why = (message or "").strip().splitlines()
            detail = f"this is no HTTP request: {why[0].rstrip(':') if why else 'it cannot be read'}"
        response = problem(status, detail[:300])
        response.force_close()
        return response


class _Turned(asyncio.Protocol):
    """Says that there is no room, and hangs up."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say it at once."""
        assert isinstance(transport, asyncio.WriteTransport), "a stream can be written"
        body = problem_body(503, f"there are {MOST} connections already; try again later")
        head = f"HTTP/1.1 503 Service Unavailable\r\nContent-Type: {MEDIA_TYPE}\r\nContent-Length: {len(body)}\r\n"
        transport.write(f"{head}Retry-After: 1\r\nConnection: close\r\n\r\n".encode() + body)
        transport.close()
