"""How much memory a target has, who of those with reservations really uses how much of it, and what is left; pure."""

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from handlers.memory.settings import MIB, Settings
from schemas.sample import SAME_START_S, Gpu, Host, Process, Sample
from schemas.workload import Reservation

#: Begins the mark of a process that is no workload's, and has a reservation; no workload's name may begin so.
MARK = "@"

#: request → bytes in use by the owner of the reservation that it made
Held = dict[str, int]


class Capacity(Struct, frozen=True):
    """A target's memory as last measured; also the fields of the hash `flyball:capacity:…` (`held` as JSON there)."""

    target: str
    limit_bytes: int
    reserve_bytes: int
    used_bytes: int
    held: Held


class Room(Struct, frozen=True):
    """What is left of a target, and what the rest is."""

    reserved_bytes: int
    others_bytes: int
    available_bytes: int


def room(capacity: Capacity, reservations: Iterable[Reservation]) -> Room:
    """What could be reserved now; less than nothing where the limit was lowered, or more is used than was reserved.

    Use that was reserved is not counted twice. `supervisor/bus/ledger.lua:room` is the same rule.
    """
    reserved = own = 0
    for one in reservations:
        part = one.parts.get(capacity.target, 0)
        reserved += part
        own += min(part, capacity.held.get(one.request, 0))
    others = max(0, capacity.used_bytes - own)
    return Room(reserved, others, capacity.limit_bytes - capacity.reserve_bytes - reserved - others)


def capacities(sample: Sample, reservations: Sequence[Reservation], settings: Settings) -> list[Capacity]:
    """Every target of a full sample of which its memory is known; of the others nobody knows what is left."""
    claims = _claims(sample.processes, reservations)
    found = [_of_card(gpu, held(f"gpu{gpu.index}", _on_card(gpu), claims), settings) for gpu in sample.gpus]
    if sample.host_figures is not None:
        found.append(_of_host(sample.host_figures, held("host", _in_ram(sample.processes), claims), settings))
    return [capacity for capacity in found if capacity is not None]


def held(target: str, use: Mapping[int, int], claims: Mapping[int, Sequence[Reservation]]) -> Held:
    """How much of the `use` (pid → bytes) of a target is whose; what two share fills the older reservation first."""
    result: Held = {}
    for pid, size in use.items():
        holders = [one for one in claims.get(pid, ()) if target in one.parts]
        for one in holders:
            taken = min(size, max(0, one.parts[target] - result.get(one.request, 0)))
            result[one.request] = result.get(one.request, 0) + taken
            size -= taken
        if holders and size:
            result[holders[-1].request] += size
    return result


def is_same(reservation: Reservation, process: Process) -> bool:
    """Whether the process is the one that the reservation ends with."""
    return (
        reservation.pid == process.pid
        and reservation.pid > 0
        and abs(reservation.start_time_s - process.start_time_s) <= SAME_START_S
    )


def _claims(processes: Sequence[Process], reservations: Sequence[Reservation]) -> dict[int, list[Reservation]]:
    """By pid, the reservations that its use counts for, the oldest first: its own, its parent's, its workload's."""
    if not reservations:
        return {}
    by_pid = {process.pid: process for process in processes}
    by_name: dict[str, list[Reservation]] = {}
    claims: dict[int, list[Reservation]] = {}
    for one in sorted(reservations, key=lambda one: (one.since_s, one.allocation_id)):
        names = {one.owner}
        process = by_pid.get(one.pid) if one.pid else None
        if process is not None and is_same(one, process):
            names.add(process.workload)
            claims.setdefault(one.pid, []).append(one)
        for name in names - {""}:
            by_name.setdefault(name, []).append(one)
    for process in processes:
        mine = claims.setdefault(process.pid, [])
        mine += [one for one in by_name.get(process.workload, ()) if one not in mine]
    return claims


def _on_card(gpu: Gpu) -> dict[int, int]:
    """Bytes of VRAM by pid, as far as the driver tells."""
    return {one.pid: one.memory_used_bytes for one in gpu.processes if one.memory_used_bytes is not None}


def _in_ram(processes: Iterable[Process]) -> dict[int, int]:
    """Bytes of RAM by pid that nobody else could have: without the pages of files, which the kernel takes back."""
    return {
        one.pid: size
        for one in processes
        if (size := one.rss_bytes if one.rss_anon_bytes is None else one.rss_anon_bytes) is not None
    }


def _of_card(gpu: Gpu, held: Held, settings: Settings) -> Capacity | None:
    """What the driver keeps for itself is no part of the card's limit."""
    if gpu.reading != "fresh" or gpu.memory_total_bytes is None or gpu.memory_used_bytes is None:
        return None
    total = max(0, gpu.memory_total_bytes - (gpu.memory_reserved_bytes or 0))
    limit = _limited(total, settings.memory_limit_mb)
    return Capacity(f"gpu{gpu.index}", limit, settings.memory_reserve_mb * MIB, gpu.memory_used_bytes, held)


def _of_host(figures: Host, held: Held, settings: Settings) -> Capacity | None:
    """The machine's RAM or our cgroup's limit, whichever leaves less."""
    known: list[tuple[int, int]] = []
    if figures.memory_total_bytes and figures.memory_available_bytes is not None:
        known.append((figures.memory_total_bytes, figures.memory_total_bytes - figures.memory_available_bytes))
    if figures.cgroup_memory_limit_bytes and figures.cgroup_memory_used_bytes is not None:
        known.append((figures.cgroup_memory_limit_bytes, figures.cgroup_memory_used_bytes))
    if not known:
        return None
    total, used = min(known, key=lambda one: one[0] - one[1])
    return Capacity("host", _limited(total, settings.ram_limit_mb), settings.ram_reserve_mb * MIB, max(0, used), held)


def _limited(total: int, limit_mb: int) -> int:
    return min(total, limit_mb * MIB) if limit_mb else total
