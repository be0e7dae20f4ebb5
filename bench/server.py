"""A private server for one benchmark: on a unix socket, with the append-only file that Flyball's own bus has.

The file is not rewritten meanwhile: whoever happened to be measured then would pay for it.
"""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from supervisor.bus.binary import find_binary

_READY_WITHIN_S: Final = 10.0
_LOOK_EVERY_S: Final = 0.01


@contextmanager
def private_server() -> Iterator[str]:
    """The URL of a server that is gone with its data afterwards.

    :raises BusRefused: there is no server program. :raises redis.ConnectionError: it does not start.
    """
    binary = find_binary().path
    # a unix socket's path may have only about 100 bytes
    with tempfile.TemporaryDirectory(prefix="fb-") as directory:
        socket = Path(directory, "bus.sock")
        process = subprocess.Popen(
            [
                binary, "--port", "0", "--unixsocket", socket, "--dir", directory, "--save", "",
                "--appendonly", "yes", "--appendfsync", "everysec", "--auto-aof-rewrite-percentage", "0",
            ],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            attempts = int(_READY_WITHIN_S / _LOOK_EVERY_S)
            with redis.Redis(
                unix_socket_path=str(socket), retry=Retry(ConstantBackoff(_LOOK_EVERY_S), attempts)
            ) as client:
                client.ping()
            yield f"unix://{socket}"
        finally:
            process.terminate()
            process.wait()
