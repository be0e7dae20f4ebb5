"""Where the bus is, and a connection to it.

The places are DESIGN §7's: FLYBALL_URL, `$FLYBALL_STATE_DIR/bus.sock`, `bus.sock` in the XDG state directory,
`/run/flyball/bus.sock`. A socket counts only if its owner is this user or root; TCP only where FLYBALL_URL names it.
"""

import os
import socket
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

SYSTEM_SOCKET: Final = Path("/run/flyball/bus.sock")
#: A request that takes longer counts as a lost bus.
TIMEOUT_S: Final = 2.0
_SCHEMES: Final = ("redis", "rediss", "unix")


class BusLost(Exception):
    """No bus here, or no longer; the text says why."""


class Refused(BusLost):
    """The server does not want to do something; the connection stands."""


def candidates(environ: Mapping[str, str] = os.environ) -> list[str]:
    """URLs to try, in order, whether or not anything is there; a URL in FLYBALL_URL is the only one."""
    if url := environ.get("FLYBALL_URL"):
        return [url]
    places = []
    if directory := environ.get("FLYBALL_STATE_DIR"):
        places.append(Path(directory) / "bus.sock")
    # the XDG specification: unset, empty or relative means the default
    state = Path(environ.get("XDG_STATE_HOME", ""))
    if not state.is_absolute():
        state = Path(environ.get("HOME") or Path.home()) / ".local" / "state"
    places += [state / "flyball" / "bus.sock", SYSTEM_SOCKET]
    return [f"unix://{place}" for place in dict.fromkeys(places)]


def described(url: str) -> str:
    """`url` for people: without a password."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "FLYBALL_URL"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def check(url: str) -> None:
    """Look whether `url` may be used, without connecting.

    :raises BusLost: an unknown scheme, no socket there, or a socket of somebody else.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise BusLost(f"FLYBALL_URL is not a URL: {error}") from error
    if parts.scheme not in _SCHEMES:
        raise BusLost(f"FLYBALL_URL starts with none of {', '.join(f'{scheme}://' for scheme in _SCHEMES)}")
    if parts.scheme != "unix":
        return
    path = Path(unquote(parts.path))
    try:
        status = path.stat()
    except OSError as error:
        raise BusLost(f"{path}: {error.strerror}") from error
    if not stat.S_ISSOCK(status.st_mode):
        raise BusLost(f"{path} is not a socket")
    if status.st_uid not in (0, os.getuid()):
        raise BusLost(f"{path} belongs to uid {status.st_uid}, neither this user nor root: not used")


def connect() -> "tuple[Connection, str]":
    """A connection to the first place where a bus listens, and its URL.

    :raises BusLost: nowhere; with the reason for each place.
    """
    reasons = []
    for url in candidates():
        try:
            check(url)
            return Connection(url), url
        except BusLost as lost:
            reasons.append(str(lost))
    raise BusLost("; ".join(reasons))


class Connection:
    """One connection to the bus; nothing is ever sent twice behind our back."""

    def __init__(self, url: str) -> None:
        """Connect.

        :raises BusLost: nobody listens, or we are refused.
        """
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        self._errors = (redis.RedisError, OSError)
        self._refusal = redis.ResponseError
        try:
            # RESP2, because then the only commands beyond ours are AUTH, CLIENT SETINFO (may be refused) and SELECT
            pool = redis.ConnectionPool.from_url(
                url,
                protocol=2,
                retry=Retry(NoBackoff(), 0),
                socket_timeout=TIMEOUT_S,
                **({} if url.startswith("unix") else {"socket_connect_timeout": TIMEOUT_S, "socket_keepalive": True}),
            )
            self._connection: Any = pool.make_connection()
        except (ValueError, TypeError) as error:
            raise BusLost(f"FLYBALL_URL cannot be used: {error}") from error
        try:
            self._connection.connect()
        except self._errors as error:
            raise BusLost(str(error)) from error

    def fileno(self) -> int:
        """The descriptor, for select.

        :raises BusLost: it is closed.
        """
        # redis-py has no public way to wait for several connections; this is the one private name we use
        connected: socket.socket | None = self._connection._get_socket()
        if connected is None:
            raise BusLost("the connection is closed")
        return connected.fileno()

    def send(self, *command: str | bytes) -> None:
        """Send a command without waiting for its reply.

        :raises BusLost: the connection broke.
        """
        try:
            self._connection.send_command(*command, check_health=False)
        except self._errors as error:
            raise BusLost(str(error)) from error

    def read(self) -> Any:
        """The next reply.

        :raises BusLost: the connection broke. :raises Refused: the server refused a command.
        """
        try:
            return self._connection.read_response()
        except self._refusal as refusal:
            raise Refused(str(refusal)) from refusal
        except self._errors as error:
            raise BusLost(str(error)) from error

    def has_more(self, within_s: float = 0.0) -> bool:
        """Whether something more can be read, at once or within so many seconds.

        :raises BusLost: the connection broke.
        """
        try:
            return bool(self._connection.can_read(within_s))
        except self._errors as error:
            raise BusLost(str(error)) from error

    def ask(self, commands: Sequence[Sequence[str | bytes]]) -> list[Any]:
        """Send all `commands` at once and return their replies; a refusal is returned as the exception it is.

        :raises BusLost: the connection broke; what was sent may or may not have arrived.
        """
        replies: list[Any] = []
        try:
            self._connection.send_packed_command(self._connection.pack_commands(commands), check_health=False)
            for _ in commands:
                try:
                    replies.append(self._connection.read_response(disconnect_on_error=False))
                except self._refusal as refusal:
                    replies.append(refusal)
        except self._errors as error:
            raise BusLost(str(error)) from error
        return replies

    def close(self) -> None:
        """Close it."""
        self._connection.disconnect()
