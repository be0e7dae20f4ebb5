"""Every HTTP error as application/problem+json, RFC 9457."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from logging import getLogger
from typing import Any, Final

import msgspec
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler
from msgspec import Struct

from supervisor.route import Refusal

MEDIA_TYPE: Final = "application/problem+json"
#: Whoever is told 503 may come back after this time.
_RETRY_AFTER_S: Final = "1"
_log: Final = getLogger(__name__)


class Fault(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that is wrong with a request: what, where, and what would be right."""

    detail: str
    #: where in the body, as a JSON pointer in a URL fragment
    pointer: str = ""
    #: which parameter of the query or path
    parameter: str = ""


class Problem(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a request was not obeyed; some have further members, which their `detail` says in words."""

    type: str
    title: str
    status: int
    #: for people: what, where, why, and what to do
    detail: str
    #: everything that is wrong with the request, at once
    errors: Sequence[Fault] = ()


def problem(
    status: int,
    detail: str,
    headers: Mapping[str, str] | None = None,
    members: Mapping[str, Any] | None = None,
) -> web.Response:
    """A response with the members of `Problem`, and `members` beside them."""
    own: dict[str, str] = {hdrs.CACHE_CONTROL: "no-store"}
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        own[hdrs.RETRY_AFTER] = _RETRY_AFTER_S
    body = problem_body(status, detail, members)
    return web.Response(status=status, body=body, content_type=MEDIA_TYPE, headers={**own, **(headers or {})})


def problem_body(status: int, detail: str, members: Mapping[str, Any] | None = None) -> bytes:
    """The document alone."""
    own = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    document = {**own, **(members or {}), **own}
    try:
        return msgspec.json.encode(document)
    except UnicodeEncodeError:  # it quotes a header that was no UTF-8
        return msgspec.json.encode(_printable(msgspec.to_builtins(document)))


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn what a resource raises into a problem; a bug is logged with its traceback and told without it."""
    try:
        return await handler(request)
    except Refusal as refusal:
        return problem(refusal.status, refusal.detail, refusal.headers, refusal.members)
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        return problem(405, f"{request.path[:200]} takes {allowed}, not {request.method}", {"Allow": allowed})
    except web.HTTPNotFound:
        return problem(404, f"there is nothing at {request.path[:200]}; / lists what there is")
    except web.HTTPError as error:
        return problem(error.status, error.text or error.reason)
    except Exception:  # noqa: BLE001 -- the one place where a bug in a resource becomes an answer
        _log.exception("%s %s failed", request.method, request.path[:200])
        return problem(500, "this is a bug in Flyball; the supervisor's log has the details")


def _printable(value: Any) -> Any:
    """The same with every text in it one that UTF-8 has."""
    match value:
        case str():
            return value.encode(errors="backslashreplace").decode()
        case dict():
            return {_printable(name): _printable(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_printable(inner) for inner in value]
    return value
