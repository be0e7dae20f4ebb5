"""The lease of a host: who may speak for it, under which epoch."""

import json
from collections.abc import Callable
from typing import Any, Final

from supervisor.bus.connection import Connection
from supervisor.bus.keys import lease_key, status_key
from supervisor.errors import HostTaken

#: Long enough to outlive a slow second, short enough that a stopped supervisor is replaced soon.
LEASE_TTL_S: Final = 15.0
#: In beats of a second (supervisor/runtime/duties.py).
RENEW_EVERY: Final = 3


async def acquire(
    connection: Connection,
    host: str,
    holder: dict[str, Any],
    *,
    shard: int = 0,
    known_epoch: int = 0,
    is_dead: Callable[[dict[str, Any]], bool],
) -> int:
    """Take the lease, or take it again; returns the epoch, higher than every epoch before it and than `known_epoch`.

    What was sent under the epoch before by the same holder stays its word; that of any other holder is refused.

    A holder that is known to be dead (`is_dead`) is replaced at once, one of whom we know nothing after its time.

    :raises HostTaken: another supervisor holds it, and lives as far as we can tell.
    """
    key, mine = lease_key(host, shard), json.dumps(holder, sort_keys=True)
    ttl_ms = int(LEASE_TTL_S * 1000)
    reply = await connection.call("acquire", [key], mine, ttl_ms, "", known_epoch)
    if not reply[0]:
        other = _holder(reply[2])
        if other and is_dead(other):
            # The epoch says which lease we mean: where a third one was quicker, this is refused.
            reply = await connection.call("acquire", [key], mine, ttl_ms, reply[1], known_epoch)
    if not reply[0]:
        other = _holder(reply[2])
        raise HostTaken(
            f"pid {other.get('pid', '?')} on machine {str(other.get('machine_id'))[:8]}, epoch {reply[1].decode()}",
            why=f"it holds {key}",
            hint=f"Stop it (its lease ends {LEASE_TTL_S:g} s after its last word), or set another FLYBALL_HOST__NAME",
        )
    return int(reply[1])


async def renew(connection: Connection, host: str, epoch: int, *, shard: int = 0) -> None:
    """Keep the lease.

    :raises Fenced: another supervisor took it.
    """
    await connection.call("renew", [lease_key(host, shard)], epoch, int(LEASE_TTL_S * 1000))


async def release(connection: Connection, host: str, epoch: int, *, shard: int = 0) -> None:
    """Give the lease up, so that the next one need not wait.

    :raises Fenced: another supervisor took it already.
    """
    await connection.call("renew", [lease_key(host, shard)], epoch, 0)


async def report(connection: Connection, host: str, epoch: int, state: bytes, ttl_s: float, *, shard: int = 0) -> None:
    """Put the state of the host, as JSON, where everybody finds it; gone after `ttl_s`, empty takes it away.

    :raises Fenced: another supervisor took the lease.
    """
    keys = [lease_key(host, shard), status_key(host, shard)]
    await connection.call("report", keys, epoch, state, int(ttl_s * 1000))


def _holder(text: bytes | None) -> dict[str, Any]:
    try:
        holder = json.loads(text or b"{}")
    except ValueError:
        return {}
    return holder if isinstance(holder, dict) else {}
