"""Faults that last: until when each of them does, and what they demand meanwhile."""

from collections.abc import Iterator
from typing import Final

from msgspec.structs import replace

from handlers.faults import wording
from handlers.faults.catalogue import VERDICTS
from handlers.faults.facts import Fact, fault_of, record, said, stands
from handlers.faults.settings import Settings
from handlers.faults.state import Card, Faults, Record, Standing
from schemas.demand import Demand
from schemas.event import FaultKind, GpuError, GpuRecovered
from schemas.sample import RecoveryAction

ISSUER: Final = "faults"
#: Verdicts of the driver with which the work on a card may go on.
HARMLESS: Final[frozenset[RecoveryAction]] = frozenset({"none", "drain_and_reset"})


def stand(faults: Faults, card: Card, fault: GpuError) -> Iterator[Fact]:
    """A fault that stands from now on is said at once; one that stood before goes on to."""
    if fault.kind not in card.standing:
        hold(faults, card, fault)
        record(faults, card, fault)
        yield said(faults, card, fault)
    else:
        hold(faults, card, fault)


def hold(faults: Faults, card: Card, fault: GpuError) -> None:
    """It stands, still or from now on."""
    now, one = faults.monotonic_s, card.standing.get(fault.kind)
    if one is None:
        card.standing[fault.kind] = Standing(fault=fault, since=faults.time, since_s=now, held_s=now)
        return
    if (one.fault.xid, one.fault.action) != (fault.xid, fault.action):
        one.fault = fault
    one.held_s, one.repaired = now, False


def verdict_of(faults: Faults, card: Card) -> GpuError:
    """What the driver asks for, as a fault."""
    fault = fault_of(faults, card, "recovery_action", VERDICTS[card.verdict])
    return replace(fault, fatal=card.verdict not in HARMLESS)


def is_paused(card: Card) -> bool:
    """Whether a fault that stands pauses it."""
    return any(one.fault.fatal for one in card.standing.values())


def repaired(card: Card) -> None:
    """Whatever an XID meant is over once the card answers again."""
    if "xid" in card.standing:
        card.standing["xid"].repaired = True


def reloaded(card: Card) -> None:
    """The driver was unloaded, or the host rebooted: another one may be there now, that gives no verdicts."""
    repaired(card)
    card.judged = False


def acknowledged(card: Card) -> list[FaultKind]:
    """What is over where somebody says that it has been dealt with; not what can be seen to be otherwise."""
    if card.listed and (card.gone or card.verdict != "none"):
        return []
    return [kind for kind, one in card.standing.items() if one.fault.fatal and (kind == "xid" or not card.listed)]


def over(faults: Faults, card: Card, settings: Settings) -> Iterator[Fact]:
    """The faults that have not been seen for long enough, while the card was well."""
    now, well_since_s = faults.monotonic_s, card.well_since_s
    if well_since_s is None or now - well_since_s < settings.recovery_seconds or not card.standing:
        return
    kinds = [
        kind
        for kind, one in card.standing.items()
        if now - one.held_s >= settings.recovery_seconds
        and (kind != "xid" or one.repaired or (card.judged and card.verdict == "none"))
    ]
    if kinds:
        reasons = dict.fromkeys(_why_over(card.standing[kind]) for kind in kinds)
        yield recovered(faults, card, kinds, " and ".join(reasons), faults.cause)


def _why_over(one: Standing) -> str:
    match one.fault.kind:
        case "recovery_action":
            return "the driver asks for nothing more"
        case "xid" if not one.repaired:
            return "the driver asks for nothing"
        case "remapping_failed" | "remapping_pending":
            return "no row of its memory is broken any more"
        case _:
            return "it answers again"


def recovered(faults: Faults, card: Card, kinds: list[FaultKind], reason: str, cause: str) -> Fact:
    """These stand no more."""
    ended = [card.standing.pop(kind) for kind in kinds]
    paused = any(one.fault.fatal for one in ended)
    resumes = paused and not is_paused(card)
    event = GpuRecovered(
        target=card.target,
        uuid=card.uuid,
        pci_bus_id=card.pci_bus_id,
        kinds=tuple(kinds),
        reason=reason,
        after_s=max(0.0, faults.monotonic_s - min(one.since_s for one in ended)),
        cause=cause,
        resumed=resumes,
        simulated=faults.simulated,
    )
    what = " and ".join(wording.what(one.fault) for one in ended)
    then = "; its faults pause it no more" if resumes else "; it stays paused" if paused else ""
    return Fact(event, f"{mark(faults)}{card.target}: over after {event.after_s:.0f} s: {what}; {reason}{then}")


def demands_of(faults: Faults) -> dict[str, Demand]:
    """The pauses that follow; where a card that is gone stood, another one may stand now, which is not to blame."""
    taken = {card.index for card in faults.cards.values() if card.listed}
    return {
        card.target: _pause(faults, card)
        for card in faults.cards.values()
        if is_paused(card) and (card.listed or card.index not in taken)
    }


def _pause(faults: Faults, card: Card) -> Demand:
    """The pause of a card, with all that is wrong and what to do about the last of it."""
    pausing = [one.fault for one in card.standing.values() if one.fault.fatal]
    what = " and ".join(wording.what(fault) for fault in pausing)
    return Demand(
        issuer=ISSUER,
        target=card.target,
        action="pause",
        speed=0.0,
        reason=f"{mark(faults)}{what}; {pausing[-1].advice}; {wording.paused(card)}",
        cause=pausing[-1].cause,
    )


def outlook(faults: Faults, card: Card, record: Record) -> dict[str, object]:
    """Whether a fault that is kept stands, whether it is fatal then, and what is to be said of it."""
    if not stands(card, record):
        return {"standing": False, "fatal": False, "problem": ""}
    fault = card.standing[record.kind].fault
    until = wording.until(card, fault)
    problem = f"{mark(faults)}{card.target}: {wording.what(fault)}; {fault.advice}"
    return {"standing": True, "fatal": fault.fatal, "problem": problem + (f"; it stands {until}" if until else "")}


def mark(faults: Faults) -> str:
    """Simulated figures never pass for real ones."""
    return "SIMULATED: " if faults.simulated else ""
