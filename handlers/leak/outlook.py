"""What limits a leak, gathered: the process's own limits and cgroups, the host's memory, and its cards."""

from handlers.leak import effects
from handlers.leak.forecast import Limit, exhaustion
from handlers.leak.measured import cards_of
from handlers.leak.standing import Leak
from schemas.leak import Exhaustion
from schemas.sample import Gpu, Sample


def outlook(leak: Leak, sample: Sample, *, look: bool) -> Exhaustion | None:
    """When the nearest limit is reached; `look`: at those of the process too, which must then be of the present."""
    if leak.resource == "vram":
        limits = [limit for gpu in _cards(leak, sample) if (limit := _card(gpu)) is not None]
    else:
        limits = effects.limits(leak.who.pid, leak.resource) if look else []
    host = sample.host_figures
    if leak.resource == "rss" and host and host.memory_total_bytes and host.memory_available_bytes is not None:
        used = host.memory_total_bytes - host.memory_available_bytes
        limits.append(Limit(kind="host", value=float(host.memory_total_bytes), used=float(used)))
    return exhaustion(leak.verdict.rate_per_s, limits)


def _cards(leak: Leak, sample: Sample) -> list[Gpu]:
    return cards_of(sample, leak.who.pid) if leak.who.pid else [one for one in sample.gpus if one.uuid == leak.who.uuid]


def _card(gpu: Gpu) -> Limit | None:
    if gpu.memory_total_bytes is None or gpu.memory_used_bytes is None:
        return None
    return Limit(
        kind="gpu",
        value=float(gpu.memory_total_bytes - (gpu.memory_reserved_bytes or 0)),
        used=float(gpu.memory_used_bytes),
    )
