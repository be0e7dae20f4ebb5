"""What is a fault, what is done about it, and when it is over."""

from collections.abc import Sequence
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.faults.catalogue import CATALOGUE, CLASSES, UNKNOWN, VERDICTS
from handlers.faults.policy import ABSENT_SAMPLES, Outcome, observe, resumed, view, xid_totals
from handlers.faults.settings import Settings, TableAction
from handlers.faults.state import Faults
from schemas.event import FaultAction, GpuError, GpuRecovered, OverrideChanged
from schemas.sample import Gpu, GpuBackend, Process, Sample, Xid
from tests.handlers.samples import BOOT, gpu, sample

PCI = "00000000:3B:00.0"
#: The lists in which the catalogue's advice was looked up, by number.
LISTS: dict[FaultAction, str] = {
    "restart_program": "8 11 13 25 31 32 39-41 60 68-72 75-77 80 82-86 88 89 94 96-105 126-135 139",
    "reset_gpu": "46 62 64 95 109 110 119 120 136 140 143 155 156 158",
    "reboot_host": "79",
    "restart_vm": "151",
    "log_only": "14 37 38 43 44 63 66 67 92 93 106-108 121 137 141 152 153 157 160 161",
    "follow_procedure": "45 48 54 74 78 144-150 159",
    "ask_driver": "154",
    "contact_support": "142",
    "find_out": "162-172",
}


class Watch:
    """A policy and the samples that it is shown, one a second."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.faults = Faults()
        self.second = 0.0

    def sees(self, *gpus: Gpu, second: float | None = None, **fields: Any) -> Outcome:
        """The next sample."""
        self.second = self.second + 1 if second is None else second
        return self.takes(sample(self.second, gpus, **fields))

    def takes(self, one: Sample) -> Outcome:
        return observe(self.faults, one, one.id, self.settings)

    def until(self, second: float, *gpus: Gpu) -> list[Outcome]:
        """The same sample each second up to that one; what came of each."""
        outcomes = []
        while self.second < second:
            outcomes.append(self.sees(*gpus))
        return outcomes

    @property
    def paused(self) -> list[str]:
        return sorted(self.faults.demands)


def card(index: int = 0, *xids: int, **fields: Any) -> Gpu:
    """A card that is well, but for these XIDs."""
    told = tuple(Xid(code=code, count=1, source="nvml") for code in xids)
    return gpu(index=index, xids=told, pci_bus_id=PCI, **fields)


def lost(index: int = 0, reason: str = "GPU is lost", **fields: Any) -> Gpu:
    return Gpu(index=index, uuid=f"GPU-{index}", pci_bus_id=PCI, reading="lost", reason=reason, **fields)


def errors(outcomes: Outcome | Sequence[Outcome]) -> list[GpuError]:
    every = [outcomes] if isinstance(outcomes, Outcome) else outcomes
    return [fact.event for one in every for fact in one.facts if isinstance(fact.event, GpuError)]


def recoveries(outcomes: Outcome | Sequence[Outcome]) -> list[GpuRecovered]:
    every = [outcomes] if isinstance(outcomes, Outcome) else outcomes
    return [fact.event for one in every for fact in one.facts if isinstance(fact.event, GpuRecovered)]


def texts(outcome: Outcome) -> list[str]:
    return [fact.text for fact in outcome.facts]


# -- the table ---------------------------------------------------------------------------------------------------------


def test_the_catalogue_holds_each_number_once_with_its_advice() -> None:
    expected: dict[int, FaultAction] = {}
    for action, numbers in LISTS.items():
        for part in numbers.split():
            first, _, last = part.partition("-")
            expected.update(dict.fromkeys(range(int(first), int(last or first) + 1), action))
    assert {code: entry.action for code, entry in CATALOGUE.items()} == expected


def test_every_action_has_a_class_and_advice_and_an_unknown_number_is_not_harmless() -> None:
    every = set(get_args(FaultAction))
    assert CLASSES.keys() == every
    allowed = set(get_args(TableAction))
    assert {entry.action for entry in CATALOGUE.values()} <= allowed <= every
    assert set(VERDICTS.values()) <= every
    assert CLASSES[UNKNOWN.action] == "unknown"


@pytest.mark.parametrize(
    ("code", "fault_class", "action", "paused"),
    [
        (13, "application", "restart_program", False),
        (31, "application", "restart_program", False),
        (48, "procedure", "follow_procedure", False),
        (63, "notice", "log_only", False),
        (95, "gpu", "reset_gpu", True),
        (79, "host", "reboot_host", True),
        (151, "host", "restart_vm", True),
        (142, "support", "contact_support", False),
        (154, "unknown", "ask_driver", False),
        (167, "unknown", "find_out", False),
        (999, "unknown", "find_out", False),
        (2**63 - 1, "unknown", "find_out", False),
    ],
)
def test_what_is_done_about_an_xid(code: int, fault_class: str, action: str, paused: bool) -> None:
    watch = Watch()
    outcome = watch.sees(card(3, code), card(4))
    (error,) = errors(outcome)
    assert (error.xid, error.count, error.target, error.uuid, error.pci_bus_id) == (code, 1, "gpu3", "GPU-3", PCI)
    assert (error.fault_class, error.action, error.fatal) == (fault_class, action, paused)
    assert error.advice and error.advice in texts(outcome)[0]
    assert error.cause == sample(1).id
    assert watch.paused == (["gpu3"] if paused else [])
    assert [(one.target, one.action, one.speed, one.issuer) for one in outcome.demands] == (
        [("gpu3", "pause", 0.0, "faults")] if paused else []
    )


def test_the_sentence_says_what_whose_and_what_to_do() -> None:
    xid = Xid(code=79, count=1, source="kmsg", pid=1234, process="", detail="GPU has fallen off the bus.")
    known = Process(pid=1234, start_time_s=1.0, name="python", workload="trainer")
    watch = Watch()
    outcome = watch.sees(gpu(xids=(xid,), pci_bus_id=PCI), processes=[known])
    assert texts(outcome) == [
        "gpu0: XID 79 (the card has fallen off the bus) of python (pid 1234), workload trainer; reboot the host; where "
        "it happens again, have card, slot and power checked; paused until it was reset; `flyball resume "
        "gpu0 --force` says it has been dealt with"
    ]
    assert outcome.demands[0].reason == texts(outcome)[0].removeprefix("gpu0: ")
    (error,) = errors(outcome)
    assert (error.process, error.workload, error.source, error.detail) == (
        "python",
        "trainer",
        "kmsg",
        "GPU has fallen off the bus.",
    )


def test_a_procedure_is_told_where_it_is_short_and_not_where_something_else_is_to_be_done() -> None:
    (error,) = errors(Watch().sees(card(0, 48)))
    assert error.advice.endswith(f"nvidia-smi -q -d ECC,ROW_REMAPPER -i {PCI}")
    (error,) = errors(Watch().sees(card(0, 48, recovery_action="gpu_reset")))
    assert error.advice.endswith(f"nvidia-smi --gpu-reset -i {PCI}")


def test_an_unknown_number_is_said_in_the_drivers_own_words() -> None:
    xid = Xid(code=901, count=2, source="kmsg", pid=7, process="a.out", detail="Something new")
    (text,) = texts(Watch().sees(gpu(xids=(xid,))))
    assert text.startswith("gpu0: XID 901 (Something new) of a.out (pid 7), 2 times; there is no advice for it")


def test_the_configuration_goes_before_the_catalogue() -> None:
    watch = Watch(Settings(actions={"79": "log_only", "13": "reboot_host", "500": "restart_program"}))
    actions = [(one.xid, one.action, one.fatal) for one in errors(watch.sees(card(0, 79, 13, 500)))]
    assert actions == [(79, "log_only", False), (13, "reboot_host", True), (500, "restart_program", False)]


@pytest.mark.parametrize(
    ("verdict", "action", "paused"),
    [
        ("gpu_reset", "reset_gpu", True),
        ("node_reboot", "reboot_host", True),
        ("drain_p2p", "drain_p2p", True),
        ("drain_and_reset", "drain_and_reset", False),
        ("recover_imex", "recover_imex", True),
        ("bus_reset", "reset_bus", True),
        ("system_reboot", "reboot_host", True),
        ("unknown", "ask_driver", True),
    ],
)
def test_the_drivers_own_verdict_goes_before_all(verdict: Any, action: str, paused: bool) -> None:
    watch = Watch(Settings(actions={"13": "log_only"}))
    watch.sees(card(recovery_action="none"))
    outcome = watch.sees(card(0, 13, recovery_action=verdict))
    (error,) = errors(outcome)
    assert (error.kind, error.action, error.recovery_action, error.fatal) == ("xid", action, verdict, paused)
    assert watch.paused == (["gpu0"] if paused else [])


def test_a_verdict_without_an_xid_is_said_too_and_once() -> None:
    watch = Watch()
    watch.sees(card(recovery_action="none"))
    (error,) = errors(watch.sees(card(recovery_action="gpu_reset")))
    assert (error.kind, error.action, error.fatal) == ("recovery_action", "reset_gpu", True)
    assert not watch.sees(card(recovery_action="gpu_reset"))
    (error,) = errors(watch.sees(card(recovery_action="node_reboot")))
    assert error.action == "reboot_host"


def test_154_is_settled_by_a_driver_that_gives_verdicts() -> None:
    watch = Watch()
    assert [one.action for one in errors(watch.sees(card(0, 154, recovery_action="none")))] == ["log_only"]
    watch.sees(card(recovery_action="none"))
    (error,) = errors(watch.sees(card(0, 154, recovery_action="gpu_reset"), second=100))
    assert (error.action, watch.paused) == ("reset_gpu", ["gpu0"])


# -- floods ------------------------------------------------------------------------------------------------------------


def test_a_thousand_xids_are_a_handful_of_events() -> None:
    watch, outcomes = Watch(), []
    for _ in range(100):
        burst = tuple(Xid(code=code, count=5, source="nvml") for code in (13, 45))
        outcomes.append(watch.sees(gpu(xids=burst, pci_bus_id=PCI)))
    outcomes += watch.until(300, card())
    told = errors(outcomes)
    assert [(one.xid, one.count, one.folded_s) for one in told] == [
        (13, 5, None),
        (45, 5, None),
        (13, 295, 60.0),
        (45, 295, 60.0),
        (13, 200, 60.0),
        (45, 200, 60.0),
    ]
    assert "295 more times in 60 s" in "".join(text for one in outcomes for text in texts(one))
    assert xid_totals(watch.faults) == {"gpu0": {"13": 500, "45": 500}}


def test_after_a_quiet_window_the_next_one_is_the_first_again() -> None:
    watch = Watch()
    assert errors(watch.sees(card(0, 31)))
    assert not watch.sees(card(0, 31))
    assert [one.count for one in errors(watch.until(62, card()))] == [1]
    assert not errors(watch.until(130, card()))
    assert [(one.count, one.folded_s) for one in errors(watch.sees(card(0, 31)))] == [(1, None)]


def test_other_numbers_and_other_cards_are_not_folded_together() -> None:
    watch = Watch()
    assert len(errors(watch.sees(card(0, 31, 13), card(1, 31)))) == 3


def test_more_kinds_than_can_be_told_apart_are_folded_all_the_same() -> None:
    watch = Watch()
    told = [one for number in range(1, 500) for one in errors(watch.sees(card(0, 10_000 + number), second=number / 10))]
    assert len(told) <= 40
    told += errors(watch.until(200, card()))
    assert sum(one.count for one in told) == 499


def test_a_fatal_one_is_never_folded_away_while_nothing_pauses_the_card() -> None:
    watch = Watch()
    watch.sees(card(0, 79))
    watch.takes(sample(2, [card()]))
    assert resumed(watch.faults, override(forced=True), "o1").withdrawn == ("gpu0",)
    (error,) = errors(watch.sees(card(0, 79), second=3))
    assert (error.folded_s, watch.paused) == (None, ["gpu0"])


# -- what lasts --------------------------------------------------------------------------------------------------------


def test_a_card_is_lost_and_found() -> None:
    watch = Watch()
    watch.sees(card(6), card(7))
    outcome = watch.sees(lost(6), card(7))
    assert texts(outcome) == [
        "gpu6: the card is lost (GPU is lost); reboot the host; where it happens again, have card, slot and power "
        "checked; paused until it answers again"
    ]
    assert watch.paused == ["gpu6"]
    assert not any(watch.until(10, lost(6), card(7))), "nothing is said twice"
    outcomes = watch.until(45, card(6), card(7))
    assert [index for index, outcome in enumerate(outcomes) if outcome] == [30]
    assert outcomes[30].withdrawn == ("gpu6",)
    assert texts(outcomes[30]) == [
        "gpu6: over after 39 s: the card is lost (GPU is lost); it answers again; its faults pause it no more"
    ]
    (recovery,) = recoveries(outcomes)
    assert (recovery.kinds, recovery.after_s, recovery.resumed) == (("lost",), 39.0, True)


def test_a_card_that_needs_a_reset_says_so() -> None:
    watch = Watch()
    (error,) = errors(watch.sees(lost(0, "GPU requires restart", recovery_action="gpu_reset")))[:1]
    assert (error.kind, error.action, error.fatal) == ("lost", "reset_gpu", True)


def test_a_card_that_comes_and_goes_stays_paused() -> None:
    watch = Watch()
    watch.sees(card())
    outcomes = [watch.sees(lost() if second % 20 == 0 else card()) for second in range(200)]
    assert len(errors(outcomes)) == 1 and not recoveries(outcomes)
    assert watch.paused == ["gpu0"]


def test_an_xid_79_is_over_when_the_card_was_lost_and_answers_again() -> None:
    watch = Watch()
    watch.sees(card(3, 79))
    watch.until(50, card(3))
    assert watch.paused == ["gpu3"], "that it answers is no proof: nothing has been done"
    watch.sees(lost(3))
    (recovery,) = recoveries(watch.until(100, card(3)))
    assert set(recovery.kinds) == {"xid", "lost"} and recovery.resumed
    assert watch.paused == []


def test_another_fatal_xid_after_the_repair_is_not_repaired_by_it() -> None:
    watch = Watch()
    watch.sees(card(3, 79))
    watch.sees(lost(3))
    watch.until(10, card(3))
    watch.sees(card(3, 95))
    (recovery,) = recoveries(watch.until(100, card(3)))
    assert recovery.kinds == ("lost",) and not recovery.resumed
    assert watch.paused == ["gpu3"]


def test_a_fatal_xid_is_over_when_the_driver_goes_on_asking_for_nothing() -> None:
    watch = Watch()
    watch.sees(card(0, 95, recovery_action="none"))
    assert watch.paused == ["gpu0"]
    outcomes = watch.until(40, card(recovery_action="none"))
    assert [index for index, outcome in enumerate(outcomes) if outcome] == [29]
    assert recoveries(outcomes)[0].reason == "the driver asks for nothing"


def test_a_verdict_is_over_when_the_driver_takes_it_back_but_not_when_it_is_silent() -> None:
    watch = Watch()
    watch.sees(card(0, 95, recovery_action="gpu_reset"))
    assert not any(watch.until(60, card()))
    outcomes = watch.until(120, card(recovery_action="none"))
    assert [index for index, outcome in enumerate(outcomes) if outcome] == [29]
    assert (recoveries(outcomes)[0].reason, watch.paused) == ("the driver asks for nothing more", [])


@pytest.mark.parametrize("reason", ["driver_not_loaded", "no_gpu"])
def test_a_fatal_xid_is_over_after_the_driver_was_reloaded(reason: str) -> None:
    watch = Watch()
    watch.sees(card(0, 95))
    watch.sees(backend=GpuBackend("unavailable", reason))
    watch.until(60, card())
    assert watch.paused == []


def test_a_fatal_xid_is_over_after_counters_began_anew() -> None:
    watch = Watch()
    watch.sees(card(0, 95, violation_hw_thermal_ns=500))
    watch.until(40, card(violation_hw_thermal_ns=500))
    assert watch.paused == ["gpu0"]
    watch.until(80, card(violation_hw_thermal_ns=3))
    assert watch.paused == []


def test_a_fatal_xid_is_over_after_a_reboot() -> None:
    watch = Watch()
    watch.sees(card(0, 79), second=5000)
    assert not watch.takes(sample(10, [card()], boot_id="another")).withdrawn
    for second in range(11, 41):
        watch.takes(sample(second, [card()], boot_id="another"))
    assert watch.paused == []


def test_a_restart_of_the_driver_that_hangs_proves_nothing() -> None:
    watch = Watch()
    watch.sees(card(0, 95))
    watch.sees(backend=GpuBackend("unavailable", "driver_hangs"))
    watch.until(100, card())
    assert watch.paused == ["gpu0"]


def override(**fields: Any) -> OverrideChanged:
    given: dict[str, Any] = {"target": "gpu0", "outcome": "started", "action": "run", "speed": 1.0} | fields
    return OverrideChanged(operator="alice", reason="", cause="c", **given)


def test_who_forces_a_target_to_run_says_that_its_xid_has_been_dealt_with() -> None:
    watch = Watch()
    watch.sees(card(0, 95), card(1, 79))
    outcome = resumed(watch.faults, override(forced=True), "o1")
    assert outcome.withdrawn == ("gpu0",) and watch.paused == ["gpu1"]
    assert texts(outcome)[0].endswith("; alice says it has been dealt with; its faults pause it no more")
    watch.sees(card(0, 95), card(1))
    assert watch.paused == ["gpu0", "gpu1"], "another one is another matter"


@pytest.mark.parametrize("forced", [False, True])
def test_what_the_driver_asks_for_stands_whatever_an_operator_says(forced: bool) -> None:
    watch = Watch()
    watch.sees(card(0, 95))
    watch.sees(card(recovery_action="gpu_reset"))
    assert not resumed(watch.faults, override(forced=forced), "o1")
    assert not any(watch.until(60, card(recovery_action="gpu_reset")))
    assert watch.paused == ["gpu0"]
    watch.until(100, card(recovery_action="none"))
    assert watch.paused == [], "until the driver takes it back"


@pytest.mark.parametrize(
    "fields", [{"boot_id": "another"}, {"backend": GpuBackend("unavailable", "driver_not_loaded")}]
)
def test_a_verdict_is_over_where_another_driver_gives_none(fields: dict[str, Any]) -> None:
    watch = Watch()
    watch.sees(card(recovery_action="gpu_reset"))
    watch.until(60, card())
    assert watch.paused == ["gpu0"], "this driver gives verdicts, and is silent now"
    watch.sees(**fields)
    boot_id = fields.get("boot_id", BOOT)
    for _ in range(40):
        watch.sees(card(), boot_id=boot_id)
    assert watch.paused == []


@pytest.mark.parametrize(
    "fields",
    [
        {"forced": False},
        {"outcome": "ended"},
        {"outcome": "refused"},
        {"action": "throttle", "speed": 0.5},
        {"target": "gpu1"},
    ],
)
def test_other_words_of_operators_end_nothing(fields: dict[str, Any]) -> None:
    watch = Watch()
    watch.sees(card(0, 95))
    assert not resumed(watch.faults, override(**{"forced": True} | fields), "o1")
    assert watch.paused == ["gpu0"]


def test_an_operator_cannot_talk_a_lost_card_back() -> None:
    watch = Watch()
    watch.sees(card(0, 79))
    watch.sees(lost())
    assert not resumed(watch.faults, override(forced=True), "o1")
    assert watch.paused == ["gpu0"]


def test_a_card_that_is_listed_no_more_is_lost_until_it_is_forgotten() -> None:
    watch = Watch()
    watch.sees(card(0), card(1))
    outcomes = [watch.sees(card(0)) for _ in range(ABSENT_SAMPLES + 2)]
    assert [bool(outcome) for outcome in outcomes] == [False, False, True, False, False]
    assert watch.paused == ["gpu1"]
    assert "`flyball resume gpu1 --force` says it is gone for good" in watch.faults.demands["gpu1"].reason
    assert not resumed(watch.faults, override(target="gpu1"), "o1")
    assert resumed(watch.faults, override(target="gpu1", forced=True), "o2").withdrawn == ("gpu1",)
    assert not any(watch.until(30, card(0)))


def test_where_another_card_stands_now_it_is_not_to_blame() -> None:
    watch = Watch()
    watch.sees(card(0), card(1))
    moved = [watch.sees(card(0, uuid="GPU-1")) for _ in range(ABSENT_SAMPLES)]
    assert [one.detail for one in errors(moved)] == ["the driver has not listed it for 3 samples"]
    assert watch.paused == [], "GPU-0 stood at index 0, where GPU-1 is now"
    watch.sees(card(0, 13, uuid="GPU-1"))
    ((problem, _),) = standing_problems(watch)
    assert str(problem).startswith("gpu0: the card is lost "), "and it is missing all the same"


def test_a_pause_goes_where_its_card_goes() -> None:
    watch = Watch()
    watch.sees(card(0, 95), card(1))
    outcome = watch.sees(card(0, uuid="GPU-1"), card(1, uuid="GPU-0"))
    assert outcome.withdrawn == ("gpu0",) and [one.target for one in outcome.demands] == ["gpu1"]


def test_a_card_that_was_never_known_is_no_loss() -> None:
    watch = Watch()
    watch.sees(card(0), Gpu(index=1, uuid="unidentified-1", reading="blind", reason="no answer"))
    outcomes = [watch.sees(card(0), card(1)) for _ in range(10)]
    assert not any(outcomes)


def test_a_blind_card_is_not_lost() -> None:
    watch = Watch()
    watch.sees(card())
    assert not watch.sees(Gpu(index=0, uuid="GPU-0", reading="blind", reason="no answer"))
    (error,) = errors(
        watch.sees(Gpu(index=0, uuid="GPU-0", reading="blind", xids=(Xid(code=119, count=1, source="nvml"),)))
    )
    assert error.xid == 119


# -- counters ----------------------------------------------------------------------------------------------------------


def test_what_counters_held_at_first_sight_is_no_fault() -> None:
    watch = Watch()
    assert not watch.sees(
        card(ecc_uncorrected_total=9, violation_hw_thermal_ns=10**12, violation_power_brake_ns=10**12)
    )


def test_uncorrected_errors() -> None:
    watch = Watch()
    watch.sees(card(ecc_uncorrected_total=9))
    (error,) = errors(watch.sees(card(ecc_uncorrected_total=11)))
    assert (error.kind, error.count, error.action, error.fatal) == ("ecc_uncorrected", 2, "follow_procedure", False)
    assert not watch.sees(card(ecc_uncorrected_total=14)), "folded"
    assert not watch.sees(card()), "not told now"
    assert [one.count for one in errors(watch.until(70, card(ecc_uncorrected_total=15)))] == [3]
    assert watch.paused == []


def test_errors_that_came_during_a_gap_are_facts_and_slowdowns_are_not() -> None:
    watch = Watch()
    watch.sees(card(ecc_uncorrected_total=9, violation_hw_thermal_ns=0))
    told = errors(watch.sees(card(ecc_uncorrected_total=10, violation_hw_thermal_ns=10**12), gap=True))
    assert [one.kind for one in told] == ["ecc_uncorrected"]
    watch.sees(card(violation_hw_thermal_ns=2 * 10**12), second=1000)
    assert not watch.sees(card(violation_hw_thermal_ns=2 * 10**12))


def test_rows_that_are_broken_are_said_when_they_are_first_seen_and_when_it_is_over() -> None:
    watch = Watch()
    told = errors(watch.sees(card(remapped_rows_pending=True, remapped_rows_failed=True)))
    assert [(one.kind, one.action) for one in told] == [
        ("remapping_failed", "contact_support"),
        ("remapping_pending", "reset_gpu"),
    ]
    assert watch.paused == [], "the work may go on"
    assert not any(watch.until(50, card(remapped_rows_pending=True, remapped_rows_failed=True)))
    outcomes = watch.until(100, card(remapped_rows_pending=False, remapped_rows_failed=True))
    assert [(one.kinds, one.resumed) for one in recoveries(outcomes)] == [(("remapping_pending",), False)]


@pytest.mark.parametrize(
    ("counter", "kind", "action"),
    [
        ("violation_hw_thermal_ns", "hw_thermal_slowdown", "check_cooling"),
        ("violation_power_brake_ns", "power_brake", "check_power"),
    ],
)
def test_a_slowdown_is_said_once_it_lasts(counter: str, kind: str, action: str) -> None:
    watch, slowed_ns, outcomes = Watch(), 0, []
    watch.sees(card(**{counter: slowed_ns}))
    for _ in range(100):
        slowed_ns += 300_000_000
        outcomes.append(watch.sees(card(**{counter: slowed_ns})))
    told = errors(outcomes)
    assert [(one.kind, one.action) for one in told] == [(kind, action)] * 2
    assert [pytest.approx(one.slowed_s) for one in told] == [1.2, 16.8]
    assert [one.folded_s for one in told] == [None, 60.0]
    assert watch.paused == []


def test_a_short_slowdown_is_nothing() -> None:
    watch = Watch()
    for second in range(300):
        blink_ns = second // 100 * 900_000_000
        assert not watch.sees(card(violation_hw_thermal_ns=blink_ns))


def test_a_card_that_does_not_count_says_by_its_reasons_that_it_is_slowed() -> None:
    watch = Watch()
    watch.sees(card(throttle_reasons=("sw_power_cap", "hw_slowdown")))
    assert not watch.sees(card(throttle_reasons=("sw_power_cap", "hw_slowdown"))), "normal under load"
    (error,) = errors(watch.sees(card(throttle_reasons=("hw_thermal_slowdown",))))
    assert (error.kind, error.slowed_s) == ("hw_thermal_slowdown", 1.0)


# -- samples of all kinds ----------------------------------------------------------------------------------------------


def test_fast_samples_tell_nothing_of_faults() -> None:
    watch = Watch()
    watch.sees(card())
    assert not watch.sees(lost(), scope="fast")
    assert watch.paused == []


def test_what_is_simulated_and_what_is_measured_do_not_mix() -> None:
    watch = Watch()
    (text,) = texts(watch.sees(card(0, 79), simulated=True))
    assert text.startswith("SIMULATED: gpu0: XID 79")
    assert watch.faults.demands["gpu0"].reason.startswith("SIMULATED: ")
    outcome = watch.sees(card())
    assert outcome.withdrawn == ("gpu0",) and view(watch.faults) == {}


def test_those_who_look_see_the_last_faults_of_each_target() -> None:
    watch = Watch()
    watch.sees(card(0, 13), card(1))
    watch.sees(card(0, 79, 13), card(1))
    (first, second) = view(watch.faults)["gpu0"]
    assert (first["xid"], first["count"], first["action"], first["standing"]) == (79, 1, "reboot_host", True)
    assert (second["xid"], second["count"], second["standing"]) == (13, 2, False)
    assert "gpu1" not in view(watch.faults)
    for number in range(1, 300):
        watch.sees(card(0, 2000 + number))
    assert len(view(watch.faults)["gpu0"]) == 16
    assert len(xid_totals(watch.faults)["gpu0"]) == 256


def standing_problems(watch: Watch, target: str = "gpu0") -> list[tuple[object, object]]:
    """What is said of each fault that stands, and whether it is fatal."""
    return [(one["problem"], one["fatal"]) for one in view(watch.faults).get(target, []) if one["standing"]]


def test_a_fault_that_stands_is_a_problem_until_it_is_over() -> None:
    watch = Watch()
    watch.sees(card(0, 13, remapped_rows_failed=True), simulated=True)
    ((problem, fatal),) = standing_problems(watch)
    assert not fatal and str(problem).startswith("SIMULATED: gpu0: a row of its memory is broken and could not be")
    watch = Watch()
    watch.sees(card(0, 95))
    assert standing_problems(watch) == [
        (
            "gpu0: XID 95 (memory error, not contained); end every program on the card, this supervisor too, and reset "
            f"it: nvidia-smi --gpu-reset -i {PCI}; it stands until it was reset; `flyball resume gpu0 --force` says it "
            "has been dealt with",
            True,
        )
    ]
    resumed(watch.faults, override(), "o1")
    assert len(standing_problems(watch)) == 1, "an operator lets it run for a while, and it stands"
    resumed(watch.faults, override(forced=True), "o2")
    assert standing_problems(watch) == []
    assert [(one["problem"], one["fatal"]) for one in view(watch.faults)["gpu0"]] == [("", False)]


def test_what_the_driver_asks_for_is_a_problem_also_where_an_xid_told_of_it() -> None:
    watch = Watch()
    watch.sees(card(0, 95, recovery_action="gpu_reset"))
    ((problem, fatal),) = standing_problems(watch)
    assert fatal and str(problem).startswith("gpu0: the driver asks for gpu reset; ")
    assert str(problem).endswith("; it stands until the driver asks for nothing more")


def test_a_fault_that_stands_is_never_forgotten_for_others() -> None:
    watch = Watch()
    watch.sees(card(0, 79))
    for number in range(1, 100):
        watch.sees(card(0, 2000 + number))
    assert len(standing_problems(watch)) == 1 and len(view(watch.faults)["gpu0"]) == 16


gpus = st.builds(
    lambda reading, recovery, codes, ecc, slowed, pending: Gpu(
        index=0,
        uuid="GPU-0",
        reading=reading,
        reason="" if reading == "fresh" else "why",
        recovery_action=recovery,
        xids=tuple(Xid(code=code, count=count, source="nvml") for code, count in codes),
        **(
            {"ecc_uncorrected_total": ecc, "violation_hw_thermal_ns": slowed, "remapped_rows_pending": pending}
            if reading == "fresh"
            else {}
        ),
    ),
    st.sampled_from(["fresh", "fresh", "fresh", "blind", "lost"]),
    st.sampled_from([None, "none", "none", "gpu_reset", "drain_and_reset"]),
    st.lists(st.tuples(st.sampled_from([13, 48, 79, 95, 154, 999]), st.integers(1, 50)), max_size=3),
    st.none() | st.integers(0, 5),
    st.none() | st.integers(0, 5 * 10**9),
    st.none() | st.booleans(),
)


@given(st.lists(st.tuples(gpus, st.sampled_from([1, 1, 1, 2, 40]), st.booleans()), max_size=40))
def test_whatever_comes_no_xid_is_lost_and_every_pause_has_its_reason(
    ticks: list[tuple[Gpu, int, bool]],
) -> None:
    watch, told, raised = Watch(), 0, 0
    demanded: set[str] = set()
    for one, seconds, boots in ticks:
        raised += sum(xid.count for xid in one.xids)
        boot = "another" if boots and watch.second > 30 else BOOT
        outcome = watch.sees(one, second=watch.second + seconds, boot_id=boot)
        told += sum(error.count for error in errors(outcome) if error.kind == "xid")
        demanded = (demanded | {demand.target for demand in outcome.demands}) - set(outcome.withdrawn)
        assert demanded == set(watch.faults.demands)
        for fact in outcome.facts:
            assert msgspec.json.decode(msgspec.json.encode(fact.event), type=type(fact.event)) == fact.event
            assert fact.text
        standing = watch.faults.cards["GPU-0"].standing.values()
        assert bool(demanded) == any(each.fault.fatal for each in standing)
        if one.reading == "lost":
            assert demanded == {"gpu0"}
    quiet = Gpu(index=0, uuid="GPU-0")
    told += sum(error.count for error in errors(watch.until(watch.second + 70, quiet)) if error.kind == "xid")
    assert told == raised


@given(st.lists(gpus, max_size=30), st.integers(0, 30))
def test_a_stored_state_goes_on_as_if_nothing_had_been(ticks: list[Gpu], cut: int) -> None:
    whole, parts = Watch(), Watch()
    for index, one in enumerate(ticks):
        if index == cut:
            parts.faults = msgspec.msgpack.decode(msgspec.msgpack.encode(parts.faults), type=Faults)
        assert whole.sees(one) == parts.sees(one)
