"""What is done about a confirmed leak of a declared workload, pure: nothing, unless its `on_leak` says so.

Slowing down and cleaning up are demands, a restart is a command: whoever carries it out has a budget and refuses more.
"""

from collections.abc import Mapping
from typing import Final, Literal

from msgspec import Struct, field

from handlers.leak import units
from handlers.leak.settings import Settings
from handlers.leak.standing import Leak
from handlers.leak.telling import ISSUER
from schemas.demand import Demand
from schemas.workload import Seconds
from supervisor.handler import Declared, Withdrawal

#: Counts and CPU are compared from sample to sample; samples further apart say nothing of what was between.
_LONGEST_STEP_S: Final = 60.0


class Reaction(Struct, kw_only=True):
    """What is under way for one workload; times are the sampler's."""

    kind: Literal["throttle", "cleanup", "restart"]
    #: the leaks that it is for
    leaks: list[str]
    since_s: Seconds
    reason: str
    #: of a restart: whether it was asked for
    asked: bool = False


class Activity(Struct, frozen=True, kw_only=True):
    """What a workload's processes have done so far."""

    at_s: Seconds
    #: until when all counts are known: a source that is polled now and then says nothing of the time since
    known_s: Seconds
    cpu_seconds: float
    counts: dict[str, float]


class Reactions(Struct, kw_only=True):
    """By workload."""

    standing: dict[str, Reaction] = field(default_factory=dict)
    #: of those that wait for a quiet moment: what they did last, and since when they are quiet
    activity: dict[str, Activity] = field(default_factory=dict)
    quiet_since_s: dict[str, float] = field(default_factory=dict)

    def waiting(self) -> list[str]:
        """Workloads that wait for their restart."""
        return [name for name, one in self.standing.items() if one.kind == "restart" and not one.asked]

    def demands(self, settings: Settings) -> list[Demand]:
        """All that is demanded."""
        return [_demand(name, one, settings) for name, one in self.standing.items() if one.kind != "restart"]


def begin(
    reactions: Reactions, declared: Mapping[str, Declared], leak: Leak, now_s: float, settings: Settings
) -> tuple[str, Demand | None]:
    """React to a leak that was just confirmed, once: what the report says of it, and the demand that it needs."""
    workload = declared.get(leak.who.workload)
    if workload is None or workload.on_leak == "report" or leak.resource == "vms":
        return "", None
    name, kind = workload.name, workload.on_leak
    if kind not in workload.may:
        return f'nothing was done: on_leak = "{kind}" of {name} needs "{kind}" in its may', None
    if kind == "restart" and not workload.restart:
        return f'nothing was done: on_leak = "restart" of {name} needs the argument list restart', None
    if kind == "restart" and leak.simulated:
        return "nothing was done: a demo restarts nothing", None
    standing = reactions.standing.get(name)
    if standing is None:
        standing = reactions.standing[name] = Reaction(
            kind=kind, leaks=[], since_s=now_s, reason=f"it leaks {units.NAMES[leak.resource]}"
        )
    standing.leaks.append(leak.id)
    standing.asked = False  # what was refused for another leak is asked for once more; who restarts has a budget
    if kind == "throttle":
        said = f"{name} is asked to go at speed {settings.throttle_speed:.4g} until this is over"
    elif kind == "cleanup":
        said = f"{name} is asked to clean up"
    else:
        quiet = f"{settings.quiet_s:g} s without a count, and below {settings.quiet_cpu:g} of a core"
        latest = f"longer than until it may be full within {units.duration(settings.restart_before_s)}"
        said = f"a restart of {name} waits for a quiet moment ({quiet}), but not {latest}"
    return said, None if kind == "restart" else _demand(name, standing, settings)


def over(reactions: Reactions, leak: Leak) -> tuple[list[Withdrawal], str]:
    """A leak is over: so is what was done about it alone; also says so, unless more is known of it already."""
    # not by `leak.who.workload`: the process may have left its workload meanwhile
    name = next((name for name, one in reactions.standing.items() if leak.id in one.leaks), "")
    if not name:
        return [], ""
    reaction = reactions.standing[name]
    reaction.leaks.remove(leak.id)
    if reaction.leaks:
        return [], f"what is done about {name} goes on, since it leaks more" if reaction.kind != "restart" else ""
    said = {
        "throttle": f"{name} is not asked to slow down any more",
        "cleanup": f"{name} is not asked to clean up any more",
        "restart": "" if reaction.asked else f"the restart of {name} is not waited for any more",
    }
    return _end(reactions, name), said[reaction.kind]


def drop_unwanted(reactions: Reactions, declared: Mapping[str, Declared]) -> list[str]:
    """After a start: end what the configuration does not ask for, or allow, any more; returns the leaks it was for."""
    dropped: list[str] = []
    for name, one in list(reactions.standing.items()):
        workload = declared.get(name)
        if workload is None or workload.on_leak != one.kind or one.kind not in workload.may:
            _end(reactions, name)
            dropped += one.leaks
    return dropped


def expire(reactions: Reactions, now_s: float, settings: Settings) -> list[Withdrawal]:
    """Cleaning up is asked for a while only; a clock that was set back ends it, too."""
    withdrawn: list[Withdrawal] = []
    for name, one in list(reactions.standing.items()):
        if one.kind == "cleanup" and not 0 <= now_s - one.since_s < settings.cleanup_s:
            withdrawn += _end(reactions, name)
    return withdrawn


def look(reactions: Reactions, name: str, now: Activity, settings: Settings) -> bool:
    """Whether a workload that waits for its restart has been quiet for long enough."""
    before = reactions.activity.get(name)
    reactions.activity[name] = now
    if before is None or not 0 < now.at_s - before.at_s <= _LONGEST_STEP_S:
        reactions.quiet_since_s.pop(name, None)
        return False
    busy = (now.cpu_seconds - before.cpu_seconds) / (now.at_s - before.at_s)
    if now.counts != before.counts or not 0 <= busy < settings.quiet_cpu:
        reactions.quiet_since_s.pop(name, None)
        return False
    return now.known_s - reactions.quiet_since_s.setdefault(name, before.at_s) >= settings.quiet_s


def asked(reactions: Reactions, name: str) -> None:
    """The restart was asked for; that is done once a leak."""
    reactions.standing[name].asked = True
    reactions.activity.pop(name, None)
    reactions.quiet_since_s.pop(name, None)


def _demand(name: str, reaction: Reaction, settings: Settings) -> Demand:
    target, reason = f"workload.{name}", reaction.reason
    if reaction.kind == "throttle":
        return Demand(issuer=ISSUER, target=target, action="throttle", speed=settings.throttle_speed, reason=reason)
    return Demand(issuer=ISSUER, target=target, action="run", speed=1.0, cleanup="soft", reason=reason)


def _end(reactions: Reactions, name: str) -> list[Withdrawal]:
    reaction = reactions.standing.pop(name)
    reactions.activity.pop(name, None)
    reactions.quiet_since_s.pop(name, None)
    return [] if reaction.kind == "restart" else [Withdrawal(ISSUER, f"workload.{name}")]
