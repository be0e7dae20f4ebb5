"""What was found, as one plain sentence; pure."""

from collections.abc import Mapping
from typing import Final

from schemas.event import EvidenceGathered

_SIZES: Final = ((2**30, "GB"), (2**20, "MB"), (2**10, "kB"), (1, "bytes"))


def outside(found: EvidenceGathered, name: str) -> str:
    """What was seen from outside; `name` is the process's."""
    said = []
    if found.threads:
        said.append(_counted(found.threads, "thread"))
    if found.handles:
        said.append(_counted(found.handles, "handle"))
    if found.anonymous_bytes is not None:
        said.append(f"{_size(found.anonymous_bytes)} of its own memory")
    if not said:
        return f"{_who(found, name)}: {'; '.join(found.missing) or 'nothing was seen'}"
    return f"{_who(found, name)} has {', '.join(said)}{_missing(found)}"


def inside(found: EvidenceGathered) -> str:
    """What a program found in itself."""
    said = [f"{_size(one.size_bytes)} allocated at {one.where}" for one in found.allocations[:1]]
    said += [f"{one.more} more {one.type}" for one in found.objects[:1]]
    if not said:
        return f"{_who(found)}: {'; '.join(found.missing) or f'nothing more was kept in {found.took_s:.1f} s'}"
    return f"{_who(found)} kept in {found.took_s:.1f} s: {', '.join(said)}{_missing(found)}"


def _who(found: EvidenceGathered, name: str = "") -> str:
    called = found.workload or name
    return f"{called} (pid {found.pid})" if called else f"pid {found.pid}"


def _size(size_bytes: int) -> str:
    unit, name = next((step for step in _SIZES if size_bytes >= step[0] / 10), _SIZES[-1])
    return f"{size_bytes / unit:.4g} {name}"


def _counted(counts: Mapping[str, int], what: str) -> str:
    """How many in all, and the most frequent where there is more than one of it."""
    total = sum(counts.values())
    name, most = next(iter(counts.items()))
    of_which = f" ({most} × {name})" if most > 1 else ""
    return f"{total} {what}{'s' if total != 1 else ''}{of_which}"


def _missing(found: EvidenceGathered) -> str:
    return f"; missing: {'; '.join(found.missing)}" if found.missing else ""
