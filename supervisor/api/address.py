"""The address of the HTTP server, taken with the standard library alone: it can be had before anything starts."""

import errno
import socket
from typing import Final

from supervisor.errors import FlyballError
from supervisor.loopback import is_loopback

#: Every address of this machine, and one of them to ask at.
_ALL: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}


class AddressUnavailable(FlyballError):
    """Nobody can listen at the configured address."""

    exit_code = 2


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at `host`:`port`, or at a free port where that is 0; the caller closes it or hands it on.

    Whoever connects waits until `supervisor.api.server.serve_on` answers. A name is looked up, which may take its time.

    :raises AddressUnavailable: the port is taken or forbidden, or the host is no address of this machine.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        if is_loopback(host) and not is_loopback(str(address[0])):
            raise AddressUnavailable(
                f"the HTTP API will not listen at {host}:{port}",
                why=f"here {host} is {address[0]}, where others could ask without the token",
                hint="Set api.host to 127.0.0.1",
            )
        return socket.create_server(address[:2], family=family)
    except (OSError, UnicodeError) as error:
        raise _unavailable(host, port, error) from error


def url_of(listener: socket.socket) -> str:
    """A URL that a browser on this machine can open."""
    host, port = listener.getsockname()[:2]
    host = _ALL.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _unavailable(host: str, port: int, error: OSError | UnicodeError) -> AddressUnavailable:
    hint = "Choose another port: --set api.port=0 takes a free one, api.enabled=false does without"
    match error.errno if isinstance(error, OSError) else None:
        case errno.EADDRINUSE:
            why = "another program listens there"
        case errno.EACCES | errno.EPERM:
            why = "this user may not listen there"
        case errno.EADDRNOTAVAIL:
            why, hint = (
                "this machine has no such address",
                "Set api.host to 127.0.0.1",
            )
        case _:
            why, hint = getattr(error, "strerror", None) or str(error), "Check api.host and api.port"
    return AddressUnavailable(f"the HTTP API cannot listen at {host}:{port}", why=why, hint=hint)
