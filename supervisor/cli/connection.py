"""A command's own connection to the bus: one request, one reply, nothing repeated, and quick to import.

redis-py brings asyncio with it (0.1 s); `flyball status` as a whole has 0.25 s. This speaks the protocol through
hiredis over a plain socket, and reads `bus.url` as redis-py does: database, user, password and the ssl_* options.
"""

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any, Final
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import hiredis

from supervisor.config import BusSection
from supervisor.errors import BusError, BusFull, BusLost, BusRefused, ConfigurationError
from supervisor.masking import masked
from supervisor.paths import bus_socket, state_directory
from supervisor.rediscli import line

_REFUSALS: Final = ("NOAUTH", "WRONGPASS", "NOPERM", "ERR AUTH", "ERR invalid password")
_PASSING: Final = ("LOADING", "BUSY", "MASTERDOWN", "READONLY", "TRYAGAIN", "CLUSTERDOWN", "MISCONF")


class Connection:
    """A connection that has been opened; use it through `connected`."""

    def __init__(self, stream: socket.socket, where: str, timeout_s: float) -> None:
        """Speak over `stream`; `where` names the bus in errors, without a password."""
        self.where = where
        self._stream = stream
        self._timeout_s = timeout_s
        self._reader = hiredis.Reader()

    def ask(self, *command: bytes | str | int | float, wait_s: float = 0.0) -> Any:
        """One command, one reply as hiredis reads it; `wait_s` is how long the server may block on top of the timeout.

        :raises BusLost: no reply; the command may or may not have been done. :raises BusError: the server's refusal.
        """
        deadline = monotonic() + self._timeout_s + wait_s
        try:
            self._stream.settimeout(self._timeout_s)
            self._stream.sendall(hiredis.pack_command(command))  # type: ignore[arg-type]  # its stub means a 1-tuple
            while (reply := self._reader.gets()) is False:
                self._stream.settimeout(max(deadline - monotonic(), 0.001))
                received = self._stream.recv(65536)
                if not received:
                    raise ConnectionResetError("the server closed the connection")
                self._reader.feed(received)
        except TimeoutError as error:
            raise BusLost(f"the bus at {self.where} did not answer within {self._timeout_s + wait_s:g} s") from error
        except (OSError, hiredis.ProtocolError) as error:
            raise _away(self.where, error) from error
        if isinstance(reply, hiredis.ReplyError):
            raise _refusal(self.where, str(reply)) from reply
        return reply


def bus_url(bus: BusSection, environ: Mapping[str, str]) -> str:
    """The configured URL, else our own bus in the state directory.

    :raises StateDirectoryError: the state directory lies too deep for a socket, or nowhere.
    """
    return bus.url or f"unix://{bus_socket(state_directory(environ))}"


@contextmanager
def connected(bus: BusSection, environ: Mapping[str, str]) -> Iterator[Connection]:
    """A connection to the bus, authenticated, with its database selected; closed afterwards.

    :raises BusLost: nothing answers there. :raises BusRefused: user, password or certificate are wrong.
    :raises ConfigurationError: a file that the configuration names cannot be used.
    """
    url = bus_url(bus, environ)
    where = masked(url)
    parts = urlsplit(url)
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    credentials = _credentials(bus, parts, options)
    try:
        stream = _opened(parts, options, bus.timeout_s)
    except OSError as error:
        raise _away(where, error) from error
    with stream:
        connection = Connection(stream, where, bus.timeout_s)
        try:
            if credentials:
                connection.ask("AUTH", *credentials)
            database = options.get("db") or ("" if parts.scheme == "unix" else parts.path.strip("/"))
            if database and database != "0":
                connection.ask("SELECT", database)
            yield connection
        except BusRefused as error:
            raise BusRefused(error.what, why=error.why, hint=_try(url)) from error


def _credentials(bus: BusSection, parts: SplitResult, options: Mapping[str, str]) -> tuple[str, ...]:
    user = unquote(parts.username or "") or options.get("username", "")
    password = unquote(parts.password or "") or options.get("password", "")
    if bus.password_file:
        try:
            password = Path(bus.password_file).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise ConfigurationError([f"bus.password_file: {bus.password_file} cannot be read: {why}"]) from error
    return ((user, password) if user else (password,)) if password else ()


def _opened(parts: SplitResult, options: Mapping[str, str], timeout_s: float) -> socket.socket:
    if parts.scheme == "unix":
        stream = socket.socket(socket.AF_UNIX)
        try:
            stream.settimeout(timeout_s)
            stream.connect(unquote(parts.path))
        except OSError:
            stream.close()
            raise
        return stream
    stream = socket.create_connection((parts.hostname or "localhost", parts.port or 6379), timeout_s)
    if parts.scheme == "redis":
        return stream
    try:
        return _encrypted(stream, parts.hostname or "localhost", options)
    except OSError:
        stream.close()
        raise


def _encrypted(stream: socket.socket, host: str, options: Mapping[str, str]) -> socket.socket:
    """TLS over `stream`; the certificate is checked unless the URL says `ssl_cert_reqs=none`."""
    import ssl

    context = ssl.create_default_context(cafile=options.get("ssl_ca_certs"), capath=options.get("ssl_ca_path"))
    if options.get("ssl_cert_reqs", "required") == "none":
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    elif options.get("ssl_check_hostname", "true").lower() in ("false", "0", "no", "n", "f"):
        context.check_hostname = False
    if certificate := options.get("ssl_certfile"):
        context.load_cert_chain(certificate, options.get("ssl_keyfile"))
    return context.wrap_socket(stream, server_hostname=host)


def _away(where: str, error: Exception) -> BusLost:
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    hint = "Is the supervisor running? Start it with `flyball run`" if where.startswith("unix:") else "Check bus.url"
    return BusLost(f"nothing answers on the bus at {where}", why=why, hint=hint)


def _try(url: str) -> str:
    return f"Check user and password in bus.url or bus.password_file; try: {line(url, ask_password=True)} PING"


def _refusal(where: str, text: str) -> BusError:
    """The server's own words as one of our errors."""
    if text.startswith(_REFUSALS):
        return BusRefused(f"the bus at {where} refuses us", why=text)
    if text.startswith("OOM"):
        return BusFull(f"the bus at {where} is over its memory limit", why=text)
    if text.startswith(_PASSING):
        return BusLost(f"the bus at {where} cannot serve right now", why=text)
    return BusError(f"the bus at {where} refused a request", why=text)
