"""Reads the body of a request: of which type, how large, and how long it may take."""

import asyncio
from typing import Final

from aiohttp import hdrs, web
from aiohttp.web_protocol import RequestPayloadError

from supervisor.api.problems import problem
from supervisor.route import Refusal

MEDIA_TYPE: Final = "application/json"
#: A body may not be larger than this.
LARGEST_BYTES: Final = 64 * 1024
#: A body that is not there after this time does not come.
_WITHIN_S: Final = 10.0
_CONTINUE: Final = "100-continue"


async def read(request: web.Request) -> bytes:
    """The body, whole.

    :raises Refusal: it is no JSON by its own word, it is too large, it does not come, or it breaks off.
    """
    if not request.body_exists:
        return b""
    if request.content_type != MEDIA_TYPE or (request.charset or "utf-8").lower() not in ("utf-8", "utf8", "us-ascii"):
        said = request.headers.get(hdrs.CONTENT_TYPE, "nothing")
        raise Refusal(415, f"the body is {said[:100]!r} by its Content-Type; send {MEDIA_TYPE}, in UTF-8")
    if (coding := request.headers.get(hdrs.CONTENT_ENCODING, "identity").lower()) != "identity":
        raise Refusal(415, f"the body is encoded with {coding[:100]!r}; send it as it is")
    if request.headers.get(hdrs.EXPECT, "").lower() == _CONTINUE:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer itself has not begun
    try:
        async with asyncio.timeout(_WITHIN_S):
            return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise too_large() from None
    except TimeoutError:
        raise Refusal(408, f"the body did not come within {_WITHIN_S:g} s", headers={"Connection": "close"}) from None
    except (RequestPayloadError, ConnectionError) as error:
        raise Refusal(400, f"the body breaks off: {error}") from error


def too_large() -> Refusal:
    """The refusal of a body over the limit; whoever still sends it is hung up on."""
    what = f"the body is larger than {LARGEST_BYTES} bytes ({LARGEST_BYTES >> 10} KiB), the most there may be"
    return Refusal(413, what, headers={"Connection": "close"})


async def expected(request: web.Request) -> web.Response | None:
    """Who waits for `100 Continue` gets it from `read`, once his body is wanted: a refusal comes before he sends it."""
    if (expectation := request.headers.get(hdrs.EXPECT, "")).lower() == _CONTINUE:
        return None
    return problem(417, f"this server cannot fulfil `Expect: {expectation[:100]}`; leave it out")
