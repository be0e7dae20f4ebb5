"""What is done about a leak that is confirmed: as the configuration says, and never more than it allows."""

from collections.abc import Callable
from typing import Any

import pytest

from handlers.leak.handler import LeakWatch
from handlers.leak.settings import Settings
from schemas.demand import Demand
from schemas.event import WorkloadRestarted
from schemas.leak import Interval
from schemas.sample import Counted, Host
from supervisor.handler import Decisions, Declared, Withdrawal
from tests.handlers.leak.scripted import MIB, PID, Fed, commands, process, reports, told, verdict
from tests.handlers.samples import GIB, context

NAME = "search-docs"


def _declared(on_leak: Any, *may: str, restart: tuple[str, ...] = ("true",)) -> list[Declared]:
    return [Declared(name=NAME, may=may, restart=restart, on_leak=on_leak)]


def _confirmed(fed: Fed, **fields: Any) -> Decisions:
    fed.say(1000.0, verdict("confirmed", **fields))
    return fed.see(1000.0)


def test_a_suspicion_is_no_ground_for_anything() -> None:
    fed = Fed(_declared("throttle", "throttle"))
    fed.say(1000.0, verdict("suspected"))
    assert fed.see(1000.0).demands == []


def test_throttling_stands_until_the_leak_is_over() -> None:
    fed = Fed(_declared("throttle", "throttle"))
    said = _confirmed(fed)
    demand = Demand(issuer="leak", target=f"workload.{NAME}", action="throttle", speed=0.5, reason="it leaks threads")
    assert said.demands == [demand]
    assert fed.handler.demands() == [demand]
    assert reports(said)[0].reaction == f"{NAME} is asked to go at speed 0.5 until this is over"
    assert told(said)[0][1].endswith("is asked to go at speed 0.5 until this is over")
    fed.reborn()
    assert fed.handler.demands() == [demand]
    fed.say(1500.0, verdict("steady"))
    over = fed.see(1500.0)
    assert over.demands == [Withdrawal("leak", f"workload.{NAME}")]
    assert told(over)[0][1].endswith(f"{NAME} is not asked to slow down any more")
    assert fed.handler.demands() == []


def test_of_two_leaks_the_last_one_ends_it() -> None:
    fed = Fed(_declared("throttle", "throttle"))
    fed.say(1000.0, verdict("confirmed", "threads"))
    fed.say(1000.0, verdict("confirmed", "handles"))
    assert len({demand.target for demand in fed.see(1000.0).demands}) == 1
    fed.say(1001.0, verdict("steady", "threads"))
    fed.say(1002.0, verdict("steady", "handles"))
    assert fed.see(1001.0).demands == []
    assert fed.see(1002.0).demands == [Withdrawal("leak", f"workload.{NAME}")]


def test_the_end_of_the_process_ends_it_too() -> None:
    fed = Fed(_declared("throttle", "throttle"))
    _confirmed(fed)
    said = fed.see(1001.0, process(start_time_s=1000.5))
    assert said.demands == [Withdrawal("leak", f"workload.{NAME}")]


def test_cleaning_up_is_asked_for_a_while() -> None:
    fed = Fed(_declared("cleanup", "cleanup"))
    (demand,) = _confirmed(fed).demands
    assert isinstance(demand, Demand)
    assert (demand.action, demand.speed, demand.cleanup) == ("run", 1.0, "soft")
    assert fed.see(1059.0) == Decisions()
    assert fed.see(1060.0).demands == [Withdrawal("leak", f"workload.{NAME}")]


@pytest.mark.parametrize("on_leak", ["throttle", "cleanup", "restart"])
def test_what_is_not_allowed_is_not_done_and_the_report_says_what_to_set(on_leak: str) -> None:
    fed = Fed(_declared(on_leak, "pause"))
    said = _confirmed(fed)
    assert said.demands == []
    assert not commands(said, "restart")
    expected = f'nothing was done: on_leak = "{on_leak}" of {NAME} needs "{on_leak}" in its may'
    assert reports(said)[0].reaction == expected


def test_a_restart_without_an_argument_list_is_not_asked_for() -> None:
    fed = Fed(_declared("restart", "restart", restart=()))
    assert "needs the argument list restart" in reports(_confirmed(fed))[0].reaction


def test_nothing_is_done_to_who_is_not_declared_or_where_only_address_space_grows() -> None:
    fed = Fed(_declared("throttle", "throttle"))
    fed.say(1000.0, verdict("confirmed"))
    assert fed.see(1000.0, process(workload="other")).demands == []
    fed = Fed(_declared("throttle", "throttle"))
    assert _confirmed(fed, resource="vms").demands == []


def test_a_restart_waits_until_nothing_is_counted_and_the_cpu_rests() -> None:
    fed = Fed(_declared("restart", "restart"))
    said = _confirmed(fed)
    assert not commands(said, "restart")
    assert "waits for a quiet moment (10 s without a count, and below 0.05 of a core)" in told(said)[0][1]
    asked: dict[float, int] = {}
    for second in range(1001, 1060):
        # calls until 1010, CPU until 1020
        fed.count(second - 0.5, add_sections=min(second, 1010))
        busy_s = 4.0 + min(second, 1020) - 1000
        if found := commands(fed.see(float(second), process(cpu_seconds=busy_s)), "restart"):
            asked[float(second)] = len(found)
    assert asked == {1030.0: 1}
    outcome = WorkloadRestarted(workload=NAME, outcome="restarted", reason="", cause="c", pids_before=(PID,))
    fed.hear(1060.0, "flyball.workload.restarted", outcome)
    cleared = told(fed.see(1061.0, process(start_time_s=1059.0)))
    assert cleared[0][1].endswith(f"its process ended; {NAME} was restarted")


def _asked_at(fed: Fed, counted: Callable[[int], Counted], until: int) -> list[int]:
    return [n for n in range(1001, until) if commands(fed.see(float(n), counted=[counted(n)]), "restart")]


def test_who_cannot_be_asked_is_not_known_to_rest() -> None:
    fed = Fed(_declared("restart", "restart"))
    _confirmed(fed)
    silent = Counted(workload=NAME, source="json http://a", reason="json http://a: connection refused")
    well = Counted(workload=NAME, source="json http://a", age_s=0.5, counts={"done": 7.0})
    assert _asked_at(fed, lambda n: silent if n < 1030 else well, 1060) == [1041]


def test_what_is_polled_now_and_then_is_known_to_rest_once_it_was_polled_again() -> None:
    fed = Fed(_declared("restart", "restart"))
    _confirmed(fed)

    def polled(second: int) -> Counted:
        """Each half minute, at which something was done the first three times."""
        polls, age_s = divmod(second - 1001, 30)
        return Counted(workload=NAME, source="json http://a", age_s=float(age_s), counts={"done": float(min(polls, 3))})

    assert _asked_at(fed, polled, 1200) == [1001 + 4 * 30]


def test_a_log_to_which_nothing_is_written_means_rest() -> None:
    fed = Fed(_declared("restart", "restart"))
    _confirmed(fed)
    stale = Counted(workload=NAME, source="lines /var/log/x", age_s=60.0, reason="nothing new for more than 10 s")
    assert _asked_at(fed, lambda _: stale, 1060) == [1010]


def test_the_command_for_a_restart_names_the_workload_and_what_for() -> None:
    fed = Fed(_declared("restart", "restart"))
    _confirmed(fed)
    said = [fed.see(float(second)) for second in range(1001, 1020)]
    (command,) = [command for one in said for command in commands(one, "restart")]
    assert (command.target, command.host, command.issuer) == (f"workload.{NAME}", "gpu-box", "leak")
    assert command.arguments == {"reason": "it leaks; in a quiet moment"}
    assert command.cause


def test_a_demo_restarts_nothing() -> None:
    fed = Fed(_declared("restart", "restart"))
    fed.say(1000.0, verdict("confirmed"))
    assert reports(fed.see(1000.0, simulated=True))[0].reaction == "nothing was done: a demo restarts nothing"
    assert not [n for n in range(1001, 1030) if commands(fed.see(float(n), simulated=True), "restart")]


def test_a_restart_does_not_wait_where_memory_may_soon_be_full() -> None:
    figures = Host(memory_total_bytes=16 * GIB, memory_available_bytes=2 * GIB)
    fed = Fed(_declared("restart", "restart"))
    fed.say(1000.0, verdict("confirmed", "rss", rate_per_s=Interval(8.0 * MIB, 7.0 * MIB, 9.0 * MIB)))
    said = [fed.see(1000.0 + n, process(cpu_seconds=4.0 + n), figures=figures) for n in range(12)]
    (command,) = [command for one in said for command in commands(one, "restart")]
    assert command.arguments == {"reason": "it leaks; because it may soon be full"}


def test_a_refusal_is_told_and_the_restart_is_not_asked_for_again() -> None:
    fed = Fed(_declared("restart", "restart"), Settings())
    _confirmed(fed)
    for second in range(1001, 1020):
        fed.see(float(second))
    refused = WorkloadRestarted(workload=NAME, outcome="refused", reason="the budget is spent", cause="c")
    fed.hear(1020.0, "flyball.workload.restarted", refused)
    assert all(fed.see(float(second)) == Decisions() for second in range(1021, 1060))
    fed.say(1060.0, verdict("steady"))
    assert "was not restarted: the budget is spent" in told(fed.see(1060.0))[0][1]


def test_a_second_leak_asks_for_the_restart_that_was_refused_for_the_first() -> None:
    fed = Fed(_declared("restart", "restart"))
    _confirmed(fed)
    first = [command for n in range(1, 20) for command in commands(fed.see(1000.0 + n), "restart")]
    refused = WorkloadRestarted(workload=NAME, outcome="refused", reason="the budget is spent", cause="c")
    fed.hear(1020.0, "flyball.workload.restarted", refused)
    fed.say(1030.0, verdict("confirmed", "handles"))
    assert "waits for a quiet moment" in reports(fed.see(1030.0))[0].reaction
    second = [command for n in range(1, 20) for command in commands(fed.see(1030.0 + n), "restart")]
    assert (len(first), len(second)) == (1, 1)
    assert first[0].id != second[0].id


def test_no_restart_is_asked_for_while_the_bus_is_away_but_as_soon_as_it_is_back() -> None:
    fed = Fed(_declared("restart", "restart"))
    _confirmed(fed)
    for second in range(1001, 1030):
        assert not commands(fed.see(float(second), away=True), "restart")
    assert [n for n in range(1030, 1060) if commands(fed.see(float(n)), "restart")] == [1030]


@pytest.mark.parametrize("kind", ["throttle", "cleanup", "restart"])
def test_who_leaves_the_workload_and_ends_leaves_nothing_standing(kind: str) -> None:
    fed = Fed(_declared(kind, kind))
    _confirmed(fed)
    fed.see(1001.0, process(workload=""))
    fed.say(1002.0, verdict("steady"))
    over = fed.see(1002.0, process(workload=""))
    assert over.demands == ([] if kind == "restart" else [Withdrawal("leak", f"workload.{NAME}")])
    assert fed.handler.demands() == []
    assert not [n for n in range(1003, 1030) if commands(fed.see(float(n)), "restart")]


@pytest.mark.parametrize("declared", [[], _declared("report", "throttle"), _declared("throttle", "pause")])
def test_what_the_configuration_does_not_ask_for_any_more_ends_with_a_restart(declared: list[Declared]) -> None:
    fed = Fed(_declared("throttle", "throttle"))
    _confirmed(fed)
    fed.declared = declared
    fed.reborn()
    assert fed.handler.demands() == []
    fed.say(1100.0, verdict("steady"))
    over = fed.see(1100.0)
    assert over.demands == []
    assert told(over)[0][1].endswith("the configuration does not ask for it any more")


def test_what_was_switched_off_before_a_start_is_ended_by_it() -> None:
    fed = Fed(_declared("throttle", "throttle"))
    _confirmed(fed)
    handler = LeakWatch(Settings(enabled=False), fed.declared, fed.subject)
    handler.restore(fed.handler.snapshot())
    ended = handler.tick(context(1100.0))
    assert ended is not None
    assert ended.demands == [Withdrawal("leak", f"workload.{NAME}")]
    assert told(ended)[0][0] == "cleared"
    assert handler.tick(context(1101.0)) is None
    assert (handler.demands(), handler.view()) == ([], {"problems": []})
