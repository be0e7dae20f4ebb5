"""What each process and card is fed with, and who is remembered."""

import os
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from handlers.leak.routes import Leaks, LeaksQuery
from handlers.leak.settings import Settings
from schemas.sample import Counted, GpuProcess
from schemas.workload import MOST_WATCHED
from supervisor.handler import Asked
from supervisor.process import lives
from tests.handlers.leak.scripted import MIB, PID, Fed, Scripted, process
from tests.handlers.samples import GIB, context, gpu


def _counted(source: str = "json http://a", **counts: float) -> Counted:
    return Counted(workload="search-docs", source=source, age_s=0.1, counts=counts, gauges={"queue": 2.0})


def test_a_process_is_fed_with_its_figures_and_what_it_counted() -> None:
    fed = Fed()
    fed.count(999.0, add_sections=3)
    fed.see(1000.0, gpus=[gpu(processes=(GpuProcess(PID, GIB),)), gpu(index=1, processes=(GpuProcess(PID, MIB),))])
    levels = {"rss": 200.0 * MIB, "vms": 1.0 * GIB, "threads": 97.0, "handles": 12.0, "vram": 1.0 * GIB + MIB}
    assert Scripted.fed[0] == (1000.0, levels, {"add_sections": 3}, {})


def test_memory_is_what_is_anonymous_and_all_of_it_where_nobody_tells() -> None:
    fed = Fed()
    fed.see(1000.0, process(rss_anon_bytes=None, open_handles=None))
    assert Scripted.fed[0][1] == {"rss": 300.0 * MIB, "vms": 1.0 * GIB, "threads": 97.0}


def test_a_card_that_does_not_answer_is_no_release_of_memory() -> None:
    fed = Fed()
    blind = gpu(index=1, temperature=None, memory_percent=None, reading="blind")
    fed.see(1000.0, gpus=[gpu(processes=(GpuProcess(PID, GIB),)), blind])
    assert [set(levels) for _, levels, _, _ in Scripted.fed] == [{"rss", "vms", "threads", "handles"}, {"vram"}]


def test_a_driver_that_does_not_tell_the_memory_of_a_process_feeds_none() -> None:
    fed = Fed()
    fed.see(1000.0, gpus=[gpu(processes=(GpuProcess(PID, None),))])
    assert "vram" not in Scripted.fed[0][1]


def test_polled_counters_are_those_of_every_process_of_the_workload() -> None:
    fed = Fed()
    child = process(pid=PID + 1)
    fed.see(1000.0, process(), child, process(pid=PID + 2, workload=""), counted=[_counted(done=7)])
    assert [(counts, gauges) for _, _, counts, gauges in Scripted.fed] == [
        ({"done": 7}, {"queue": 2}), ({"done": 7}, {"queue": 2}), ({}, {}),
    ]  # fmt: skip


def test_what_a_source_did_not_tell_is_left_out() -> None:
    fed = Fed()
    silent = Counted(workload="search-docs", source="json http://b", age_s=9.0, reason="timed out")
    fed.see(1000.0, counted=[silent, _counted(done=7)])
    fed.see(1001.0, counted=[silent])
    assert [one[2:] for one in Scripted.fed] == [({"done": 7}, {"queue": 2}), ({}, {})]


def test_names_are_prefixed_only_where_sources_clash_and_keep_their_meaning() -> None:
    fed = Fed()
    fed.see(1000.0, counted=[_counted(done=7)])
    fed.count(1000.5, done=1, more=2)
    fed.see(1001.0, counted=[_counted(done=8)])
    assert [one[2] for one in Scripted.fed] == [{"done": 7}, {"done": 8, "sdk.done": 1, "more": 2}]


def test_a_child_has_the_sum_of_what_its_workload_counted_and_who_counts_its_own() -> None:
    fed = Fed()
    fed.count(999.0, PID, calls=3)
    fed.count(999.0, PID + 1, calls=4)
    fed.see(1000.0, process(), process(pid=PID + 1), process(pid=PID + 2))
    assert [one[2] for one in Scripted.fed] == [{"calls": 3}, {"calls": 4}, {"calls": 7}]


def test_another_process_with_the_pid_does_not_inherit_what_was_counted() -> None:
    fed = Fed()
    fed.count(999.0, calls=3)
    fed.see(1000.0, process(start_time_s=998.0))
    assert Scripted.fed[0][2] == {}


def test_a_card_has_the_counters_of_the_workloads_on_it() -> None:
    fed = Fed()
    fed.count(999.0, PID, steps=3)
    other = process(pid=PID + 1, workload="other")
    polled = Counted(workload="other", source="json http://b", counts={"steps": 9, "epochs": 1})
    on_card = gpu(memory_percent=20, processes=(GpuProcess(PID, None), GpuProcess(PID + 1, None)))
    fed.see(1000.0, process(), other, gpus=[on_card, gpu(index=1)], counted=[polled])
    assert Scripted.fed[-2][1:3] == ({"vram": 20.0 * GIB}, {"steps": 9, "epochs": 1, "search-docs.steps": 3})
    assert Scripted.fed[-1][2] == {}


def test_lost_time_interrupts_everybody() -> None:
    fed = Fed()
    fed.see(1000.0, process(), process(pid=PID + 1))
    fed.see(1001.0, process(), gap=True)
    assert Scripted.interrupts == [1000.0, 1000.0]
    fed.handler.missed("inbox", context(1002.0))
    assert len(Scripted.interrupts) == 2
    fed.handler.missed("samples", context(1002.0))
    assert Scripted.interrupts[2:] == [1001.0, 1000.0]


def test_processes_that_were_not_read_are_not_missed() -> None:
    fed = Fed()
    fed.see(1000.0)
    for second in range(1001, 1010):
        fed.see(float(second), process(pid=1), unread=("processes",))
    assert [t_s for t_s, *_ in Scripted.fed] == [1000.0]
    assert _leaks(fed).watched == 1


def test_what_we_started_ourselves_is_watched_once_it_had_time_to_fill() -> None:
    child = subprocess.Popen(["sleep", "60"])
    try:
        fed = Fed()
        for second in (1000.0, 1899.0, 1900.0):
            fed.see(second, process(pid=child.pid))
        assert [t_s for t_s, *_ in Scripted.fed] == [1900.0]
    finally:
        child.kill()
        child.wait()


def test_who_ended_is_forgotten_and_who_only_fell_out_of_the_largest_is_not() -> None:
    fed = Fed()
    started_s = _own_start_s()
    assert lives(os.getpid(), started_s)
    fed.see(1000.0, process(), process(pid=os.getpid(), start_time_s=started_s))
    for second in range(1001, 1010):
        fed.see(float(second), process(pid=PID + 1))
    assert _leaks(fed).watched == 2
    fed.see(1700.0, process(pid=PID + 1))
    assert _leaks(fed).watched == 1


def test_only_so_many_are_watched_and_who_is_not_shown_makes_room() -> None:
    fed = Fed(settings=Settings(subjects=5))
    every = [process(pid=PID + number) for number in range(10)]
    for second in (1000.0, 1001.0):
        fed.see(second, *every)
    assert (_leaks(fed).watched, _leaks(fed).not_watched) == (5, 5)
    assert len(Scripted.fed) == 10
    fed.see(1002.0, *every[5:])
    assert _leaks(fed).watched == 4
    fed.see(1003.0, *every[5:])
    assert {one[0] for one in Scripted.fed} == {1000.0, 1001.0, 1003.0}


def _leaks(fed: Fed) -> Leaks:
    (route,) = fed.handler.routes()
    answer: Leaks = route.call(Asked(query=LeaksQuery()))
    return answer


def _own_start_s() -> float:
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


def test_what_a_program_tells_of_itself_is_bounded() -> None:
    fed = Fed()
    counts: dict[str, Any] = {"x" * 129: 1.0} | {f"c{number}": 1.0 for number in range(2000)}
    fed.count(999.0, **counts)
    fed.see(1000.0)
    assert list(Scripted.fed[0][2]) == [f"c{number}" for number in range(MOST_WATCHED)]


def test_what_is_told_in_the_name_of_a_process_that_nobody_sees_is_forgotten() -> None:
    fed = Fed()
    fed.count(999.0, add_sections=3)
    alone = len(fed.handler.snapshot())
    for number in range(100):
        fed.count(999.0, pid=PID + 1 + number, nothing=1.0)
    assert len(fed.handler.snapshot()) > alone + 100 * 50
    for second in range(1000, 1030):
        fed.see(float(second))
        fed.count(second + 0.7, pid=PID + 1, nothing=1.0)
    for second in range(1030, 1060):
        fed.see(float(second))
    assert Scripted.fed[-1][2] == {"add_sections": 3}
    told = {one["pid"] for one in msgspec.msgpack.decode(fed.handler.snapshot())["counted"]["told"]}
    assert told == {PID}


@pytest.mark.parametrize("workload", ["search-docs", ""])
def test_names_that_change_with_each_message_are_bounded(workload: str) -> None:
    fed = Fed()
    for second in range(1000, 1010):
        counts: dict[str, Any] = {f"c{second}.{number}": 1.0 for number in range(40)}
        fed.count(second - 0.5, **counts)
        fed.see(float(second), process(workload=workload))
    assert len({name for _, _, counts, _ in Scripted.fed for name in counts}) == MOST_WATCHED
