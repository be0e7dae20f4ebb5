"""The HTTP client of all polls: one session, no proxy, no redirect, no cookie, and no more than a bounded body."""

import asyncio
import errno
import os
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from supervisor.masking import masked
from supervisor.sampling.counters.source import Untold, shown

if TYPE_CHECKING:
    import aiohttp

#: The largest answer that is read.
LARGEST_BODY: Final = 1 << 20
_OK: Final = range(200, 300)
_REDIRECT: Final = range(300, 400)


class Client:
    """A session that is there from the first `open` to the last `close`; aiohttp is imported at the first."""

    def __init__(self) -> None:
        """Opens nothing yet."""
        self._users = 0
        self._session: aiohttp.ClientSession | None = None

    @property
    def closed(self) -> bool:
        """Whether nobody uses it."""
        return self._session is None

    async def open(self) -> None:
        """One user more."""
        self._users += 1
        if self._session is not None:
            return
        from aiohttp import ClientSession, DummyCookieJar, TCPConnector

        # Connections are kept: one anew at each poll would make a thread-a-connection server look busy, and it is such
        # programs that are watched. A proxy of the environment is meant for the world, not for this machine's programs.
        self._session = ClientSession(
            connector=TCPConnector(limit=0),
            cookie_jar=DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            headers={"Accept-Encoding": "identity", "User-Agent": "flyball"},
        )

    async def close(self) -> None:
        """One user less; the last one closes the session."""
        self._users -= 1
        if self._users == 0 and self._session is not None:
            session, self._session = self._session, None
            await session.close()

    async def fetch(
        self, method: str, url: str, *, body: bytes | None, headers: dict[str, str], timeout_s: float
    ) -> bytes:
        """The body of the answer, all of it within `timeout_s`.

        A connection that was kept and that the server has closed meanwhile is no trouble: it is asked once more.

        :raises Untold: there is none that can be used; the text goes on after the source's name.
        """
        from aiohttp import ClientConnectorError, ClientError, ClientOSError, ServerDisconnectedError

        try:
            async with asyncio.timeout(timeout_s):
                try:
                    return await self._ask(method, url, body, headers)
                except (ServerDisconnectedError, ClientOSError) as error:
                    if isinstance(error, ClientConnectorError):
                        raise
                    return await self._ask(method, url, body, headers)
        except TimeoutError:
            raise Untold(f"no whole answer came within {timeout_s:g} s; raise timeout_s if it is only slow") from None
        except (ClientError, OSError, ValueError) as error:
            raise Untold(_why(error)) from None

    async def _ask(self, method: str, url: str, body: bytes | None, headers: dict[str, str]) -> bytes:
        assert self._session is not None, "it is open"
        async with self._session.request(method, url, data=body, headers=headers, allow_redirects=False) as answer:
            if answer.status not in _OK:
                raise Untold(_refusal(answer))
            encoding = answer.headers.get("Content-Encoding", "identity")
            if encoding != "identity":
                raise Untold(f"the answer is compressed ({shown(encoding)}) though that was not asked for; turn it off")
            content = bytearray()
            too_large = (answer.content_length or 0) > LARGEST_BODY
            while not too_large and (chunk := await answer.content.readany()):
                content += chunk
                too_large = len(content) > LARGEST_BODY
            if too_large:
                answer.close()
                raise Untold(f"the answer is larger than {LARGEST_BODY >> 20} MiB; point url at a smaller resource")
            return bytes(content)


def _refusal(answer: "aiohttp.ClientResponse") -> str:
    """What a status that is no success means."""
    try:
        status = f"{answer.status} {HTTPStatus(answer.status).phrase}"
    except ValueError:
        status = str(answer.status)
    if answer.status in _REDIRECT:
        where = shown(masked(answer.headers.get("Location", "")))
        return f"it answered {status}, a way to {where} that is not followed; let url name the place itself"
    match answer.status:
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            advice = "see authorization_file"
        case HTTPStatus.NOT_FOUND:
            advice = "check the path in url"
        case HTTPStatus.METHOD_NOT_ALLOWED:
            advice = "choose another method"
        case _:
            advice = "see the program's own log"
    return f"it answered {status}; {advice}"


def _why(error: Exception) -> str:
    """An error of the client in words of ours: its own may hold the address with its password."""
    from aiohttp import (
        ClientConnectorCertificateError,
        ClientConnectorDNSError,
        ClientConnectorSSLError,
        ClientPayloadError,
        ClientResponseError,
        InvalidURL,
        ServerDisconnectedError,
    )

    match error:
        case InvalidURL():
            return "its address cannot be understood; correct url"
        case ClientConnectorDNSError():
            return "its host name is unknown; check url"
        case ClientConnectorCertificateError():
            why = str(getattr(error.certificate_error, "verify_message", "")).rstrip(".") or "it is not valid"
            return f"its certificate is not trusted: {why}; SSL_CERT_FILE may name who vouches for it"
        case ClientConnectorSSLError():
            return "what answers there does not speak TLS; check https and the port in url"
        case ServerDisconnectedError():
            return "it closes the connection without an answer; see the program's own log"
        case ClientPayloadError():
            return "it broke off in the middle of its answer; see the program's own log"
        case ClientResponseError():
            return "what answers there does not speak HTTP; check the port in url"
        case OSError() if error.errno == errno.ECONNREFUSED:
            return "connection refused; is the program running, and does it listen there?"
        case OSError():
            why = os.strerror(error.errno) if error.errno and error.errno > 0 else type(error).__name__
            return f"cannot be asked: {why}; check url"
        case _:
            return f"cannot be asked: {type(error).__name__}; check url"
