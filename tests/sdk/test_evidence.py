"""A program is asked which of its lines allocate and keep memory: it names them, and stands still for no longer."""

import gc
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flyball import Workload
from flyball.budget import Budget
from flyball.objects import Census
from flyball.stops import Stops
from flyball.wire import Counters, InnerEvidence, ask_channel
from tests.sdk.leaking import SOURCE, Leaker, line_of
from tests.sdk.supervision import HOST, WORKLOAD_RIGHTS, Heard, Lines, Supervisor

#: The issue's bound.
STOP_S = 0.05


def test_the_line_and_the_type_are_named(supervisor: Supervisor) -> None:
    with Leaker(supervisor) as leaker:
        leaker.ask("c1")
        found = leaker.answer("c1")
        assert not leaker.told().traces
    most, home = found.allocations[0], str(Path.home())
    assert most.where == f"{str(SOURCE).replace(home, '~')}:{line_of('# remembered here')}"
    assert most.count > 100
    assert most.size_bytes > 900 * most.count  # an object and its 2,000 bytes each
    grown = {one.type: one for one in found.objects}
    assert grown["__main__.Session"].more > 100
    assert grown["__main__.Session"].count > grown["__main__.Session"].more
    assert grown["dict"].more > 100
    assert found.missing == ()
    assert 1.0 <= found.took_s < 10


@pytest.mark.timeout(120)
@pytest.mark.parametrize("options", [("--rate", "500"), ("--rate", "500", "--ballast", "400000"), ("--rate", "0")])
def test_nothing_stands_still(supervisor: Supervisor, options: tuple[str, ...]) -> None:
    """Neither with many objects nor with many allocations. What makes a busy machine wait comes and goes."""
    stood_s, told_s = [], []
    for number in range(5):
        with Leaker(supervisor, *options) as leaker:  # each time another: one is not looked at so often
            leaker.told()
            time.sleep(1.5)  # the time without a look, for comparison: before it and after it, as the program grows
            before_s = leaker.told().longest_gap_s
            leaker.ask(f"c{number}", within_s=5)
            found = leaker.answer(f"c{number}")
            in_look_s = leaker.told().longest_gap_s
            time.sleep(1.5)
            alone_s = max(before_s, leaker.told().longest_gap_s)
            stood_s.append(in_look_s - alone_s)
            told_s.append(found.stopped_s)
        print(
            f"{' '.join(options)}: longest gap {alone_s * 1000:.0f} ms, {stood_s[-1] * 1000:+.0f} ms in the look "
            f"of {found.took_s:.1f} s, which told of {told_s[-1] * 1000:.1f} ms; missing: {found.missing}"
        )
        if stood_s[-1] < STOP_S and told_s[-1] < STOP_S:
            break
    assert min(stood_s) < STOP_S
    assert 0 < min(told_s) < STOP_S


def test_where_much_is_allocated_the_watch_ends_early(supervisor: Supervisor) -> None:
    with Leaker(supervisor, "--rate", "0") as leaker:
        leaker.ask("c1", within_s=5)
        found = leaker.answer("c1")
    assert found.took_s < 4.5
    assert found.allocations or found.missing[0].startswith("allocations: ")


def test_what_is_too_much_to_look_at_is_left_out_and_said(supervisor: Supervisor) -> None:
    with Leaker(supervisor, "--ballast", "2000000") as leaker:
        leaker.ask("c1")
        found = leaker.answer("c1")
    assert found.objects == ()
    (why,) = found.missing
    assert why.startswith("types of objects: ")
    assert why.endswith("are too many to look at them without stopping the program")
    assert found.allocations[0].where.endswith(f":{line_of('# remembered here')}")


def test_a_program_that_uses_tracemalloc_itself_goes_on_with_it(supervisor: Supervisor) -> None:
    with Leaker(supervisor, "--trace", "--rate", "100") as leaker:
        kept = leaker.told().kept
        leaker.ask("c1")
        found = leaker.answer("c1")
        told = leaker.told()
    assert told.traces
    most = found.allocations[0]
    assert most.where.endswith(f":{line_of('# remembered here')}")
    assert most.count <= 2 * (told.kept - kept)  # the difference alone


def test_a_python_that_tells_nothing_says_so(supervisor: Supervisor) -> None:
    """Such as PyPy, which has neither."""
    code = (
        "import sys; sys.modules['tracemalloc'] = None; del sys.getallocatedblocks\n"
        "import flyball\n"
        "with flyball.Workload('other'): sys.stdin.read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as program:
        supervisor.ask("other", program.pid, supervisor.start_of(program.pid), within_s=0.1)
        found = supervisor.until(InnerEvidence, ask="c1").decode(InnerEvidence)
        program.kill()
    allocations, objects = found.missing
    assert objects.startswith("types of objects: cpython does not tell them (")
    assert allocations == "allocations: cpython has no tracemalloc"


def test_where_nobody_knows_how_much_there_is_nothing_is_counted(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONMALLOC", "malloc")
    with Leaker(supervisor) as leaker:
        leaker.ask("c1")
        found = leaker.answer("c1")
    assert found.missing == (
        "types of objects: this Python's allocator does not tell how much there is to be looked at",
    )
    assert found.allocations[0].where.endswith(f":{line_of('# remembered here')}")


def test_where_nothing_is_kept_nothing_is_blamed(supervisor: Supervisor) -> None:
    with Leaker(supervisor, "--forget") as leaker:
        leaker.ask("c1")
        found = leaker.answer("c1")
    assert not [one for one in found.objects if one.type == "__main__.Session" and one.more > 1]
    assert sum(one.size_bytes for one in found.allocations) < 20_000


def test_the_look_itself_is_no_growth(supervisor: Supervisor) -> None:
    """A first look imports what it uses, some thousand objects, and the program did not make them."""
    code = "import flyball, sys\nwith flyball.Workload('quiet'): sys.stdin.read()\n"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as program:
        supervisor.ask("quiet", program.pid, supervisor.start_of(program.pid), within_s=0.5)
        found = supervisor.until(InnerEvidence, ask="c1").decode(InnerEvidence)
        program.kill()
    assert found.missing == ()
    assert sum(one.more for one in found.objects) < 10, found.objects


def test_one_look_at_a_time(supervisor: Supervisor) -> None:
    with Leaker(supervisor) as leaker:
        leaker.ask("first", within_s=2)
        leaker.ask("second")
        busy, found = leaker.answer("second"), leaker.answer("first")
        assert busy.missing == ("allocations and objects: this process is already looking for another request",)
        assert found.allocations
        leaker.ask("third")
        assert leaker.answer("third").allocations


def test_who_asks_again_and_again_is_refused(supervisor: Supervisor) -> None:
    """On a bus without a password anybody may ask, and a watch slows the program down."""
    code = (
        "import flyball, flyball.budget, sys\n"
        "flyball.budget.BUDGET_S = 1.0\n"  # else the test would last so long
        "with flyball.Workload('asked'): sys.stdin.read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as program:
        started_s = supervisor.start_of(program.pid)
        supervisor.ask("asked", program.pid, started_s, id="first", within_s=1.0)
        assert supervisor.until(InnerEvidence, ask="first").decode(InnerEvidence).missing == ()
        supervisor.ask("asked", program.pid, started_s, id="second", within_s=1.0)
        (why,) = supervisor.until(InnerEvidence, ask="second").decode(InnerEvidence).missing
        program.kill()
    assert why.startswith(
        "allocations and objects: this process was looked at for long enough in the last minute; ask again in "
    )
    assert 50 <= int(why.split()[-2]) <= 60


def test_some_seconds_of_a_minute_are_for_looks() -> None:
    """Both looks of one leak, at its suspicion and its confirmation, fit in."""
    budget = Budget()
    assert budget.wait_s(100.0) == 0
    for began_s in (100.0, 106.0, 112.0):
        assert budget.wait_s(began_s) == 0
        budget.spend(began_s, began_s + 5.5)
    assert budget.wait_s(118.0) == pytest.approx(105.5 + 60 - 118)
    assert budget.wait_s(165.4) == pytest.approx(0.1)
    assert budget.wait_s(165.5) == 0
    budget.spend(165.5, 180.5)
    assert budget.wait_s(181.0) == pytest.approx(180.5 + 60 - 181)
    assert budget.wait_s(1000.0) == 0


def test_only_the_process_that_is_meant_answers(supervisor: Supervisor) -> None:
    with Leaker(supervisor) as leaker:
        leaker.ask("another pid", pid=leaker.pid + 1)
        leaker.ask("an earlier process", start_time_s=leaker.start_time_s - 1)
        leaker.ask("another host", host="elsewhere")
        leaker.ask("this one", within_s=0.2)
        leaker.answer("this one")
        assert [data.ask for _, data in supervisor.inbox() if isinstance(data, InnerEvidence)] == ["this one"]


def test_a_program_may_refuse_to_be_asked(supervisor: Supervisor) -> None:
    with Leaker(supervisor, "--silent") as leaker:
        supervisor.say("throttle", 0.5)
        supervisor.until_heard(leaker.pid)
        assert not supervisor.client.publish(ask_channel(HOST, leaker.name), b"{}")


def test_garbage_is_ignored(supervisor: Supervisor, lines: Lines) -> None:
    with Workload("trainer"):
        for garbage in (b"", b"\xff", b"{}", b'{"id": 1}', b"[" * 100_000):
            supervisor.client.publish(ask_channel(HOST, "trainer"), garbage)
        assert "ignored a request for evidence" in lines.until("ignored")
        supervisor.say("throttle", 0.5)
        supervisor.until_heard(os.getpid())


def test_a_workload_that_leaves_ends_the_look(supervisor: Supervisor) -> None:
    """Its process ends in good order, which `Leaker` sees to."""
    with Leaker(supervisor) as leaker:
        leaker.ask("c1", within_s=5)
        while not leaker.told().traces:
            time.sleep(0.01)
        began_s = time.monotonic()
    assert time.monotonic() - began_s < 4


def test_rights_from_before_there_were_requests_do_no_harm(
    supervisor: Supervisor, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    rights = [word for word in WORKLOAD_RIGHTS if word != "&flyball:ask:*"]
    assert len(rights) == len(WORKLOAD_RIGHTS) - 1
    supervisor.client.execute_command("ACL", "SETUSER", "worker", *rights)
    monkeypatch.setenv("FLYBALL_URL", os.environ["FLYBALL_URL"].replace("unix://", "unix://worker:secret@"))
    heard = Heard()
    with Workload("trainer") as workload:
        workload.on_change(heard)
        lines.until("the bus lets nobody ask this workload for evidence")
        assert supervisor.say("throttle", 0.5).id == heard.next().id
    assert len(lines.warnings) == 1


def test_a_forked_child_is_not_traced(supervisor: Supervisor) -> None:
    """Nobody is there who would end it."""
    code = (
        "import flyball, os, sys, time, tracemalloc\n"
        "with flyball.Workload('forker') as workload:\n"
        "    while not tracemalloc.is_tracing(): time.sleep(0.01)\n"
        "    if not (pid := os.fork()): os._exit(3 if tracemalloc.is_tracing() else 0)\n"
        "    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as program:
        started_s = supervisor.start_of(program.pid)
        supervisor.ask("forker", program.pid, started_s, within_s=5)
        assert program.wait(20) == 0


@pytest.mark.timeout(120)
def test_threads_that_allocate_without_pythons_lock_survive(supervisor: Supervisor) -> None:
    """Python 3.11's own `tracemalloc.stop()` ends such a program with SIGSEGV, mostly the first time."""
    code = (
        "import ctypes, flyball, sys, threading\n"
        "lib = ctypes.CDLL(None)\n"  # unlike ctypes.pythonapi it lets the lock go
        "lib.PyMem_RawMalloc.restype, lib.PyMem_RawMalloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]\n"
        "lib.PyMem_RawFree.argtypes = [ctypes.c_void_p]\n"
        "def run():\n"
        "    while True: lib.PyMem_RawFree(lib.PyMem_RawMalloc(100))\n"
        "for _ in range(4): threading.Thread(target=run, daemon=True).start()\n"
        "with flyball.Workload('native'): sys.stdin.read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as program:
        started_s = supervisor.start_of(program.pid)
        for number in range(5):
            supervisor.ask("native", program.pid, started_s, id=f"c{number}", within_s=0.2)
            found = supervisor.until(InnerEvidence, ask=f"c{number}").decode(InnerEvidence)
            assert not [why for why in found.missing if why.startswith("allocations")]
        program.kill()


def test_gauges_are_levels(supervisor: Supervisor) -> None:
    workload = Workload("trainer")
    workload.gauge("pending", 3)
    workload.gauge("pending", 7)
    workload.gauge("hot", 1e300)
    with workload:
        told = supervisor.until(Counters)
        assert told.decode(Counters).gauges == {"pending": 7, "hot": 1e15}
        assert told.text == "trainer measures pending 7, hot 1e+15"
        workload.count("steps")
        workload.gauge("pending", 0)
        both = supervisor.until(Counters)
        assert (both.decode(Counters).counts, both.decode(Counters).gauges["pending"]) == ({"steps": 1}, 0)
        assert both.text == "trainer counted steps 1 and measures pending 0, hot 1e+15"
        workload.gauge("pending", 0)  # nothing new
        with pytest.raises(ValueError, match="cannot be NaN"):
            workload.gauge("pending", float("nan"))
    assert len([data for _, data in supervisor.inbox() if isinstance(data, Counters)]) == 2


def test_a_program_that_names_each_call_is_told_so_once(supervisor: Supervisor, lines: Lines) -> None:
    workload = Workload("trainer")
    for number in range(70):
        workload.count(f"call-{number}")
        workload.gauge(f"size-{number}", number)
    workload.count("call-0", 4)  # one that is known goes on
    with workload:
        told = supervisor.until(Counters).decode(Counters)
    assert (len(told.counts), told.counts["call-0"], told.counts["call-63"]) == (64, 5, 1)
    assert (len(told.gauges), told.gauges["size-63"]) == (64, 63)
    left_out = [line for line in lines.warnings if "left out" in line]
    assert left_out == [
        f"the {kind} is left out, and so is every further one: a workload has at most 64; name kinds of calls, not "
        "each call"
        for kind in ("counter 'call-64'", "gauge 'size-64'")
    ]


def test_the_look_before_is_no_growth() -> None:
    gc.collect()
    before = Census(Stops())
    kept = [Kept() for _ in range(3)]
    after = Census(Stops())
    grown = {one.type.rpartition(".")[2]: one.more for one in after.grown_since(before)}
    assert grown.pop("Kept") == len(kept)
    assert not {"Census", "Counter", "dict"} & grown.keys()


class Kept:
    """What the program keeps; it holds a list, so that the collector knows it."""

    def __init__(self) -> None:
        self.these: list[Kept] = []
