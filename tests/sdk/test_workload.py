"""A workload and its supervisor over a real bus: what is heard, obeyed and acknowledged."""

import asyncio
import os
import threading
from itertools import pairwise

import pytest

from flyball import Directive, Workload
from flyball.identity import start_time_s
from flyball.wire import Acknowledgement, CleanupResult, Counters, Join, Leave, inbox_key
from supervisor.process import process_start_s
from tests.sdk.supervision import HOST, PATIENCE_S, Heard, Lines, Supervisor


def test_join_and_leave(supervisor: Supervisor) -> None:
    with Workload("trainer", gpus=[0, 3], priority=7, on_silence="pause"):
        pass
    (join, joined), (leave, left) = supervisor.inbox()
    assert joined == Join(
        workload="trainer", pid=os.getpid(), start_time_s=start_time_s(),
        targets=("gpu0", "gpu3", "host", "workload.trainer"), priority=7, on_silence="pause", sdk_version="0.1.0",
    )  # fmt: skip
    assert isinstance(left, Leave)
    assert left.reason == "finished"
    assert (join.source, join.subject) == (f"{HOST}/workload.trainer", "workload.trainer")
    assert join.text == f"trainer joined as pid {os.getpid()} and listens for gpu0, gpu3, host, workload.trainer"
    assert join.id != leave.id


def test_start_time_is_the_kernels() -> None:
    """By it the supervisor tells this process from a later one with the same pid."""
    assert start_time_s() == process_start_s(os.getpid())


def test_leaves_with_the_exception_that_ended_it(supervisor: Supervisor) -> None:
    with pytest.raises(ZeroDivisionError), Workload("trainer"):
        raise ZeroDivisionError
    assert supervisor.inbox()[-1][1].reason == "ended by ZeroDivisionError"


def test_accepted_when_heard_applied_when_the_loop_gets_there(supervisor: Supervisor) -> None:
    with Workload("trainer") as workload:
        workload.wait()  # it has a loop
        directive = supervisor.say("throttle", 0.5)
        supervisor.until(Acknowledgement, directive=directive.id, stage="accepted", speed=0.5, target="gpu0", seq=1)
        workload.count("looks")
        supervisor.until(Counters)  # time has passed, and the loop has not come round
        assert not [data for _, data in supervisor.inbox() if getattr(data, "stage", "") == "applied"]
        assert next(iter(workload.pace(["step"]))) == "step"
        supervisor.until(Acknowledgement, directive=directive.id, stage="applied", speed=0.5)


def test_each_directive_is_acknowledged_once(supervisor: Supervisor) -> None:
    """Said again, it renews; of two that came between two steps, only the last can be applied."""
    heard = Heard()
    with Workload("trainer") as workload:
        workload.on_change(heard)
        workload.wait()
        first = supervisor.say("throttle", 0.8)
        supervisor.publish(first)
        second = supervisor.say("throttle", 0.5)
        supervisor.publish(first)
        supervisor.publish(second)
        assert [heard.next().id, heard.next().id] == [first.id, second.id]
        workload.wait()
        supervisor.until(Acknowledgement, stage="applied")
    stages = [(data.directive, data.stage) for _, data in supervisor.inbox() if isinstance(data, Acknowledgement)]
    assert stages == [(first.id, "accepted"), (second.id, "accepted"), (second.id, "applied")]
    assert heard.nothing()


def test_the_slowest_of_several_targets(supervisor: Supervisor) -> None:
    heard = Heard()
    with Workload("trainer", gpus=[0, 1]) as workload:
        workload.on_change(heard)
        supervisor.say("throttle", 0.5, "gpu1")
        assert heard.next().target == "gpu1"
        unheeded = supervisor.say("throttle", 0.8, "gpu0")
        supervisor.until(Acknowledgement, directive=unheeded.id, stage="applied", speed=0.5)
        assert (workload.speed, workload.paused) == (0.5, False)
        supervisor.say("pause", 0.0, "workload.trainer")
        assert heard.next().target == "workload.trainer"
        assert (workload.speed, workload.paused) == (0.0, True)
        supervisor.say("run", 1.0, "workload.trainer")
        assert heard.next().target == "gpu1"
        supervisor.say("throttle", 0.3, "host")
        assert heard.next().target == "host"
        assert workload.directive is not None
        assert workload.directive.target == "host"
        assert heard.nothing(), "gpu0 never stood"


def test_host_memory_may_be_left_out(supervisor: Supervisor) -> None:
    with Workload("trainer", gpus=[], host_memory=False):
        supervisor.until(Join, targets=("workload.trainer",))


def test_pause_and_resume(supervisor: Supervisor) -> None:
    """The loop stands still until it is let go, and both are acknowledged as it happens."""
    done = threading.Event()
    with Workload("trainer") as workload:
        pause = supervisor.say("pause", 0.0)
        supervisor.until(Acknowledgement, directive=pause.id, stage="accepted")

        def loop() -> None:
            for _ in workload.pace(range(1)):
                done.set()

        thread = threading.Thread(target=loop)
        thread.start()
        supervisor.until(Acknowledgement, directive=pause.id, stage="applied", speed=0.0)
        assert not done.is_set()
        resume = supervisor.say("run", 1.0)
        thread.join()
        assert done.is_set()
        supervisor.until(Acknowledgement, directive=resume.id, stage="applied", speed=1.0)


def test_whoever_waits_goes_on_when_it_ends(supervisor: Supervisor) -> None:
    supervisor.say("pause", 0.0)
    with Workload("trainer") as workload:
        thread = threading.Thread(target=workload.wait)
        thread.start()
        supervisor.until(Acknowledgement, stage="applied", speed=0.0)
        assert thread.is_alive()
    thread.join()
    assert (workload.speed, workload.paused, workload.directive) == (1.0, False, None)


def test_a_callback_learns_what_stands_already(supervisor: Supervisor) -> None:
    directive = supervisor.say("throttle", 0.5)
    heard = Heard()
    with Workload("trainer") as workload:
        workload.on_change(heard)
        assert heard.next() == directive


def test_callbacks_apply_where_there_is_no_loop(supervisor: Supervisor) -> None:
    """And only once all of them have returned."""
    heard = Heard()
    workload = Workload("server")

    @workload.on_change
    def slow_down(directive: Directive) -> None:
        accepted = [data for _, data in supervisor.inbox() if isinstance(data, Acknowledgement)]
        assert directive.id not in [data.directive for data in accepted], "nothing is sent before the callback"
        heard(directive)

    with workload:
        directive = supervisor.say("throttle", 0.5)
        assert heard.next() == directive
        supervisor.until(Acknowledgement, directive=directive.id, stage="accepted")
        supervisor.until(Acknowledgement, directive=directive.id, stage="applied", speed=0.5)


def test_a_callback_that_raises_is_logged_and_nothing_ends(supervisor: Supervisor, lines: Lines) -> None:
    heard = Heard()
    with Workload("server") as workload:

        @workload.on_change
        def broken(directive: Directive) -> None:
            heard(directive)
            raise SystemExit("not in this thread")

        first = supervisor.say("throttle", 0.5)
        assert heard.next() == first
        lines.until("a callback of on_change failed")
        second = supervisor.say("run", 1.0)
        assert heard.next() == second
        supervisor.until(Acknowledgement, directive=second.id, stage="accepted")
    assert not [data for _, data in supervisor.inbox() if getattr(data, "stage", "") == "applied"]


def test_a_callback_of_a_state_hears_of_moves_into_it(supervisor: Supervisor) -> None:
    """Once a move; a change of speed within it is none, and neither are other states."""
    every, throttled, paused = Heard(), Heard(), Heard()
    supervisor.say("throttle", 0.8)
    with Workload("server") as workload:
        workload.on_state("throttled", throttled)
        workload.on_state("paused")(paused)
        workload.on_change(every)
        while every.next().speed != 0.8:
            pass
        for action, speed in (("throttle", 0.5), ("pause", 0.0), ("run", 1.0), ("throttle", 0.3)):
            supervisor.say(action, speed)  # type: ignore[arg-type]
            while every.next().speed != speed:
                pass
    assert [throttled.next().speed, throttled.next().speed, paused.next().action] == [0.8, 0.3, "pause"]
    assert throttled.nothing()
    assert paused.nothing()


def test_running_is_a_state_like_the_others(supervisor: Supervisor) -> None:
    running = Heard()
    workload = Workload("server")

    @workload.on_state("running")
    def faster(directive: Directive) -> None:
        running(directive)

    with workload:
        supervisor.say("throttle", 0.5)
        resumed = supervisor.say("run", 1.0)
        assert running.next() == resumed


def test_a_callback_of_a_state_applies_what_it_was_told(supervisor: Supervisor) -> None:
    """A program with nothing but `on_state("throttled")` does not claim to have paused, nor to know a later speed."""
    with Workload("server") as workload:
        workload.on_state("throttled", Heard())
        first = supervisor.say("throttle", 0.5)
        same = supervisor.say("throttle", 0.5)
        supervisor.until(Acknowledgement, directive=same.id, stage="applied", speed=0.5)
        supervisor.say("throttle", 0.3)
        supervisor.say("pause", 0.0)
        last = supervisor.say("throttle", 0.4)
        supervisor.until(Acknowledgement, directive=last.id, stage="applied", speed=0.4)
    applied = [data.directive for _, data in supervisor.inbox() if getattr(data, "stage", "") == "applied"]
    assert applied == [first.id, same.id, last.id]


def test_waiting_in_a_callback_does_not_wait_for_itself(supervisor: Supervisor, lines: Lines) -> None:
    heard = Heard()
    with Workload("server") as workload:

        @workload.on_change
        def deadlock(directive: Directive) -> None:
            workload.wait()
            heard(directive)

        supervisor.say("pause", 0.0)
        assert heard.next().action == "pause"
        lines.until("would wait for itself")
        supervisor.say("run", 1.0)
        assert heard.next().action == "run"


def test_counters_are_sums_and_said_when_they_change(supervisor: Supervisor) -> None:
    with Workload("trainer") as workload:

        def work() -> None:
            for _ in range(1000):
                workload.count("sections")

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        supervisor.heard(lambda _, data: isinstance(data, Counters) and data.counts == {"sections": 4000})
        workload.count("bytes", 0.5)
    said = [data for _, data in supervisor.inbox() if isinstance(data, Counters)]
    assert said[-1].counts == {"sections": 4000, "bytes": 0.5}, "the last ones are said before it leaves"
    assert isinstance(supervisor.inbox()[-1][1], Leave)
    assert all(one.counts != two.counts for one, two in pairwise(said))


def test_cleanup_is_called_once_and_answered(supervisor: Supervisor) -> None:
    levels = Heard()
    with Workload("trainer") as workload:

        @workload.on_cleanup
        def clean(level: str) -> int:
            assert workload.directive is not None
            levels(workload.directive)
            return 4096 if level == "hard" else 0

        asked = supervisor.say("throttle", 0.5, cleanup="hard")
        supervisor.publish(asked)
        supervisor.until(CleanupResult, directive=asked.id, cleanup="hard", freed_bytes=4096, ok=True)
        supervisor.say("run", 1.0)
        again = supervisor.say("throttle", 0.5, cleanup="soft")
        supervisor.until(CleanupResult, directive=again.id, cleanup="soft", freed_bytes=0, ok=True)
    assert [levels.next().id, levels.next().id] == [asked.id, again.id]
    assert levels.nothing()


def test_a_cleanup_that_fails_is_told(supervisor: Supervisor, lines: Lines) -> None:
    with Workload("trainer") as workload:
        workload.on_cleanup(lambda level: 1 // 0)
        asked = supervisor.say("run", 1.0, cleanup="emergency")
        supervisor.until(
            CleanupResult, directive=asked.id, ok=False, text="ZeroDivisionError: integer division or modulo by zero"
        )
        lines.until("on_cleanup failed")


def test_a_slow_cleanup_does_not_pile_up(supervisor: Supervisor, lines: Lines) -> None:
    """One thread, however much is asked meanwhile; then the newest request of each target."""
    began, go_on = threading.Event(), threading.Event()
    with Workload("trainer") as workload:

        @workload.on_cleanup
        def clean(level: str) -> int:
            began.set()
            assert go_on.wait(PATIENCE_S)
            return 1

        first = supervisor.say("throttle", 0.5, cleanup="soft")
        assert began.wait(PATIENCE_S)
        asked = [supervisor.say("throttle", 0.5, target, cleanup="hard") for target in ("gpu0", "host") for _ in "abcd"]
        supervisor.until(Acknowledgement, directive=asked[-1].id, stage="accepted")
        assert [thread.name for thread in threading.enumerate()].count("flyball-cleanup") == 1
        go_on.set()
        supervisor.until(CleanupResult, directive=asked[-1].id)
        again = supervisor.say("throttle", 0.5, cleanup="soft")  # the thread has ended, or takes it too
        supervisor.until(CleanupResult, directive=again.id)
    done = [data.directive for _, data in supervisor.inbox() if isinstance(data, CleanupResult)]
    assert done == [first.id, asked[3].id, asked[-1].id, again.id]


def test_a_cleanup_that_is_asked_for_before_there_is_a_callback(supervisor: Supervisor) -> None:
    asked = supervisor.say("run", 1.0, cleanup="soft")
    with Workload("trainer") as workload:
        supervisor.until(Acknowledgement, directive=asked.id, stage="accepted")
        workload.on_cleanup(lambda level: 2**80)
        supervisor.until(CleanupResult, directive=asked.id, freed_bytes=2**63 - 1)


def test_what_a_program_says_fits_the_wire(supervisor: Supervisor) -> None:
    """A sum without bound and a name that is not UTF-8 do not end the talk."""

    def clean(level: str) -> int:
        raise OSError("cannot remove cache/\udcff")

    with Workload("trainer", priority=-(2**63)) as workload:
        workload.count("up", 10**400)
        workload.count("up", float("inf"))
        workload.count("down\udcff", -1.7e308)
        with pytest.raises(ValueError, match="'x' cannot count NaN"):
            workload.count("x", float("nan"))
        supervisor.until(Counters, counts={"up": 1e15, r"down\udcff": -1e15})
        workload.on_cleanup(clean)
        asked = supervisor.say("run", 1.0, cleanup="soft")
        supervisor.until(CleanupResult, directive=asked.id, text=r"OSError: cannot remove cache/\udcff")


def test_the_inbox_is_bounded(supervisor: Supervisor) -> None:
    """A forgotten inbox does not fill the bus."""
    pipe = supervisor.client.pipeline(transaction=False)
    for _ in range(12_000):
        pipe.xadd(inbox_key(), {"filler": "x"})
    pipe.execute()
    with Workload("trainer"):
        pass
    assert supervisor.client.xlen(inbox_key()) < 11_000


def test_misuse_is_named() -> None:
    with pytest.raises(ValueError, match="not a usable name"):
        Workload("a name")
    with pytest.raises(ValueError, match="not a usable name"):
        Workload("trainer", host="a/b")
    with pytest.raises(ValueError, match="on_silence is 'stop'; it may be hold, run, pause"):
        Workload("trainer", on_silence="stop")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="index of a GPU"):
        Workload("trainer", gpus=[-1])
    with pytest.raises(ValueError, match="whole number of 64 bits"):
        Workload("trainer", priority=10**30)
    with pytest.raises(ValueError, match="state is 'throttle'; it may be running, throttled, paused, silent"):
        Workload("trainer").on_state("throttle", print)  # type: ignore[call-overload]
    workload = Workload("trainer")
    with workload, pytest.raises(RuntimeError, match="make another one"):
        workload.__enter__()


async def test_async_ready_and_leave(supervisor: Supervisor) -> None:
    """The event loop runs on while the workload stands still."""
    async with Workload("server") as workload:
        await workload.ready()
        heard = Heard()
        workload.on_change(heard)
        supervisor.say("pause", 0.0)
        await asyncio.to_thread(heard.next)
        waiting = [asyncio.create_task(workload.ready(), name=f"waiting {n}") for n in range(3)]
        await asyncio.to_thread(supervisor.until, Acknowledgement, stage="applied", speed=0.0)
        assert not any(task.done() for task in waiting)
        supervisor.say("run", 1.0)
        await asyncio.gather(*waiting)
    assert isinstance(supervisor.inbox()[-1][1], Leave)


async def test_cancelled_while_it_waits(supervisor: Supervisor) -> None:
    """A pause does not hold a task back from its end."""
    supervisor.say("pause", 0.0)
    async with Workload("server") as workload:
        waiting = asyncio.create_task(workload.ready(), name="waiting")
        await asyncio.to_thread(supervisor.until, Acknowledgement, stage="applied", speed=0.0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
