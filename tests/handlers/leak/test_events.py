"""What the handler says of a leak, from suspected to cleared."""

from typing import Any

import msgspec
import pytest

from handlers.leak.handler import LeakWatch
from handlers.leak.settings import Settings
from schemas.envelope import MalformedEntry
from schemas.event import EvidenceGathered
from schemas.leak import Cause, Interval
from schemas.sample import GpuProcess, Host
from schemas.workload import Allocated, Growing
from supervisor.handler import Decisions
from tests.handlers.leak.scripted import BY_CALL, MIB, PID, Fed, Scripted, commands, process, reports, told, verdict
from tests.handlers.samples import GIB, context, event, gpu, sample, sampled

HOST = Host(memory_total_bytes=16 * GIB, memory_available_bytes=8 * GIB)


def _evidence(command: str, **fields: Any) -> EvidenceGathered:
    return EvidenceGathered(command=command, pid=PID, start_time_s=50.0, cause="c", **fields)


def test_a_leak_of_threads_is_told_from_suspicion_to_its_end() -> None:
    fed = Fed()
    fed.say(1000.0, verdict("suspected", **BY_CALL))
    suspected = fed.see(1000.0)
    ((kind, text),) = told(suspected)
    assert kind == "suspected"
    # how many threads the kernel may have differs from machine to machine
    assert text.startswith(
        "search-docs (pid 4999812) may leak threads: 1.03 (0.98 to 1.09) a call of add_sections since 11:21:40 UTC, "
        "after a jump of 34 at the first; 97 now; full in about "
    )
    fed.say(1060.0, verdict("confirmed", **BY_CALL))
    confirmed = fed.see(1060.0, process(threads=130))
    assert told(confirmed)[0][1].startswith("search-docs (pid 4999812) leaks threads: 1.03 (0.98 to 1.09) a call of")
    fed.say(1200.0, verdict("steady"))
    cleared = fed.see(1200.0, process(threads=131))
    assert told(cleared) == [("cleared", "search-docs (pid 4999812) no longer leaks threads: 131 now, and steady")]

    first, second, third = (reports(one)[0] for one in (suspected, confirmed, cleared))
    assert (first.leak, first.pid, first.start_time_s) == ("pid/4999812/50.00", PID, 50.0)
    assert first.workload == "search-docs"
    assert first.leak == second.leak == third.leak
    assert (first.stage, second.stage, third.stage) == ("suspected", "confirmed", "cleared")
    assert first.detection_time == second.detection_time == "2026-11-18T11:23:20.000Z"
    assert first.since == "2026-11-18T11:21:40.000Z"
    assert first.memory_growth_rate == pytest.approx(1.5 * 3600)
    assert first.severity == "warning"
    assert (first.level, second.level, third.level) == (97, 130, 131)
    assert first.cause_of_growth is not None and first.cause_of_growth.driver == "calls.add_sections"
    assert first.jumps[0].amount == 34
    assert first.cause == sampled(sample(1000.0)).id


def test_memory_is_forecast_against_what_the_host_has_left() -> None:
    fed = Fed()
    rate = Interval(8 * GIB / 7200, 8 * GIB / 9000, 8 * GIB / 6000)
    fed.say(1000.0, verdict("confirmed", "rss", rate_per_s=rate, cause=Cause(driver="time")))
    said = fed.see(1000.0, figures=HOST)
    (one,) = reports(said)
    assert one.forecast is not None
    assert (one.forecast.limit, one.forecast.limit_value) == ("host", 16 * GIB)
    assert one.forecast.p50_s == pytest.approx(7200)
    assert one.forecast.p10_s is not None and one.forecast.p90_s is not None
    assert 6000 < one.forecast.p10_s < 7200 < one.forecast.p90_s < 9000
    assert one.severity == "warning"
    assert told(said)[0][1] == (
        "search-docs (pid 4999812) leaks memory: 68.3 MB/min (54.6 to 81.9) since 11:21:40 UTC, with time alone; "
        "200 MB now; full in about 2 h (1.8 h to 2.3 h; the host)"
    )
    assert "timers" in " ".join(one.recommendations)


def test_what_is_full_within_the_hour_is_critical() -> None:
    fed = Fed()
    fed.say(1000.0, verdict("suspected", "rss", rate_per_s=Interval(8 * GIB / 3000, 8 * GIB / 3100, 8 * GIB / 2900)))
    assert reports(fed.see(1000.0, figures=HOST))[0].severity == "critical"


def test_memory_that_threads_explain_says_so() -> None:
    fed = Fed()
    cause = Cause(
        driver="threads",
        per_call=Interval(8.1 * MIB, 7.9 * MIB, 8.3 * MIB),
        through="calls.add_sections",
        explained=0.9,
    )
    fed.say(1000.0, verdict("confirmed", "rss", rate_per_s=Interval(MIB, 0.9 * MIB, 1.1 * MIB), cause=cause))
    said = fed.see(1000.0)
    assert "leaks memory: 8.1 MB (7.9 to 8.3) a thread (they grow with calls of add_sections) since" in told(said)[0][1]
    assert "The memory is that of its threads" in reports(said)[0].recommendations[0]


def test_what_cannot_be_told_apart_is_said() -> None:
    fed = Fed()
    cause = Cause(driver="calls.a", alike=("calls.b",), tell_apart="call one of them alone for a while")
    fed.say(1000.0, verdict("confirmed", "threads", cause=cause))
    text = told(fed.see(1000.0))[0][1]
    assert "with calls of a, or of calls of b, which move together with it" in text
    assert "to tell what drives it: call one of them alone for a while" in text


def test_address_space_alone_is_information_and_never_more_than_suspected() -> None:
    fed = Fed()
    fed.say(1000.0, verdict("confirmed", "vms"))
    (one,) = reports(fed.see(1000.0))
    assert (one.stage, one.severity) == ("suspected", "info")
    fed.say(1010.0, verdict("confirmed", "vms"))
    assert fed.see(1010.0) == Decisions()


def test_address_space_is_not_told_beside_memory_until_that_is_over() -> None:
    fed = Fed()
    fed.say(1000.0, verdict("suspected", "rss"))
    assert [kind for kind, _ in told(fed.see(1000.0))] == ["suspected"]
    fed.say(1001.0, verdict("suspected", "vms"))
    assert fed.see(1001.0) == Decisions()
    fed.say(1002.0, verdict("steady", "rss"))
    said = told(fed.see(1002.0))
    assert [kind for kind, _ in said] == ["cleared", "suspected"]
    assert "may leak address space" in said[1][1]


def test_what_flaps_is_told_once_in_ten_minutes_but_a_confirmed_leak_at_once() -> None:
    fed = Fed()
    stages = [
        (1000.0, "suspected"),
        (1030.0, "steady"),
        (1060.0, "suspected"),
        (1090.0, "steady"),
        (1120.0, "suspected"),
    ]
    for second, stage in stages:
        fed.say(second, verdict(stage))  # type: ignore[arg-type]
    said = [kind for second, _ in stages for kind, _ in told(fed.see(second))]
    assert said == ["suspected", "cleared"]
    # the third suspicion goes on, and is told when the ten minutes are over
    assert fed.see(1629.0) == Decisions()
    assert [kind for kind, _ in told(fed.see(1631.0))] == ["suspected"]
    fed.say(1640.0, verdict("steady"))
    fed.say(1650.0, verdict("confirmed"))
    assert [kind for second in (1640.0, 1650.0) for kind, _ in told(fed.see(second))] == ["cleared", "confirmed"]


def test_the_end_of_the_process_clears_its_leak() -> None:
    fed = Fed()
    fed.say(1000.0, verdict("suspected", **BY_CALL))
    fed.see(1000.0)
    others = process(pid=1, start_time_s=1.0, workload="")
    assert [told(fed.see(second, others)) for second in (1001.0, 1002.0)] == [[], []]
    assert told(fed.see(1003.0, others)) == [
        ("cleared", "search-docs (pid 4999812) no longer leaks threads: its process ended")
    ]


def test_a_process_that_ended_and_was_not_asked_for_is_none() -> None:
    fed = Fed()
    fed.say(1000.0, verdict("suspected"))
    fed.see(1000.0)
    zombie = process(vms_bytes=0, rss_bytes=0, rss_anon_bytes=0, threads=1)
    assert [kind for second in (1001.0, 1002.0, 1003.0) for kind, _ in told(fed.see(second, zombie))] == ["cleared"]
    assert len(Scripted.fed) == 1


def test_another_process_with_its_pid_clears_its_leak_at_once() -> None:
    fed = Fed()
    fed.say(1000.0, verdict("suspected"))
    fed.see(1000.0)
    said = told(fed.see(1001.0, process(start_time_s=990.0)))
    assert said == [("cleared", "search-docs (pid 4999812) no longer leaks threads: its process ended")]


def test_evidence_is_asked_for_and_stands_in_what_is_said_next() -> None:
    fed = Fed()
    fed.say(1000.0, verdict("suspected", **BY_CALL))
    suspected = fed.see(1000.0)
    (command,) = commands(suspected, "evidence")
    assert (command.target, command.ttl_s, command.issuer) == ("workload.search-docs", 30.0, "leak")
    assert command.arguments == {"pid": PID, "start_time_s": 50.0, "resource": "threads", "workload": "search-docs"}
    assert "There is no evidence of the process yet." in reports(suspected)[0].recommendations
    outer = _evidence(command.id, threads={"worker": 90, "main": 1}, stacks="Thread 1", missing=("py-spy: not there",))
    inner = _evidence(command.id, objects=(Growing(type="dict", count=90, more=80),), missing=("too busy",))
    fed.hear(1001.0, "flyball.evidence.gathered", outer)
    fed.hear(1002.0, "flyball.evidence.gathered", inner)
    fed.hear(1002.0, "flyball.evidence.gathered", _evidence("somebody-else"))
    fed.say(1060.0, verdict("confirmed", **BY_CALL))
    confirmed = fed.see(1060.0)
    (one,) = reports(confirmed)
    assert one.evidence is not None
    assert (one.evidence.threads, one.evidence.objects[0].more) == ({"worker": 90, "main": 1}, 80)
    assert one.evidence.missing == ("py-spy: not there", "too busy")
    assert one.stack_trace == "Thread 1"
    assert one.suspected_objects == ("thread worker: 90", "thread main: 1")
    (again,) = commands(confirmed, "evidence")
    assert again.id != command.id
    fed.hear(1061.0, "flyball.evidence.gathered", _evidence(again.id, threads={"worker": 130, "main": 1}))
    fed.say(1100.0, verdict("steady"))
    (last,) = reports(fed.see(1100.0))
    assert last.suspected_objects == ("thread worker: 130 (+40)",)


def test_one_look_serves_all_that_is_told_of_a_process_at_a_time() -> None:
    fed = Fed()
    fed.say(1000.0, verdict("suspected", "threads"))
    fed.say(1000.0, verdict("suspected", "rss"))
    fed.say(1003.0, verdict("suspected", "handles"))
    fed.say(1040.0, verdict("confirmed", "handles"))
    (command,) = commands(fed.see(1000.0), "evidence")
    fed.hear(1001.0, "flyball.evidence.gathered", _evidence(command.id, threads={"worker": 90}))
    assert not commands(fed.see(1003.0), "evidence")
    (again,) = commands(fed.see(1040.0), "evidence")
    assert again.id != command.id
    fed.say(1041.0, verdict("steady", "rss"))
    fed.say(1041.0, verdict("steady", "handles"))
    both = reports(fed.see(1041.0))
    assert [one.evidence is not None and one.evidence.threads for one in both] == [{"worker": 90}, {"worker": 90}]


def test_threads_that_the_kernel_calls_alike_are_called_as_python_does() -> None:
    fed = Fed()
    fed.say(1000.0, verdict("suspected"))
    (command,) = commands(fed.see(1000.0), "evidence")
    readers = 'Thread 0x7F (idle): "reader-*"\n    g (a.py:2)\n    … and 1,001 more like it\n'
    stacks = readers + 'Thread 1 (idle): "MainThread"\n    f (a.py:1)\nThread 9 (active): "reader-7"\n    h (a.py:3)'
    fed.hear(1001.0, "flyball.evidence.gathered", _evidence(command.id, threads={"python": 4}, stacks=stacks))
    fed.say(1060.0, verdict("confirmed"))
    (one,) = reports(fed.see(1060.0))
    assert one.suspected_objects == ("thread reader-*: 1003", "thread MainThread: 1")
    assert any("1003 threads are called 'reader-*'" in each for each in one.recommendations)


@pytest.mark.parametrize(
    ("resource", "evidence", "advice"),
    [
        ("handles", {"handles": {"socket tcp CLOSE_WAIT": 40, "file": 3}}, "40 sockets are in CLOSE_WAIT"),
        ("handles", {"handles": {"file": 40}}, "Most are files (40): open them in a with block."),
        ("threads", {"threads": {"pool": 40}}, "40 threads are called 'pool'"),
        ("rss", {"objects": (Growing(type="builtins.dict", count=9, more=8),)}, "lru_cache(maxsize=…)"),
        ("rss", {"allocations": (Allocated(where="a.py:3", size_bytes=9, count=1),)}, "comes from a.py:3"),
    ],
)
def test_what_was_seen_makes_the_advice(resource: Any, evidence: dict[str, Any], advice: str) -> None:
    fed = Fed()
    fed.say(1000.0, verdict("suspected", resource))
    (command,) = commands(fed.see(1000.0), "evidence")
    fed.hear(1001.0, "flyball.evidence.gathered", _evidence(command.id, **evidence))
    fed.say(1060.0, verdict("confirmed", resource))
    assert advice in " ".join(reports(fed.see(1060.0))[0].recommendations)


def test_a_process_without_a_workload_is_looked_into_all_the_same() -> None:
    fed = Fed()
    fed.say(1000.0, verdict("suspected"))
    said = fed.see(1000.0, process(workload="@llm_model"))
    assert commands(said, "evidence")[0].target == "host"
    assert told(said)[0][1].startswith("python3 (pid 4999812) may leak threads")


def test_a_card_is_watched_as_a_whole_unless_a_process_on_it_is_known_to_leak() -> None:
    cards = [gpu(memory_percent=40)]
    fed = Fed()
    fed.say(1000.0, verdict("confirmed", "vram", rate_per_s=Interval(50.0 * MIB, 49.0 * MIB, 51.0 * MIB)))
    said = fed.see(1000.0, gpus=cards)
    assert told(said)[0][1] == (
        "gpu0 leaks VRAM: 2.93 GB/min (2.87 to 2.99) since 11:21:40 UTC; 40 GB now; "
        "full in about 20 min (20 min to 21 min; the card)"
    )
    (one,) = reports(said)
    assert (one.leak, one.gpu, one.pid, one.severity) == ("gpu0", "gpu0", 0, "critical")
    assert one.forecast is not None and one.forecast.limit == "gpu"
    assert not said.commands

    fed = Fed()
    fed.say(1000.0, verdict("confirmed", "vram"))
    both = fed.see(1000.0, gpus=[gpu(memory_percent=40, processes=(GpuProcess(PID, GIB),))])
    assert [report.leak for report in reports(both)] == ["pid/4999812/50.00"]


def test_simulated_leaks_are_marked() -> None:
    fed = Fed()
    fed.say(1000.0, verdict("suspected"))
    said = fed.see(1000.0, simulated=True)
    assert told(said)[0][1].startswith("SIMULATED: ")
    assert reports(said)[0].simulated


def test_a_leak_that_switching_off_ends_is_cleared() -> None:
    fed = Fed()
    fed.say(1000.0, verdict("suspected"))
    fed.see(1000.0)
    assert fed.handler.tick(context(1000.5)) is None
    assert fed.handler.reconfigure(Settings(enabled=False))
    said = fed.handler.tick(context(1001.0))
    assert said is not None and "not watched for any more" in told(said)[0][1]
    assert fed.handler.tick(context(1002.0)) is None
    assert fed.see(1003.0) == Decisions()


def test_a_machine_that_was_restarted_has_no_leaks() -> None:
    fed = Fed()
    fed.say(1000.0, verdict("suspected"))
    fed.see(1000.0)
    said = told(fed.see(10.0, boot_id="another"))
    assert said == [("cleared", "search-docs (pid 4999812) no longer leaks threads: the machine was restarted")]


def test_what_others_say_and_see_is_passed_over() -> None:
    fed = Fed()
    fed.say(1000.0, verdict("suspected"))
    assert fed.take(sampled(sample(1000.0, processes=[process()], host="other")), context(1000.0)) == Decisions()
    assert fed.see(1000.0, scope="fast") == Decisions()
    assert not Scripted.fed


async def test_what_is_malformed_changes_nothing() -> None:
    handler = LeakWatch(Settings(), ())
    with pytest.raises(MalformedEntry):
        await handler.handle(event("flyball.workload.count", {"workload": 3}), context(1.0, "inbox"))
    with pytest.raises(MalformedEntry):
        await handler.handle(event("flyball.evidence.gathered", {"pid": "x"}), context(1.0, "events"))
    with pytest.raises(MalformedEntry, match="too many"):
        await handler.handle(event("flyball.workload.count", "x" * 70_000), context(1.0, "inbox"))


def test_events_have_the_types_of_the_wire() -> None:
    fed = Fed()
    fed.say(1000.0, verdict("suspected"))
    (draft,) = fed.see(1000.0).events
    assert (draft.type, draft.subject) == ("flyball.leak.suspected", "search-docs")
    assert msgspec.json.encode(draft.data)


def test_the_name_of_a_process_is_nothing_that_a_terminal_obeys() -> None:
    fed = Fed()
    fed.say(1000.0, verdict("suspected"))
    ((_, text),) = told(fed.see(1000.0, process(name="\x1b[2Jx", workload="")))
    assert text.startswith(f"\N{REPLACEMENT CHARACTER}[2Jx (pid {PID})")
