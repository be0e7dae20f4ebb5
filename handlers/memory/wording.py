"""What is told of memory, in one sentence each."""

from handlers.memory.settings import MIB
from schemas.event import MemoryOrphaned, MemoryOverused
from supervisor.handler import Draft


def overused(fact: MemoryOverused) -> Draft:
    """Use beyond a reservation, as an event."""
    name, reserved = f"{fact.allocation_id} of {fact.owner}", _mib(fact.reserved_bytes)
    where = "RAM" if fact.target == "host" else fact.target
    if fact.outcome == "began":
        text = f"{name} uses {_mib(fact.used_bytes)} of {where}, and has reserved {reserved}"
    else:
        text = f"{name} uses no more of {where} than it has reserved ({reserved})"
    return Draft("flyball.memory.overused", fact.target, text, fact)


def orphaned(fact: MemoryOrphaned) -> Draft:
    """VRAM that nobody alive owns, as an event."""
    text = f"{fact.target}: what is in use belongs to living processes again"
    if fact.outcome == "began":
        used = f"{_mib(fact.orphaned_bytes)} of {_mib(fact.used_bytes)}"
        text = f"{fact.target}: {used} in use belong to no living process"
        if fact.pids:
            pids = ", ".join(map(str, fact.pids[:10]))
            text += f"; the driver still lists pid {pids} (ended, or in another pid namespace than Flyball)"
    return Draft("flyball.memory.orphaned", fact.target, text, fact)


def _mib(size: int) -> str:
    return f"{size / MIB:.10g} MiB" if size % MIB == 0 else f"{size / MIB:.1f} MiB"
