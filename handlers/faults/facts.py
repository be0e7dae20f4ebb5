"""Faults as they are said and kept: the event with its sentence, and the record for those who look now."""

from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from handlers.faults import wording
from handlers.faults.catalogue import CLASSES
from handlers.faults.folding import name_of
from handlers.faults.state import Card, Faults, Record
from schemas.event import FaultAction, FaultKind, GpuError, GpuRecovered

#: Faults of a card that are kept for those who look.
RECORDS: Final = 16


class Fact(Struct, frozen=True):
    """One event and its sentence."""

    event: GpuError | GpuRecovered
    text: str


def fault_of(faults: Faults, card: Card, kind: FaultKind, action: FaultAction) -> GpuError:
    """A fault of a card at the last sample."""
    return GpuError(
        target=card.target,
        uuid=card.uuid,
        pci_bus_id=card.pci_bus_id,
        kind=kind,
        fault_class=CLASSES[action],
        action=action,
        advice=wording.advice(kind, action, card.pci_bus_id),
        count=1,
        cause=faults.cause,
        recovery_action=card.verdict if card.judged or card.verdict != "none" else None,
        simulated=faults.simulated,
    )


def said(faults: Faults, card: Card, fault: GpuError) -> Fact:
    """A fault as an event of now; what was folded may have begun under another index."""
    event = replace(fault, target=card.target, cause=faults.cause)
    return Fact(event, wording.sentence(event, wording.paused(card) if event.fatal else ""))


def record(faults: Faults, card: Card, fault: GpuError) -> None:
    """Keep it for those who look."""
    key = name_of(fault)
    known = card.records.pop(key, None)
    card.records[key] = Record(
        kind=fault.kind,
        xid=fault.xid,
        action=fault.action,
        fault_class=fault.fault_class,
        advice=fault.advice,
        count=fault.count + (known.count if known else 0),
        since=known.since if known else faults.time,
        last=faults.time,
    )
    if len(card.records) > RECORDS:
        del card.records[next((key for key, one in card.records.items() if not stands(card, one)), key)]


def stands(card: Card, record: Record) -> bool:
    """Whether a fault that is kept stands still."""
    return record.kind in card.standing and card.standing[record.kind].fault.xid == record.xid
