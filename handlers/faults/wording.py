"""What is said to people about faults: what it is, whose, and what to do."""

from typing import Final

from handlers.faults.catalogue import CATALOGUE, UNKNOWN
from handlers.faults.state import Card
from schemas.event import FaultAction, FaultKind, GpuError

_ADVICE: Final[dict[FaultAction, str]] = {
    "restart_program": "restart the program; where one that is known to be good does it again, test the card",
    "reset_gpu": "end every program on the card, this supervisor too, and reset it: nvidia-smi --gpu-reset -i {pci}",
    "reset_bus": "have the card's bus reset, or reboot the host",
    "reboot_host": "reboot the host; where it happens again, have card, slot and power checked",
    "restart_vm": "restart the virtual machine",
    "drain_p2p": "end every program that exchanges data between cards, then ask the driver: "
    "nvidia-smi -q -i {pci} | grep -i recovery",
    "drain_and_reset": "let what runs there end, start nothing new, then reset it: nvidia-smi --gpu-reset -i {pci}",
    "recover_imex": "recover the IMEX domain, as NVIDIA's IMEX guide says",
    "check_cooling": "check its cooling",
    "check_power": "check the machine's power supply and the card's cables",
    "follow_procedure": "follow NVIDIA's procedure: https://docs.nvidia.com/deploy/xid-errors",
    "ask_driver": "ask the driver what must be done: nvidia-smi -q -i {pci} | grep -i recovery",
    "contact_support": "contact NVIDIA's support, with what nvidia-bug-report.sh collects",
    "log_only": "nothing needs to be done",
    "find_out": "there is no advice for it, and it must not be taken for harmless; see: dmesg | grep -i -e nvrm -e xid",
}
#: Where a kind of fault says more than its action.
_ADVICE_OF_KIND: Final[dict[FaultKind, str]] = {
    "ecc_uncorrected": "restart the programs on the card, and see: nvidia-smi -q -d ECC,ROW_REMAPPER -i {pci}",
    "remapping_pending": "when its work allows, reset the card: nvidia-smi --gpu-reset -i {pci}",
    "remapping_failed": "have the card replaced; contact NVIDIA's support, with what nvidia-bug-report.sh collects",
}

#: Faults that pause a card; where several do, the first of these says for how long.
_LONGEST_FIRST: Final[tuple[FaultKind, ...]] = ("lost", "recovery_action", "xid")


def advice(kind: FaultKind, action: FaultAction, pci_bus_id: str, xid: int | None = None) -> str:
    """What to do, in a sentence."""
    entry = CATALOGUE.get(xid, UNKNOWN) if xid is not None else UNKNOWN
    text = entry.advice if entry.action == action else ""
    text = text or _ADVICE_OF_KIND.get(kind) or _ADVICE[action]
    return text.format(pci=pci_bus_id or "ID")


def what(fault: GpuError) -> str:
    """What happened, without how often."""
    match fault.kind:
        case "xid":
            means = CATALOGUE.get(fault.xid or 0, UNKNOWN).means or fault.detail
            return f"XID {fault.xid}" + (f" ({means})" if means else "") + _whose(fault)
        case "lost":
            return f"the card is lost ({fault.detail})"
        case "recovery_action":
            return f"the driver asks for {(fault.recovery_action or '').replace('_', ' ')}"
        case "ecc_uncorrected":
            return "uncorrected memory error"
        case "remapping_failed":
            return "a row of its memory is broken and could not be remapped"
        case "remapping_pending":
            return "a row of its memory is broken and will be remapped by a reset"
        case "hw_thermal_slowdown":
            return f"its hardware slowed it down for {fault.slowed_s or 0:.3g} s because of heat"
        case "power_brake":
            return f"the machine's power brake slowed it down for {fault.slowed_s or 0:.3g} s"


def until(card: Card, fault: GpuError) -> str:
    """How long a fault stands; empty where its advice says that."""
    match fault.kind:
        case "lost":
            forget = f", or `flyball resume {card.target} --force` says it is gone for good"
            return "until it answers again" + ("" if card.listed else forget)
        case "recovery_action":
            return "until the driver asks for nothing more"
        case "xid" if card.judged:
            return "until the driver has asked for nothing for a while"
        case "xid":
            return f"until it was reset; `flyball resume {card.target} --force` says it has been dealt with"
        case _:
            return ""


def paused(card: Card) -> str:
    """How long its faults pause a card; empty where they do not."""
    fatal = {kind: one.fault for kind, one in card.standing.items() if one.fault.fatal}
    for kind in _LONGEST_FIRST:
        if kind in fatal:
            return f"paused {until(card, fatal[kind])}"
    return ""


def sentence(fault: GpuError, paused: str) -> str:
    """The whole of a fault; `paused` says how long it pauses the target, empty where it does not."""
    times = ""
    if fault.folded_s is not None:
        more = f"{fault.count} more time{'s' if fault.count > 1 else ''}" if fault.slowed_s is None else "again"
        times = f", {more} in {fault.folded_s:.0f} s"
    elif fault.count > 1:
        times = f", {fault.count} times"
    mark = "SIMULATED: " if fault.simulated else ""
    return f"{mark}{fault.target}: {what(fault)}{times}; {fault.advice}" + (f"; {paused}" if paused else "")


def _whose(fault: GpuError) -> str:
    if fault.pid is None:
        return ""
    name = f" of {fault.process} (pid {fault.pid})" if fault.process else f" of pid {fault.pid}"
    return name + (f", workload {fault.workload}" if fault.workload else "")
