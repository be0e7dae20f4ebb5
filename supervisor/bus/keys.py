"""The names on the bus; all keys of a shard share the hash tag `{shard}`, so that one function may touch them."""

from schemas.workload import (
    directive_key,
    inbox_key,
    pause_channel,
    reservation_key,
    status_key,
    throttle_channel,
)

__all__ = [
    "capacity_key", "commands_key", "dead_key", "demands_key", "directive_key", "events_key", "handler_key",
    "idempotency_key", "inbox_key", "lease_key", "pause_channel", "record_key", "reservation_key", "samples_key",
    "snapshot_key", "status_key", "throttle_channel",
]  # fmt: skip


def samples_key(shard: int = 0) -> str:
    """Stream: one entry a host and tick."""
    return f"flyball:samples:{{{shard}}}"


def events_key(shard: int = 0) -> str:
    """Stream: everything decided or noticed."""
    return f"flyball:events:{{{shard}}}"


def dead_key(shard: int = 0) -> str:
    """Stream: what a handler could not process, with the error."""
    return f"flyball:dead:{{{shard}}}"


def commands_key(host: str, shard: int = 0) -> str:
    """Stream: requests to act on that host."""
    return f"flyball:commands:{{{shard}}}:{host}"


def demands_key(host: str, target: str, shard: int = 0) -> str:
    """Hash: a field an issuer."""
    return f"flyball:demands:{{{shard}}}:{host}:{target}"


def lease_key(host: str, shard: int = 0) -> str:
    """Hash: who looks after this host, and the epoch."""
    return f"flyball:lease:{{{shard}}}:{host}"


def handler_key(name: str, shard: int = 0) -> str:
    """Hash: how a handler is doing."""
    return f"flyball:handler:{{{shard}}}:{name}"


def snapshot_key(host: str, handler: str, shard: int = 0) -> str:
    """Hash: a handler's state with the position of each stream."""
    return f"flyball:snapshot:{{{shard}}}:{host}:{handler}"


def record_key(kind: str, name: str, shard: int = 0) -> str:
    """Hash: further state: a workload, a reservation, an override."""
    return f"flyball:{kind}:{{{shard}}}:{name}"


def capacity_key(host: str, target: str, shard: int = 0) -> str:
    """Hash: how much memory a target has and who uses it, with a TTL: gone means unknown."""
    return record_key("capacity", f"{host}:{target}", shard)


def idempotency_key(token: str, shard: int = 0) -> str:
    """String with a TTL: that this was committed already."""
    return f"flyball:idempotency:{{{shard}}}:{token}"
