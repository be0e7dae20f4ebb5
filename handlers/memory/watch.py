"""What the ledger and the driver do not agree on: use beyond a reservation, and VRAM that nobody alive owns; pure.

Each is told once when it began and once when it ended, after so many samples in a row that show it.
"""

from collections.abc import Collection, Sequence

from msgspec import Struct

from handlers.memory.capacity import Capacity
from handlers.memory.settings import MIB, Settings
from schemas.event import MemoryOrphaned, MemoryOverused
from schemas.sample import Gpu
from schemas.workload import Reservation


class Steady(Struct):
    """A finding that holds, or not, once it was seen often enough in a row."""

    holds: bool = False
    seen: int = 0

    def turns(self, found: bool, needed: int) -> bool:
        """Take note of a sample; whether the finding has begun or ended with it."""
        self.seen = self.seen + 1 if found != self.holds else 0
        if self.seen < needed:
            return False
        self.holds, self.seen = found, 0
        return True


class Overuse(Struct, kw_only=True):
    """Whether one part of a reservation is exceeded."""

    target: str
    request: str
    allocation_id: str
    owner: str
    reserved_bytes: int
    used_bytes: int = 0
    state: Steady


class Watch(Struct, kw_only=True):
    """The state of the policy."""

    overuses: list[Overuse] = []
    #: by target
    orphans: dict[str, Steady] = {}


def overuse(
    watch: Watch, capacities: Sequence[Capacity], reservations: Sequence[Reservation], settings: Settings, cause: str
) -> list[MemoryOverused]:
    """Whose use of the targets that were measured exceeds what was reserved, or no longer does."""
    facts = [_overused(one, "ended", cause) for one in _forget_ended(watch, reservations) if one.state.holds]
    known = {(one.request, one.target): one for one in watch.overuses}
    for capacity in capacities:
        for reservation in reservations:
            if capacity.target not in reservation.parts:
                continue
            one = known.get((reservation.request, capacity.target)) or _begin(watch, reservation, capacity.target)
            one.used_bytes = capacity.held.get(one.request, 0)
            found = one.used_bytes > one.reserved_bytes + settings.overuse_mb * MIB
            if one.state.turns(found, settings.confirm_samples):
                facts.append(_overused(one, "began" if found else "ended", cause))
    return facts


def orphans(
    watch: Watch, gpus: Sequence[Gpu], dead: Collection[int], settings: Settings, cause: str
) -> list[MemoryOrphaned]:
    """On which cards VRAM is in use that no living process owns; `dead` are pids that a driver lists all the same.

    Nothing is known of a card whose driver does not tell what each process uses, or what it keeps for itself.
    """
    facts = []
    targets = {f"gpu{gpu.index}" for gpu in gpus}
    watch.orphans = {target: state for target, state in watch.orphans.items() if target in targets}
    for gpu in gpus:
        lost = _orphaned(gpu, dead)
        if lost is None:
            continue
        target = f"gpu{gpu.index}"
        state = watch.orphans.setdefault(target, Steady())
        found = lost > 0 and lost >= settings.orphan_mb * MIB
        if state.turns(found, settings.confirm_samples):
            facts.append(
                MemoryOrphaned(
                    target=target, outcome="began" if found else "ended", orphaned_bytes=lost,
                    used_bytes=gpu.memory_used_bytes or 0, cause=cause,
                    pids=tuple(process.pid for process in gpu.processes if process.pid in dead),
                )
            )  # fmt: skip
    return facts


def _orphaned(gpu: Gpu, dead: Collection[int]) -> int | None:
    """Bytes in use that no living process has; None where that is not known."""
    if gpu.reading != "fresh" or gpu.memory_used_bytes is None or gpu.memory_reserved_bytes is None:
        return None
    owned = 0
    for process in gpu.processes:
        if process.pid in dead:
            continue
        if process.memory_used_bytes is None:
            return None
        owned += process.memory_used_bytes
    return max(0, gpu.memory_used_bytes - owned)


def _forget_ended(watch: Watch, reservations: Sequence[Reservation]) -> list[Overuse]:
    """Drop what belongs to reservations that have ended, and return it."""
    standing = {one.request for one in reservations}
    ended = [one for one in watch.overuses if one.request not in standing]
    watch.overuses = [one for one in watch.overuses if one.request in standing]
    return ended


def _begin(watch: Watch, reservation: Reservation, target: str) -> Overuse:
    one = Overuse(
        target=target, request=reservation.request, allocation_id=reservation.allocation_id, owner=reservation.owner,
        reserved_bytes=reservation.parts[target], state=Steady(),
    )  # fmt: skip
    watch.overuses.append(one)
    return one


def _overused(one: Overuse, outcome: str, cause: str) -> MemoryOverused:
    return MemoryOverused(
        target=one.target, outcome="began" if outcome == "began" else "ended", allocation_id=one.allocation_id,
        owner=one.owner, reserved_bytes=one.reserved_bytes, used_bytes=one.used_bytes, cause=cause,
    )  # fmt: skip
