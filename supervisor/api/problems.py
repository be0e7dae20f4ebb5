"""Every HTTP error as application/problem+json, RFC 9457."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from logging import getLogger
from typing import Final

import orjson
from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
MEDIA_TYPE: Final = "application/problem+json"
_log: Final = getLogger(__name__)


def problem(status: int, detail: str, headers: dict[str, str] | None = None) -> web.Response:
    """A response with the members `type`, `title`, `status` and `detail`."""
    title = HTTPStatus(status).phrase
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    return web.Response(status=status, body=orjson.dumps(body), content_type=MEDIA_TYPE, headers=headers)


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn what a resource raises into a problem; a bug is logged with its traceback and told without it."""
    try:
        return await handler(request)
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        return problem(405, f"{request.path} takes {allowed}, not {request.method}", {"Allow": allowed})
    except web.HTTPNotFound:
        return problem(404, f"there is nothing at {request.path}; / lists what there is")
    except web.HTTPError as error:
        return problem(error.status, error.text or error.reason)
    except Exception:  # noqa: BLE001 -- the one place where a bug in a resource becomes an answer
        _log.exception("%s %s failed", request.method, request.path)
        return problem(500, "this is a bug in Flyball; the supervisor's log has the details")
