"""One connection to the server: several commands in one write, replies in order, every trouble as one of our errors.

redis-py's connection is used without its client and pool, for no retries (which duplicate writes) and no locks; once
it stands, `Wire` drives its transport. One task at a time may use a connection.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from redis import exceptions as redis_errors
from redis.asyncio.connection import Connection as RedisConnection
from redis.asyncio.connection import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from supervisor.bus.script import library, library_name, scripts
from supervisor.bus.wire import Command, Wire
from supervisor.errors import BusError, BusFull, BusLost, BusRefused, ConfigurationError, Fenced
from supervisor.masking import masked

__all__ = ["Command", "Connection"]

#: The first word of a refusal: for good · for now · until our functions are loaded again.
_REFUSED: Final = frozenset({"NOAUTH", "WRONGPASS", "NOPERM"})
_PASSING: Final = frozenset(
    {"LOADING", "BUSY", "MASTERDOWN", "READONLY", "TRYAGAIN", "CLUSTERDOWN", "MISCONF", "NOREPLICAS"}
)
_FORGOTTEN: Final = frozenset({"NOSCRIPT", "Function not found"})


class Connection:
    """A connection that is opened on first use and again after it broke."""

    def __init__(self, url: str, *, timeout_s: float, password_file: str = "") -> None:
        """Remember where to connect.

        :raises ConfigurationError: when the URL or the password file cannot be used.
        """
        self.url = url
        self.timeout_s = timeout_s
        self._redis = _redis_connection(url, timeout_s, password_file)
        self._wire: Wire | None = None
        self._has_functions = True

    @property
    def is_open(self) -> bool:
        """Whether a connection stands, as far as we know."""
        return self._wire is not None

    async def open(self) -> None:
        """Connect and load the functions; does nothing where a connection stands.

        :raises BusLost: nothing answers there. :raises BusRefused: the server does not want us, or is too old.
        """
        if self.is_open:
            return
        try:
            async with asyncio.timeout(self.timeout_s):
                await self._redis.connect()
            self._wire = Wire.taken_from(self._redis)
            await self._load()
        except BaseException as error:  # noqa: BLE001 - raised again, in our words
            await self._fail(error)

    async def close(self) -> None:
        """Drop the connection; what was under way is lost."""
        self._wire = None
        await self._redis.disconnect(nowait=True)

    async def send(self, *commands: Command) -> None:
        """Write all commands at once; each needs one `receive`.

        :raises BusLost: the connection broke.
        """
        try:
            self._standing().send(commands)
        except BaseException as error:  # noqa: BLE001 - raised again, in our words
            await self._fail(error)

    async def receive(self, wait_s: float = 0.0) -> Any:
        """The next reply; `wait_s` is how long the server may block on top of the usual timeout.

        :raises BusError: what the server answered, or that it did not. After a `BusLost` the connection is closed.
        """
        try:
            return await self._standing().receive(self.timeout_s + wait_s)
        except BaseException as error:  # noqa: BLE001 - raised again, in our words
            await self._fail(error)

    async def replies(self, count: int) -> list[Any]:
        """The next `count` replies; what the server refused stands in its place as a `BusError`.

        So no refusal leaves a reply unread that would be taken for the answer to something else.

        :raises BusLost: the connection broke, and is closed.
        """
        replies: list[Any] = []
        for _ in range(count):
            try:
                replies.append(await self.receive())
            except BusLost:
                raise
            except BusError as error:
                replies.append(error)
        return replies

    async def ask(self, *command: bytes | str | int | float, wait_s: float = 0.0) -> Any:
        """One command, one reply."""
        await self.open()
        await self.send(command)
        return await self.receive(wait_s)

    def function(self, name: str, keys: Sequence[str], *arguments: bytes | str | int | float) -> Command:
        """The command that calls one of our server-side functions."""
        script = scripts()[name]
        if self._has_functions:
            return ("FCALL", script.function, len(keys), *keys, *arguments)
        return ("EVALSHA", script.sha1, len(keys), *keys, *arguments)

    async def call(self, name: str, keys: Sequence[str], *arguments: bytes | str | int | float) -> Any:
        """Call one of our server-side functions."""
        await self.open()
        return await self.ask(*self.function(name, keys, *arguments))

    def _standing(self) -> Wire:
        if self._wire is None:
            raise redis_errors.ConnectionError("there is no connection")
        return self._wire

    async def _load(self) -> None:
        """Load our functions as a library; as scripts where the server has no functions, or does not let us."""
        try:
            await self._load_library()
        except BusLost:
            raise
        except BusError as error:
            if isinstance(error.__cause__, redis_errors.AuthenticationError):
                raise  # to ask further before the password makes the server hang up
            if "unknown command" not in str(error).lower() and not isinstance(error, BusRefused):
                raise
            self._has_functions = False
            await self.send(*(("SCRIPT", "LOAD", script.text) for script in scripts().values()))
            for reply in await self.replies(len(scripts())):
                if isinstance(reply, BusError):
                    raise reply from error

    async def _load_library(self) -> None:
        """Load it where it is missing; a server over its memory limit would refuse even what is there already."""
        await self.send(("FUNCTION", "LIST", "LIBRARYNAME", library_name()))
        if not await self.receive():
            await self.send(("FUNCTION", "LOAD", library()))
            try:
                await self.receive()
            except BusError as error:
                if "already exists" not in str(error):  # another connection of ours was quicker
                    raise
        self._has_functions = True

    async def _fail(self, error: BaseException) -> NoReturn:
        """Raise it in our words. A refusal leaves the connection in step; after anything else it is closed."""
        translated = self._translated(error)
        in_step = isinstance(translated, BusError) and not isinstance(translated, BusLost)
        if not in_step or isinstance(error, redis_errors.ConnectionError):  # an AuthenticationError is one
            await self.close()
        if translated is error:
            raise error
        raise translated from error

    def _translated(self, error: BaseException) -> BaseException:
        """Every foreign error in our words; cancellation and our own errors stay what they are."""
        where, text = masked(self.url), str(error)
        match error:
            case redis_errors.AuthenticationError():
                return _refused(where, text)
            case redis_errors.ConnectionError(__cause__=redis_errors.AuthenticationError()):
                return _refused(where, text)  # while connecting, redis-py calls that a lost connection
            case redis_errors.ResponseError():
                return _refusal(where, error)
            case TimeoutError() | redis_errors.TimeoutError():
                return BusLost(f"the bus at {where} did not answer within {self.timeout_s:g} s")
            case redis_errors.BusyLoadingError():
                return BusLost(f"the bus at {where} cannot serve right now", why=text)
            case redis_errors.ConnectionError() if "CERTIFICATE_VERIFY_FAILED" in text:
                return BusRefused(
                    f"the certificate of the bus at {where} is not trusted", why=text,
                    hint="Name the authority that signed it: rediss://…?ssl_ca_certs=FILE",
                )  # fmt: skip
            case redis_errors.ConnectionError() | OSError():
                return BusLost(f"the bus at {where} is away", why=text)
            case redis_errors.RedisError():
                return BusError(f"the bus at {where} said what is no Redis", why=text)
        return error


def _refusal(where: str, error: redis_errors.ResponseError) -> BusError:
    """What the server answered instead; redis-py takes the first word off those that it knows."""
    text = str(error)
    code = error.status_code if error.status_code not in (None, "ERR") else text.partition(" ")[0]
    if code in _REFUSED:
        return _refused(where, text)
    if code == "OOM" or "-OOM " in text:  # before Redis 7 a script's own error stands in the middle
        return BusFull(f"the bus at {where} is over its memory limit", why=text)
    if code in _PASSING:
        return BusLost(f"the bus at {where} cannot serve right now", why=text)
    if code in _FORGOTTEN or text.removeprefix("ERR ") in _FORGOTTEN:
        return BusLost(f"the bus at {where} has lost our functions", why=text)
    if code == "FENCED":
        return Fenced("another supervisor took the lease of this host", why=text.removeprefix("FENCED "))
    if code == "NOLEASE":
        return BusLost(f"the bus at {where} has lost its data", why=text.removeprefix("NOLEASE "))
    return BusError(f"the bus at {where} refused a request", why=text)


def _refused(where: str, text: str) -> BusRefused:
    return BusRefused(
        f"the bus at {where} refuses us",
        why=text,
        hint="Check bus.url and bus.password_file; try: redis-cli -h HOST -p PORT --user USER --askpass PING",
    )


def _redis_connection(url: str, timeout_s: float, password_file: str) -> RedisConnection:
    try:
        pool = ConnectionPool.from_url(url)
        if password_file:
            pool.connection_kwargs["password"] = Path(password_file).read_text("utf-8").strip()
    except ValueError as error:
        raise ConfigurationError([f"bus.url: {masked(url)} cannot be used: {error}"]) from error
    except OSError as error:
        raise ConfigurationError([f"bus.password_file: {password_file} cannot be read: {error.strerror}"]) from error
    pool.connection_kwargs |= {
        "protocol": 2,
        "socket_timeout": None,
        "socket_connect_timeout": timeout_s,
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
    }
    connection: RedisConnection = pool.make_connection()
    return connection
