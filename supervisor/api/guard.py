"""Who may ask what: by a name of this machine, from no page of elsewhere, and with the token where one is needed."""

from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from msgspec import Struct

from supervisor.api.bodies import LARGEST_BYTES, too_large
from supervisor.api.origin import foreign_page
from supervisor.api.problems import problem
from supervisor.api.rebinding import known_hosts
from supervisor.api.token import Token
from supervisor.config import ApiSection, Auth
from supervisor.loopback import is_loopback

#: What answers without a token in any case: whether we live is no secret, and who asks that has none.
OPEN: Final = frozenset({"/livez", "/readyz"})


class Access(Struct, frozen=True, kw_only=True):
    """Who is let in; `token` is None only where `needs_token` is none."""

    needs_token: Auth = "none"
    token: Token | None = None
    #: beside those of loopback
    names: tuple[str, ...] = ()
    #: whether others than this machine can ask
    wide: bool = False


def access(settings: ApiSection, token: Token) -> Access:
    """What follows from the configuration."""
    wide = not is_loopback(settings.host)
    return Access(
        needs_token=settings.needs_token, token=token, wide=wide, names=(*settings.names, *((settings.host,) * wide))
    )


def guard(access: Access) -> Middleware:
    """The middleware that stands before every resource, and before what is not there."""
    stranger = known_hosts(access.names, addresses=access.wide)

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        headers, method = request.headers, request.method
        if host := stranger(headers.getall("Host", ())):
            return problem(403, f"this server is not called {host[:100]!r}; {_right_names(access)}")
        if ("Origin" in headers or "Sec-Fetch-Site" in headers) and (page := foreign_page(method, headers)):
            return problem(403, f"{page[:100]!r} is not the origin of this server; pages of others may not ask it")
        if _asks_for_token(access, request) and access.token is not None:
            given = headers.get("Authorization", "")
            if not access.token.opens(given):
                return _unauthorized(access.token, wrong=bool(given))
        length = request.content_length
        if length is not None and length > LARGEST_BYTES:
            raise too_large()
        return await handler(request)

    return guarded


def _asks_for_token(access: Access, request: web.Request) -> bool:
    """In the mode `changes`, what is not there is told as such before anybody is asked for a token."""
    match access.needs_token:
        case "all":
            return request.path not in OPEN
        case "changes":
            return request.method not in ("GET", "HEAD") and request.match_info.http_exception is None
    return False


def _unauthorized(token: Token, *, wrong: bool) -> web.Response:
    what = "the token in the header Authorization is not the right one" if wrong else "this needs the token"
    how = f"send `Authorization: Bearer TOKEN` with what stands in {token.path} on the machine of this server"
    error = ', error="invalid_token"' if wrong else ""
    return problem(401, f"{what}; {how}", {"WWW-Authenticate": f'Bearer realm="flyball"{error}'})


def _right_names(access: Access) -> str:
    named = ", ".join(sorted({"localhost", "127.0.0.1", *access.names}))
    return f"it answers to {named}" + (" and to addresses" if access.wide else "") + "; api.names adds others"
