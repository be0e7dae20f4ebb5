"""Refuses what a page of elsewhere asks through a name that it has bound to this machine (DNS rebinding).

A browser keeps pages apart by name, not by address: `evil.example`, resolved to 127.0.0.1, may read what we answer. The
Host header then still says evil.example, so only names and addresses of loopback are served.
"""

from urllib.parse import urlsplit

from aiohttp import web

from supervisor.api.problems import Handler, problem
from supervisor.loopback import is_loopback


@web.middleware
async def loopback_only(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer 403 unless every Host header is loopback; without one it is no browser."""
    for host in request.headers.getall("Host", []):
        if not is_loopback(_name(host)):
            return problem(403, f"this server is called localhost or 127.0.0.1, not {host[:100]!r}")
    return await handler(request)


def _name(host: str) -> str:
    """The name in `name:port` or `[address]:port`."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
