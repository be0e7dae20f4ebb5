"""The leaks that stand, pure: from the stages of a verdict to what is worth saying, without flapping."""

from typing import Final, Literal

from msgspec import Struct, field

from handlers.leak.evidence import merged
from handlers.leak.measured import Who
from schemas.leak import Evidence, Resource, Verdict
from schemas.workload import Seconds

Said = Literal["suspected", "confirmed", "cleared"]
#: Stages of a growth that is taken for a leak.
GROWS: Final = ("suspected", "confirmed")
#: A look into a process serves all its leaks that are told within this time.
SHARED_S: Final = 5.0


class Asked(Struct, frozen=True, kw_only=True):
    """A request for evidence."""

    stage: Literal["suspected", "confirmed"]
    at_s: Seconds


class Leak(Struct, kw_only=True):
    """A leak from suspected to cleared; times are the sampler's."""

    who: Who
    resource: Resource
    stage: Literal["suspected", "confirmed"]
    #: the latest that showed a growth
    verdict: Verdict
    level: float | None = None
    said_s: Seconds
    #: what evidence was asked for, by the command's id
    asked: dict[str, Asked] = {}
    suspicion: Evidence | None = None
    confirmation: Evidence | None = None
    reaction: str = ""
    simulated: bool = False

    @property
    def id(self) -> str:
        """Identity of the series."""
        return series(self.who, self.resource)


class Standing(Struct, kw_only=True):
    """All of them."""

    leaks: dict[str, Leak] = field(default_factory=dict)
    #: series → no suspicion is said before
    quiet_until_s: dict[str, float] = field(default_factory=dict)
    #: series with a suspicion that was not said, → the identity of its subject
    held: dict[str, tuple[str, Resource]] = field(default_factory=dict)

    def of(self, key: str) -> list[Leak]:
        """Those of one process or card."""
        return [leak for leak in self.leaks.values() if leak.who.key == key]


def series(who: Who, resource: Resource) -> str:
    """Identity of one resource of a process or card."""
    return f"{who.key} {resource}"


def take(
    standing: Standing, who: Who, verdict: Verdict, level: float | None, now_s: float, *, overshadowed: bool,
    simulated: bool = False,
) -> tuple[Said, Leak] | None:  # fmt: skip
    """A verdict on a series; what is to be said of it, if anything.

    `overshadowed`: another leak says more, so that this one is not said while it only begins. Growing address space is
    never more than suspected: it is a promise of the kernel, and no memory yet.
    """
    id, stage = series(who, verdict.resource), verdict.stage
    leak = standing.leaks.get(id)
    if leak is not None:
        leak.who, leak.level = who, leak.level if level is None else level
        if stage == "steady":
            return "cleared", _end(standing, leak)
        if stage not in GROWS:
            return None  # it is not over before that is known
        leak.verdict = verdict
        if stage == "confirmed" and leak.stage == "suspected" and verdict.resource != "vms":
            leak.stage = "confirmed"
            return "confirmed", leak
        return None
    if stage not in GROWS:
        standing.held.pop(id, None)
        return None
    said: Literal["suspected", "confirmed"] = (
        "confirmed" if stage == "confirmed" and verdict.resource != "vms" else "suspected"
    )
    if overshadowed or (said == "suspected" and now_s < standing.quiet_until_s.get(id, now_s)):
        standing.held[id] = who.key, verdict.resource
        return None
    standing.held.pop(id, None)
    leak = standing.leaks[id] = Leak(
        who=who, resource=verdict.resource, stage=said, verdict=verdict, level=level, said_s=now_s, simulated=simulated
    )
    return said, leak


def ended(standing: Standing, key: str) -> list[Leak]:
    """The process has ended, or the card is gone; returns its leaks, which stand no longer."""
    for id in [id for id, (subject, _) in standing.held.items() if subject == key]:
        del standing.held[id]
    return [_end(standing, leak) for leak in standing.of(key)]


def debounce(standing: Standing, leak: Leak, until_s: float, now_s: float) -> None:
    """No suspicion of the series that was just cleared is said before."""
    standing.quiet_until_s = {id: at_s for id, at_s in standing.quiet_until_s.items() if at_s > now_s}
    standing.quiet_until_s[leak.id] = until_s


def asks(standing: Standing, leak: Leak, id: str, now_s: float) -> bool:
    """Whether the leak needs a look of its own, which then bears this id; one just asked for in the process will do."""
    for other in standing.of(leak.who.key):
        for command, asked in other.asked.items():
            if not 0 <= now_s - asked.at_s <= SHARED_S:
                continue
            if command not in leak.asked:
                leak.asked[command] = Asked(stage=leak.stage, at_s=asked.at_s)
                for evidence in (other.suspicion, other.confirmation):
                    if evidence is not None and evidence.command == command:
                        _add(leak, evidence)
            return False
    leak.asked[id] = Asked(stage=leak.stage, at_s=now_s)
    return True


def add_evidence(standing: Standing, evidence: Evidence) -> None:
    """Evidence has come, whole or one of two parts, for whoever asked for it."""
    for leak in standing.leaks.values():
        if evidence.command in leak.asked:
            _add(leak, evidence)


def _add(leak: Leak, evidence: Evidence) -> None:
    if leak.asked[evidence.command].stage == "suspected":
        leak.suspicion = merged(leak.suspicion, evidence)
    else:
        leak.confirmation = merged(leak.confirmation, evidence)


def _end(standing: Standing, leak: Leak) -> Leak:
    return standing.leaks.pop(leak.id)
