"""What could be reserved right now, as the supervisor last said."""

import logging
from contextlib import closing
from typing import Final

import msgspec
from msgspec import Struct

from flyball.bus import Connection, connect
from flyball.card import MIB, card
from flyball.identity import host_name, shard
from flyball.wire import checked_name, status_key

log = logging.getLogger("flyball")


class _Memory(Struct):
    """What is left of one target; None where there is no fresh reading of it."""

    target: str
    available_bytes: int | None = None


class _Status(Struct):
    """The part of the status that is of interest here."""

    memory: tuple[_Memory, ...] = ()


_decode: Final = msgspec.json.Decoder(_Status).decode


def available(gpu: int = 0, host: str | None = None) -> int | None:
    """The MiB of a card that `reserve` could have now; None where nobody knows it.

    Without a supervisor, such a card or a fresh sample of it, nobody does. It may be gone a moment later: to have it,
    reserve it. It asks the bus, which takes about a millisecond; in an event loop use
    `await asyncio.to_thread(flyball.available)`.

    ```python
    if (flyball.available(gpu=0) or 0) >= 2048:
        load_the_large_one()
    ```

    :raises ValueError: a negative GPU, or a host with other characters than A-Z a-z 0-9 . _ -.
    """
    target, host = card(gpu), host_name() if host is None else checked_name(host)
    try:
        connection, _ = connect()
        with closing(connection):
            size = free_bytes(connection, host, shard()).get(target)
    except Exception as error:  # noqa: BLE001 - whatever it is, it must not end the program; it is logged
        log.debug("what is available is not known: %s", error)
        return None
    return None if size is None else size // MIB


def free_bytes(connection: Connection, host: str, shard: int) -> dict[str, int | None]:
    """What could be reserved of each target of a host, as its supervisor last said; empty where we cannot know.

    :raises BusLost: the connection broke.
    """
    (reply,) = connection.ask([["GET", status_key(host, shard)]])
    if isinstance(reply, Exception):
        log.debug("the status may not be read: %s", reply)
        return {}
    try:
        status = _Status() if reply is None else _decode(reply)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        log.debug("ignored a status: %s", error)
        return {}
    return {one.target: one.available_bytes for one in status.memory}
