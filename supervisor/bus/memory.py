"""Keeps the server's memory in bounds: samples go first, then what others say, then old events."""

import logging
from typing import Final

from supervisor.bus.connection import Connection
from supervisor.bus.keys import dead_key, events_key, inbox_key, samples_key

_log = logging.getLogger(__name__)

#: Share of the server's limit above which we trim; the rest is room for decisions and what workloads say.
TRIM_ABOVE: Final = 0.8
SAMPLES_LEFT: Final = 60
OTHERS_LEFT: Final = 1_000


async def keep_memory(connection: Connection, shard: int) -> None:
    """Trim one stream after the other until no more than `TRIM_ABOVE` is in use; the log says what went.

    :raises BusError: the server is away or refuses us.
    """
    order = (
        ("samples", samples_key(shard), SAMPLES_LEFT),
        ("inbox", inbox_key(shard), OTHERS_LEFT),
        ("dead letters", dead_key(shard), OTHERS_LEFT),
        ("events", events_key(shard), OTHERS_LEFT),
    )
    gone = []
    for name, key, left in order:
        if not await _is_tight(connection):
            break
        if trimmed := await connection.ask("XTRIM", key, "MAXLEN", left):
            gone.append(f"{trimmed} {name}")
    if gone:
        _log.warning("the bus is over %.0f %% of its memory: trimmed %s", TRIM_ABOVE * 100, ", ".join(gone))


async def _is_tight(connection: Connection) -> bool:
    info = (await connection.ask("INFO", "memory")).decode()
    figures = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
    limit = int(figures.get("maxmemory", "0"))
    return limit > 0 and int(figures["used_memory"]) >= TRIM_ABOVE * limit
