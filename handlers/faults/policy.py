"""From samples to faults, pure: what is new, what to do, what pauses a target and what ends that.

XIDs, errors and slowdowns come and are folded; that a card is lost, that the driver asks for something, that rows of
its memory are broken, and an XID after which nothing can run stand until they are over. All times are the sampler's
CLOCK_MONOTONIC, which starts anew at a reboot.
"""

from collections.abc import Iterator
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from handlers.faults.catalogue import CATALOGUE, FATAL, UNKNOWN, VERDICTS
from handlers.faults.facts import Fact, fault_of, record, said
from handlers.faults.folding import ended, fold
from handlers.faults.settings import Settings
from handlers.faults.standing import (
    HARMLESS,
    acknowledged,
    demands_of,
    hold,
    is_paused,
    outlook,
    over,
    recovered,
    reloaded,
    repaired,
    stand,
    verdict_of,
)
from handlers.faults.state import Card, Counters, Faults
from handlers.faults.wording import advice
from schemas.demand import Demand
from schemas.event import FaultAction, FaultKind, GpuError, OverrideChanged
from schemas.sample import Gpu, Sample, Xid

#: A card that so many full samples in a row do not list, although the driver answers, is not there any more.
ABSENT_SAMPLES: Final = 3
#: So many intervals without a sample: rates over them are void.
GAP_INTERVALS: Final = 3
#: Numbers of XIDs that are counted for a card.
MOST_NUMBERS: Final = 256
#: While the driver says this, it is unloaded, or has let go of every card.
_UNLOADED: Final = ("driver_not_loaded", "no_gpu")


class Outcome(Struct, frozen=True):
    """What follows: events, demands that are new or changed, and targets of which nothing is demanded any more."""

    facts: tuple[Fact, ...] = ()
    demands: tuple[Demand, ...] = ()
    withdrawn: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.facts or self.demands or self.withdrawn)


def observe(faults: Faults, sample: Sample, cause: str, settings: Settings) -> Outcome:
    """Take in one sample of our host; `cause` is the id of its event. Only full ones tell of faults."""
    if sample.scope != "full":
        return Outcome()
    now = sample.monotonic_s
    if faults.cause and sample.simulated != faults.simulated:
        faults.cards = {}  # what is known is of simulated cards and the sample of real ones, or the reverse
    facts: list[Fact] = []
    if sample.boot_id != faults.boot_id or now < faults.monotonic_s:
        facts += _restart_clocks(faults, now, settings, rebooted=sample.boot_id != faults.boot_id)
    elif sample.gap or now - faults.monotonic_s > GAP_INTERVALS * sample.interval_s:
        void_rates(faults)
    faults.boot_id, faults.monotonic_s, faults.time, faults.cause = sample.boot_id, now, sample.time, cause
    faults.simulated = sample.simulated
    for card in faults.cards.values():
        facts += [said(faults, card, fault) for fault in ended(card, now, settings)]
        if sample.gpu_backend.reason in _UNLOADED:
            reloaded(card)
    for gpu in sample.gpus:
        facts += _take_in(faults, gpu, sample, settings)
    if sample.gpu_backend.state == "ok":
        facts += _unlisted(faults, {gpu.uuid for gpu in sample.gpus}, settings)
    for card in faults.cards.values():
        facts += over(faults, card, settings)
    return _outcome(faults, facts)


def resumed(faults: Faults, change: OverrideChanged, cause: str) -> Outcome:
    """An operator let a target run: for a while, and what stands is in force again then.

    Who forces it says that the fault has been dealt with: an XID is over then, and a card that is not even listed is
    forgotten. A card that is lost, and what the driver asks for, nobody can talk away.
    """
    if change.outcome != "started" or change.action != "run" or not change.forced:
        return Outcome()
    facts: list[Fact] = []
    for card in [card for card in faults.cards.values() if card.target == change.target]:
        if kinds := acknowledged(card):
            facts.append(recovered(faults, card, kinds, f"{change.operator} says it has been dealt with", cause))
        if not card.listed:
            del faults.cards[card.uuid]
    return _outcome(faults, facts)


def void_rates(faults: Faults) -> None:
    """Time was lost, or samples were: slowdowns are measured anew, and cards must be well anew.

    Errors that were counted meanwhile are facts all the same.
    """
    for card in faults.cards.values():
        card.counters = Counters(ecc_uncorrected=card.counters.ecc_uncorrected)
        card.well_since_s = None


def view(faults: Faults) -> dict[str, list[dict[str, object]]]:
    """The last faults of each target that had any, the newest of a card last."""
    shown: dict[str, list[dict[str, object]]] = {}
    for card in faults.cards.values():  # one that is gone may share its target with the one that stands there now
        for one in card.records.values():
            fault = {
                "kind": one.kind,
                "xid": one.xid,
                "count": one.count,
                "fault_class": one.fault_class,
                "action": one.action,
                "advice": one.advice,
                "since": one.since,
                "last": one.last,
                **outlook(faults, card, one),
            }
            shown.setdefault(card.target, []).append(fault)
    return shown


def xid_totals(faults: Faults) -> dict[str, dict[str, int]]:
    """How many XIDs each target ever had, by number."""
    return {
        card.target: {str(code): count for code, count in card.totals.items()}
        for card in faults.cards.values()
        if card.totals
    }


# -- one card of one sample --------------------------------------------------------------------------------------------


def _take_in(faults: Faults, gpu: Gpu, sample: Sample, settings: Settings) -> Iterator[Fact]:
    card = faults.cards.get(gpu.uuid)
    if card is None:
        card = faults.cards[gpu.uuid] = Card(uuid=gpu.uuid, index=gpu.index)
    card.index, card.pci_bus_id = gpu.index, gpu.pci_bus_id or card.pci_bus_id
    card.listed, card.absent = True, 0
    if gpu.reading == "fresh":
        card.seen_well = True
        if card.well_since_s is None:
            card.well_since_s = faults.monotonic_s
        if card.gone:
            card.gone = False
            repaired(card)
    else:
        card.well_since_s = None
    turned = _take_verdict(card, gpu)
    if turned or (card.verdict != "none" and "recovery_action" in card.standing):
        hold(faults, card, verdict_of(faults, card))
    if gpu.reading == "lost":
        yield from _lost(faults, card, gpu.reason)
    told = list(_xids(faults, card, gpu.xids, sample, settings))
    if turned:
        record(faults, card, verdict_of(faults, card))
        if not told:  # otherwise an XID of the same sample says it
            yield said(faults, card, verdict_of(faults, card))
    yield from told
    if gpu.reading == "fresh":
        yield from _memory(faults, card, gpu)
        yield from _counted(faults, card, gpu, sample, settings)


def _take_verdict(card: Card, gpu: Gpu) -> bool:
    """Note what the driver says must be done; whether that is something new."""
    said = gpu.recovery_action
    if said is not None and gpu.reading == "fresh":
        card.judged = True
    if said is None:
        if gpu.reading != "fresh" or card.judged:
            return False  # it does not say now: what it said last stands
        said = "none"
    turned = said not in (card.verdict, "none")
    card.verdict = said
    return turned


def _xids(faults: Faults, card: Card, xids: tuple[Xid, ...], sample: Sample, settings: Settings) -> Iterator[Fact]:
    for xid in xids:
        if xid.code in card.totals or len(card.totals) < MOST_NUMBERS:
            card.totals[xid.code] = card.totals.get(xid.code, 0) + xid.count
        action = _action(card, xid.code, settings)
        process = next((one for one in sample.processes if one.pid == xid.pid), None)
        fault = replace(
            fault_of(faults, card, "xid", action),
            count=xid.count,
            xid=xid.code,
            advice=advice("xid", action, card.pci_bus_id, xid.code),
            source=xid.source,
            pid=xid.pid,
            process=xid.process or (process.name if process else ""),
            workload=process.workload if process else "",
            detail=xid.detail,
            fatal=action in FATAL if card.verdict == "none" else card.verdict not in HARMLESS,
        )
        paused = is_paused(card)
        if fault.fatal:
            hold(faults, card, fault if card.verdict == "none" else verdict_of(faults, card))
        record(faults, card, fault)
        news = fold(card, fault, faults.monotonic_s, settings, urgent=fault.fatal and not paused)
        if news is not None:
            yield said(faults, card, news)


def _action(card: Card, code: int, settings: Settings) -> FaultAction:
    """What to do about an XID: the driver's own verdict, else the configuration's, else the catalogue's."""
    if card.verdict != "none":
        return VERDICTS[card.verdict]
    action = settings.actions.get(str(code)) or CATALOGUE.get(code, UNKNOWN).action
    return "log_only" if action == "ask_driver" and card.judged else action


def _lost(faults: Faults, card: Card, reason: str) -> Iterator[Fact]:
    action: FaultAction = "reset_gpu" if card.verdict == "gpu_reset" else "reboot_host"
    fault = replace(fault_of(faults, card, "lost", action), detail=reason, fatal=True)
    card.gone = True
    yield from stand(faults, card, fault)


def _memory(faults: Faults, card: Card, gpu: Gpu) -> Iterator[Fact]:
    """Rows of its memory that are broken."""
    flags: tuple[tuple[FaultKind, bool | None, FaultAction], ...] = (
        ("remapping_failed", gpu.remapped_rows_failed, "contact_support"),
        ("remapping_pending", gpu.remapped_rows_pending, "reset_gpu"),
    )
    for kind, is_set, action in flags:
        if is_set:
            yield from stand(faults, card, fault_of(faults, card, kind, action))


def _counted(faults: Faults, card: Card, gpu: Gpu, sample: Sample, settings: Settings) -> Iterator[Fact]:
    """What cumulative counters say; the first sight of one only shows where it stands."""
    before = card.counters
    card.counters = now = Counters(gpu.violation_hw_thermal_ns, gpu.violation_power_brake_ns, gpu.ecc_uncorrected_total)
    if _shrunk(before.hw_thermal_ns, now.hw_thermal_ns) or _shrunk(before.power_brake_ns, now.power_brake_ns):
        repaired(card)  # they count since the driver was loaded, or the card reset
    slowed: tuple[tuple[FaultKind, int | None, int | None, str, FaultAction], ...] = (
        ("hw_thermal_slowdown", before.hw_thermal_ns, now.hw_thermal_ns, "hw_thermal_slowdown", "check_cooling"),
        ("power_brake", before.power_brake_ns, now.power_brake_ns, "hw_power_brake", "check_power"),
    )
    for kind, earlier, later, reason, action in slowed:
        seconds = _growth(earlier, later) / 1e9
        if later is None and reason in gpu.throttle_reasons:  # it does not count; it says that it is now
            seconds = sample.interval_s
        if seconds:
            fault = replace(fault_of(faults, card, kind, action), slowed_s=seconds)
            yield from _count(faults, card, fault, settings)
    errors = _growth(before.ecc_uncorrected, now.ecc_uncorrected)
    if errors:
        fault = replace(fault_of(faults, card, "ecc_uncorrected", "follow_procedure"), count=errors)
        yield from _count(faults, card, fault, settings)


def _count(faults: Faults, card: Card, fault: GpuError, settings: Settings) -> Iterator[Fact]:
    record(faults, card, fault)
    news = fold(card, fault, faults.monotonic_s, settings)
    if news is not None:
        yield said(faults, card, news)


def _unlisted(faults: Faults, listed: set[str], settings: Settings) -> Iterator[Fact]:
    """Cards that a sample does not list although the driver answers."""
    for card in [card for card in faults.cards.values() if card.uuid not in listed]:
        card.absent += 1
        if card.absent < ABSENT_SAMPLES:
            continue
        card.listed, card.well_since_s = False, None
        if card.seen_well:
            yield from _lost(faults, card, f"the driver has not listed it for {ABSENT_SAMPLES} samples")
        else:  # we never knew who it was
            del faults.cards[card.uuid]


def _outcome(faults: Faults, facts: list[Fact]) -> Outcome:
    """The facts, and what has changed in what is demanded."""
    before, faults.demands = faults.demands, demands_of(faults)
    return Outcome(
        tuple(facts),
        tuple(demand for target, demand in faults.demands.items() if demand != before.get(target)),
        tuple(target for target in before if target not in faults.demands),
    )


def _restart_clocks(faults: Faults, now_s: float, settings: Settings, *, rebooted: bool) -> Iterator[Fact]:
    """Another boot, or a clock that went back: what was folded is said, and what stands counts from now."""
    void_rates(faults)
    for card in faults.cards.values():
        for fault in ended(card, faults.monotonic_s, settings, all_of_them=True):
            yield said(faults, card, fault)
        card.windows.clear()
        if rebooted:
            reloaded(card)
        for one in card.standing.values():
            one.since_s = one.held_s = now_s


def _growth(before: int | None, now: int | None) -> int:
    return now - before if before is not None and now is not None and now > before else 0


def _shrunk(before: int | None, now: int | None) -> bool:
    return before is not None and now is not None and now < before
