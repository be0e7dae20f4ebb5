"""Memory promised by a keeper on a real bus: yes, no, waiting, lost answers, nobody there, whatever ends a block."""

import asyncio
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

import flyball
from flyball import MemoryUnavailable, claim, reservation
from flyball.identity import start_time_s
from flyball.wire import Release, Reserve, Started, memory_channel
from supervisor.bus.keys import status_key
from tests.busservers import BusServer
from tests.sdk.keeper import MIB, Keeper
from tests.sdk.supervision import HOST, PATIENCE_S, WORKLOAD_RIGHTS, Lines, calls

#: Long enough for anything, unless it never comes.
LONG_S: Final = float(PATIENCE_S)


@pytest.fixture(autouse=True)
def first_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was said in this process yet."""
    monkeypatch.setattr(reservation, "_alone", False)


@pytest.fixture
def keeper(server: BusServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keeper]:
    """8 GiB on gpu0 and 16 GiB of RAM."""
    monkeypatch.setenv("FLYBALL_URL", server.url)
    with Keeper(server.url, gpu0=8192, host=16384) as keeper:
        yield keeper


def test_promised_while_the_block_lasts(keeper: Keeper, lines: Lines) -> None:
    with flyball.reserve("llm_model", vram_mb=2048, ram_mb=0.5, ttl_s=60, owner="server") as held:
        event, asked = keeper.next(Reserve)
        assert (held.name, held.granted) == ("llm_model", True)
        assert asked == Reserve(
            allocation_id="llm_model", owner="server", parts={"gpu0": 2048 * MIB, "host": MIB // 2},
            pid=os.getpid(), start_time_s=start_time_s(), ttl_s=60, valid_s=claim.PATIENCE_S,
        )  # fmt: skip
        assert (event.source, event.subject) == (f"{HOST}/server", "llm_model")
        assert event.text == f"server (pid {os.getpid()}) asks for 2048 MiB of gpu0 and 0.5 MiB of host as llm_model"
        assert keeper.ledger.keys() == {"llm_model"}
    assert not held.granted
    assert keeper.next(Release)[1] == Release(allocation_id="llm_model", of=event.id)
    assert keeper.ledger == {}
    assert len(keeper.requests) == 2
    assert lines.warnings == []


def test_released_by_whatever_ends_the_block(keeper: Keeper) -> None:
    with pytest.raises(ZeroDivisionError), flyball.reserve("llm_model", vram_mb=2048):
        raise ZeroDivisionError
    keeper.next(Release)
    assert keeper.ledger == {}


def test_denied_says_what_and_who(keeper: Keeper) -> None:
    keeper.grant("other_model", gpu0=7168)
    with pytest.raises(MemoryUnavailable) as caught, flyball.reserve("llm_model", vram_mb=2048):
        raise AssertionError("the block is not entered")
    assert str(caught.value) == "llm_model: denied, says the keeper"
    assert caught.value.answer.available == {"gpu0": 1024 * MIB}
    assert [holder.allocation_id for holder in caught.value.answer.holders] == ["other_model"]
    assert [type(data) for _, data in keeper.requests] == [Reserve], "there is nothing to release"


def test_all_or_nothing(keeper: Keeper) -> None:
    with (
        pytest.raises(MemoryUnavailable, match="llm_model: denied"),
        flyball.reserve("llm_model", vram_mb=2048, ram_mb=32768),
    ):
        raise AssertionError("the block is not entered")
    assert keeper.ledger == {}


def test_waits_until_there_is_room(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """It hears of the release, and does not ask before."""
    monkeypatch.setattr(claim, "LOOK_AGAIN_S", LONG_S)
    keeper.grant("other_model", gpu0=7168)
    waiting = threading.Thread(target=hold, args=("llm_model", keeper))
    waiting.start()
    keeper.next(Reserve)
    keeper.end("other_model")
    waiting.join(LONG_S)
    assert not waiting.is_alive()
    keeper.next(Release)
    assert [type(data) for _, data in keeper.requests] == [Reserve, Reserve, Release]


def hold(name: str, keeper: Keeper) -> None:
    """Take 2 GiB, and leave at once."""
    with flyball.reserve(name, vram_mb=2048, wait_s=LONG_S) as held:
        assert held.granted
        assert keeper.ledger[name].pid == os.getpid()


def test_room_that_nobody_tells_of_is_found(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program outside the ledger has freed its memory."""
    monkeypatch.setattr(claim, "LOOK_AGAIN_S", 0.05)
    keeper.grant("other_model", gpu0=7168)
    waiting = threading.Thread(target=hold, args=("llm_model", keeper))
    waiting.start()
    keeper.next(Reserve)
    keeper.end("other_model", say=False)
    waiting.join(LONG_S)
    assert not waiting.is_alive()


def test_what_would_be_denied_is_not_asked(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the supervisor says that there is no room; what it does not know may be asked for."""
    monkeypatch.setattr(claim, "LOOK_AGAIN_S", 0.02)
    keeper.grant("other_model", gpu0=7168)
    keeper.say_free(gpu0=1024)
    waiting = threading.Thread(target=hold, args=("llm_model", keeper))
    waiting.start()
    keeper.next(Reserve)
    before = calls(keeper.client, "get")
    while calls(keeper.client, "get") < before + 5:
        time.sleep(0.01)
    assert len(keeper.requests) == 1
    keeper.end("other_model", say=False)
    keeper.say_free(gpu0=8192)
    waiting.join(LONG_S)
    assert not waiting.is_alive()


@pytest.mark.parametrize("rights", [WORKLOAD_RIGHTS, (*WORKLOAD_RIGHTS, "-get")])
def test_a_status_that_cannot_be_read_keeps_nobody_from_asking(
    rights: tuple[str, ...], server: BusServer, keeper: Keeper, monkeypatch: pytest.MonkeyPatch, lines: Lines
) -> None:
    monkeypatch.setattr(claim, "LOOK_AGAIN_S", 0.02)
    keeper.client.execute_command("ACL", "SETUSER", "workload", *rights)
    monkeypatch.setenv("FLYBALL_URL", f"unix://workload:secret@{server.path}")
    keeper.grant("other_model", gpu0=7168)
    keeper.client.set(status_key(HOST), "[")
    waiting = threading.Thread(target=hold, args=("llm_model", keeper))
    waiting.start()
    for _ in range(3):
        keeper.next(Reserve)
    keeper.end("other_model")
    waiting.join(LONG_S)
    assert not waiting.is_alive()
    assert lines.warnings == []


def test_the_wait_has_an_end(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim, "LOOK_AGAIN_S", 0.1)
    keeper.grant("other_model", gpu0=7168)
    began_s = time.monotonic()
    with pytest.raises(MemoryUnavailable, match=r"denied, says the keeper \(waited 1 s\)"):
        flyball.reserve("llm_model", vram_mb=2048, wait_s=1).__enter__()
    assert time.monotonic() - began_s >= 1
    assert len(keeper.requests) >= 3, "at the end of the wait it is asked a last time"


def test_a_name_that_is_taken_is_waited_for(keeper: Keeper) -> None:
    keeper.grant("llm_model", gpu0=1)
    with pytest.raises(MemoryUnavailable, match="llm_model: duplicate"):
        flyball.reserve("llm_model", vram_mb=2048).__enter__()
    waiting = threading.Thread(target=hold, args=("llm_model", keeper))
    waiting.start()
    while len(keeper.requests) < 2:
        keeper.next(Reserve)
    keeper.end("llm_model")
    waiting.join(LONG_S)
    assert not waiting.is_alive()


def test_a_lost_yes_is_found_in_the_ledger(keeper: Keeper, monkeypatch: pytest.MonkeyPatch, lines: Lines) -> None:
    monkeypatch.setattr(claim, "ANSWER_S", 1.0)  # by then the keeper has decided
    keeper.swallow(1)
    with flyball.reserve("llm_model", vram_mb=2048) as held:
        assert held.granted
        assert [type(data) for _, data in keeper.requests] == [Reserve]
    keeper.next(Release)
    assert keeper.ledger == {}
    assert lines.warnings == []


def test_a_lost_no_is_asked_for_again(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under another id: the supervisor drops an entry that it has seen."""
    monkeypatch.setattr(claim, "ANSWER_S", 0.05)
    keeper.grant("other_model", gpu0=7168)
    keeper.swallow(1)
    with pytest.raises(MemoryUnavailable):
        flyball.reserve("llm_model", vram_mb=2048).__enter__()
    assert len({event.id for event, _ in keeper.requests}) == len(keeper.requests) >= 2


def test_the_connection_breaks_while_it_asks(keeper: Keeper, lines: Lines) -> None:
    """The answer went to nobody; what was asked is ours all the same."""
    keeper.leave_alone()
    waiting = threading.Thread(target=hold, args=("llm_model", keeper))
    waiting.start()
    keeper.until_asked()
    keeper.client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    keeper.come_back()
    waiting.join(LONG_S)
    assert not waiting.is_alive()
    keeper.next(Release)
    assert keeper.ledger == {}
    assert lines.warnings == []


def test_kill_9_of_the_bus_while_it_waits(server: BusServer, keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim, "LOOK_AGAIN_S", 0.1)
    keeper.grant("other_model", gpu0=7168)
    waiting = threading.Thread(target=hold, args=("llm_model", keeper))
    waiting.start()
    keeper.next(Reserve)
    server.kill()
    time.sleep(0.3)  # it is really away
    server.start()
    keeper.next(Reserve)
    keeper.end("other_model")
    waiting.join(LONG_S)
    assert not waiting.is_alive()


def test_nobody_answers(keeper: Keeper, monkeypatch: pytest.MonkeyPatch, lines: Lines) -> None:
    """One warning for the process; and what is granted when the supervisor comes at last is given back."""
    monkeypatch.setattr(claim, "ANSWER_S", 0.05)
    monkeypatch.setattr(claim, "PATIENCE_S", 0.2)
    keeper.leave_alone()
    for name in ("one", "two"):
        with flyball.reserve(name, vram_mb=2048) as held:
            assert not held.granted
    assert [line.partition(":")[0] for line in lines.warnings] == [
        f"no supervisor for the reservation one (no supervisor of host {HOST} answers within 0.2 s)"
    ]
    keeper.come_back()
    assert keeper.next(Release)[1].allocation_id == "one"
    assert keeper.next(Release)[1].allocation_id == "two"
    assert keeper.ledger == {}


def test_a_supervisor_that_comes_during_the_block(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds the memory from then on, and the end of the block releases it once."""
    monkeypatch.setattr(claim, "ANSWER_S", 0.05)
    monkeypatch.setattr(claim, "PATIENCE_S", 0.12)
    keeper.leave_alone()
    with flyball.reserve("llm_model", vram_mb=2048):
        keeper.come_back()
        keeper.next(Reserve)
        assert keeper.ledger.keys() == {"llm_model"}
    keeper.next(Release)
    assert keeper.ledger == {}
    assert [outcome for outcome in (answer.outcome for answer in keeper.answers) if outcome != "duplicate"] == [
        "reserved", "released",
    ]  # fmt: skip


def test_silence_after_a_no_is_no_yes(keeper: Keeper, monkeypatch: pytest.MonkeyPatch, lines: Lines) -> None:
    """Memory that was refused is not taken because the supervisor went away."""
    monkeypatch.setattr(claim, "ANSWER_S", 0.05)
    monkeypatch.setattr(claim, "PATIENCE_S", 1.0)  # within which the keeper says no
    monkeypatch.setattr(claim, "LOOK_AGAIN_S", 0.1)
    keeper.grant("other_model", gpu0=7168)
    claimed = flyball.reserve("llm_model", vram_mb=2048, wait_s=2.5)

    def leave() -> None:
        keeper.next(Reserve)
        keeper.leave_alone()

    leaving = threading.Thread(target=leave)
    leaving.start()
    with pytest.raises(MemoryUnavailable):
        claimed.__enter__()
    leaving.join()
    keeper.end("other_model", say=False)
    keeper.come_back()
    keeper.next(Release)
    assert keeper.ledger == {}, "what was still asked is granted to nobody"
    assert lines.warnings == []


def test_without_a_bus_one_warning(lines: Lines) -> None:
    with flyball.reserve("llm_model", vram_mb=2048, wait_s=60) as held:
        assert not held.granted
        held.started()
    (warning,) = lines.warnings
    assert warning.startswith("no supervisor for the reservation llm_model (")
    assert warning.endswith("): going on unreserved; start one with `flyball run`, or set FLYBALL_URL")


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1", "http://box", "unix://", "redis://?db=x"])
def test_a_useless_url_is_a_warning(url: str, monkeypatch: pytest.MonkeyPatch, lines: Lines) -> None:
    monkeypatch.setenv("FLYBALL_URL", url)
    with flyball.reserve("llm_model", vram_mb=2048) as held:
        assert not held.granted
    assert len(lines.warnings) == 1


def test_a_shard_that_is_no_number_is_a_warning(monkeypatch: pytest.MonkeyPatch, lines: Lines) -> None:
    monkeypatch.setenv("FLYBALL_SHARD", "east")
    with flyball.reserve("llm_model", vram_mb=2048) as held:
        assert not held.granted
    assert "FLYBALL_SHARD is 'east'" in lines.warnings[0]


def test_a_fault_of_ours_is_told_in_full(monkeypatch: pytest.MonkeyPatch, lines: Lines) -> None:
    monkeypatch.setattr(claim, "Ledger", lambda host, shard: 1 // 0)
    with flyball.reserve("llm_model", vram_mb=2048) as held:
        assert not held.granted
    assert lines.warnings == ["a fault in Flyball's SDK; this program goes on unreserved"]


@pytest.mark.parametrize("rights", ["~* +xadd +hget", "~* &* +subscribe +hget"])
def test_a_bus_that_does_not_let_us_ask(
    rights: str, server: BusServer, monkeypatch: pytest.MonkeyPatch, lines: Lines
) -> None:
    """It may not listen, or not speak: that is known at once, however long an answer is waited for."""
    monkeypatch.setattr(claim, "PATIENCE_S", 1000.0)
    with Keeper(server.url, gpu0=8192) as keeper:
        keeper.client.execute_command("ACL", "SETUSER", "poor", "on", ">secret", "resetchannels", *rights.split())
        monkeypatch.setenv("FLYBALL_URL", f"unix://poor:secret@{server.path}")
        with flyball.reserve("llm_model", vram_mb=2048, wait_s=60) as held:
            assert not held.granted
        assert keeper.requests == []
    assert "permission" in lines.warnings[0]


def test_the_rights_of_a_workload_are_enough(
    server: BusServer, keeper: Keeper, monkeypatch: pytest.MonkeyPatch, lines: Lines
) -> None:
    """Also where an answer is lost; the server has refused none of its commands but CLIENT SETINFO."""
    monkeypatch.setattr(claim, "ANSWER_S", 0.05)
    keeper.client.execute_command("ACL", "SETUSER", "workload", *WORKLOAD_RIGHTS)
    monkeypatch.setenv("FLYBALL_URL", f"unix://workload:secret@{server.path}")
    keeper.swallow(1)
    with flyball.reserve("llm_model", vram_mb=2048, exclusive_start=True) as held:
        held.started()
        assert held.granted
    keeper.next(Release)
    assert keeper.ledger == {}
    assert {entry["object"] for entry in keeper.client.acl_log()} <= {"client|setinfo"}
    assert lines.warnings == []


def test_the_bus_is_gone_at_the_end(
    server: BusServer, keeper: Keeper, monkeypatch: pytest.MonkeyPatch, lines: Lines
) -> None:
    """The program goes on after a moment; the end of its process is what releases it."""
    monkeypatch.setattr(claim, "RELEASE_S", 0.3)
    with flyball.reserve("llm_model", vram_mb=2048):
        server.kill()
    assert lines.warnings[0].startswith("the ledger does not hear that llm_model is released (")
    server.start()


def test_the_bus_is_away_for_a_moment_at_the_end(
    server: BusServer, keeper: Keeper, monkeypatch: pytest.MonkeyPatch, lines: Lines
) -> None:
    monkeypatch.setattr(claim, "RELEASE_S", LONG_S)  # however slowly it comes back
    with flyball.reserve("llm_model", vram_mb=2048):
        server.kill()
        back = threading.Timer(0.2, server.start)
        back.start()
    back.join()
    keeper.next(Release)
    assert keeper.ledger == {}
    assert lines.warnings == []


def test_what_expired_and_is_anothers_now_is_left_alone(keeper: Keeper) -> None:
    with flyball.reserve("llm_model", vram_mb=2048, ttl_s=1):
        keeper.end("llm_model")
        keeper.grant("llm_model", gpu0=1)
    with flyball.reserve("after", vram_mb=1):
        pass
    keeper.next(Release)
    assert keeper.ledger.keys() == {"llm_model"}
    assert [data.allocation_id for _, data in keeper.requests if isinstance(data, Release)] == ["after"]


def test_one_start_up_at_a_time(keeper: Keeper) -> None:
    with flyball.reserve("first", vram_mb=1024, exclusive_start=True) as first:
        assert keeper.next(Reserve)[0].text.endswith(" as first, and to be the only one in its start-up")
        with pytest.raises(MemoryUnavailable, match="second: denied"):
            flyball.reserve("second", vram_mb=1024, exclusive_start=True).__enter__()
        waiting = threading.Thread(target=hold_exclusively, args=("third",))
        waiting.start()
        while len(keeper.requests) < 3:
            keeper.next(Reserve)
        first.started()
        assert keeper.next(Started)[1] == Started(allocation_id="first")
        waiting.join(LONG_S)
        assert not waiting.is_alive()
        assert first.granted


def hold_exclusively(name: str) -> None:
    with flyball.reserve(name, vram_mb=1024, wait_s=LONG_S, exclusive_start=True) as held:
        assert held.granted


def test_entered_once(keeper: Keeper) -> None:
    held = flyball.reserve("llm_model", vram_mb=1)
    with held, pytest.raises(RuntimeError, match="make another one"):
        held.__enter__()
    with pytest.raises(RuntimeError, match="make another one"), held:
        raise AssertionError("the block is not entered")


def test_garbage_on_the_channel_is_ignored(keeper: Keeper) -> None:
    keeper.grant("other_model", gpu0=7168)
    waiting = threading.Thread(target=hold, args=("llm_model", keeper))
    waiting.start()
    keeper.next(Reserve)
    for garbage in (b"", b"{}", b"\xff", b"[" * 100_000, b'{"request":1}', msgspec.json.encode({"request": "x"})):
        keeper.client.publish(memory_channel(HOST), garbage)
    keeper.end("other_model")
    waiting.join(LONG_S)
    assert not waiting.is_alive()


SIZES: Final = "it must be a number from 0 to 2^30"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ({"vram_mb": -1}, f"-1 MiB of gpu0 cannot be reserved; {SIZES}"),
        ({"vram_mb": math.nan}, f"nan MiB of gpu0 cannot be reserved; {SIZES}"),
        ({"vram_mb": math.inf}, f"inf MiB of gpu0 cannot be reserved; {SIZES}"),
        ({"vram_mb": 1, "ram_mb": -0.1}, f"-0.1 MiB of host cannot be reserved; {SIZES}"),
        ({"vram_mb": 10**10}, SIZES),
        ({}, "llm_model reserves nothing: say vram_mb, ram_mb or both, in MiB"),
        ({"vram_mb": 0, "ram_mb": 0}, "reserves nothing"),
        ({"vram_mb": 1, "wait_s": -1}, "wait_s is -1; it must be 0 or more seconds"),
        ({"vram_mb": 1, "wait_s": math.nan}, "wait_s is nan"),
        ({"vram_mb": 1, "ttl_s": 0}, r"ttl_s is 0; it must be above 0 and at most 10\^9 seconds, or None"),
        ({"vram_mb": 1, "ttl_s": math.nan}, "ttl_s is nan"),
        ({"vram_mb": 1, "ttl_s": math.inf}, "ttl_s is inf"),
        ({"vram_mb": 1, "gpu": -1}, "-1 is not the index of a GPU, 0 to 9999"),
        ({"vram_mb": 1, "name": "my model"}, "'my model' is not a usable name"),
        ({"vram_mb": 1, "owner": ""}, "'' is not a usable name"),
        ({"vram_mb": 1, "host": "a/b"}, "'a/b' is not a usable name"),
    ],
)
def test_misuse_is_named(words: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem.replace("2^30", r"2\^30")):
        flyball.reserve(**{"name": "llm_model"} | words)


async def test_async(keeper: Keeper) -> None:
    """More of them wait than asyncio has threads, and the event loop runs on."""
    keeper.grant("other_model", gpu0=7168)

    async def hold(number: int) -> None:
        async with flyball.reserve(f"model-{number}", vram_mb=1100, wait_s=LONG_S) as held:
            assert held.granted

    waiting = [asyncio.create_task(hold(number), name=f"model-{number}") for number in range(40)]
    for _ in waiting:
        await asyncio.to_thread(keeper.next, Reserve)
    assert not any(task.done() for task in waiting)
    keeper.end("other_model")
    await asyncio.gather(*waiting)
    for _ in waiting:
        await asyncio.to_thread(keeper.next, Release)
    assert keeper.ledger == {}


async def test_async_denied(keeper: Keeper) -> None:
    keeper.grant("other_model", gpu0=8192)
    with pytest.raises(MemoryUnavailable, match="denied"):
        await flyball.reserve("llm_model", vram_mb=2048).__aenter__()


async def test_cancelled_while_it_waits(keeper: Keeper, lines: Lines) -> None:
    """At once; and what is granted all the same is given back."""
    keeper.leave_alone()
    troubles: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, trouble: troubles.append(trouble))
    task = asyncio.create_task(flyball.reserve("llm_model", vram_mb=1, wait_s=600).__aenter__(), name="waiting")
    await asyncio.to_thread(keeper.until_asked)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    keeper.come_back()
    await asyncio.to_thread(keeper.next, Release)
    assert keeper.ledger == {}
    assert lines.warnings == []
    assert troubles == []


async def test_no_thread_to_be_had(keeper: Keeper, monkeypatch: pytest.MonkeyPatch, lines: Lines) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    async with flyball.reserve("held", vram_mb=1) as held:
        assert held.granted
        start = threading.Thread.start
        monkeypatch.setattr(threading.Thread, "start", refuse)
        async with flyball.reserve("llm_model", vram_mb=1) as other:
            assert not other.granted
    monkeypatch.setattr(threading.Thread, "start", start)
    assert len(lines.warnings) == 1 and "can't start new thread" in lines.warnings[0]
    assert (await asyncio.to_thread(keeper.next, Release))[1].allocation_id == "held"


def program(text: str, server: BusServer) -> "subprocess.Popen[str]":
    """A program of its own, with the SDK and nothing else of ours."""
    root = Path(__file__).parent.parent.parent
    environment = {**os.environ, "FLYBALL_URL": server.url, "PYTHONPATH": str(root / "sdk"), "PYTHONWARNINGS": "error"}
    return subprocess.Popen(
        [sys.executable, "-c", text], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_a_forked_child_gives_nothing_back(server: BusServer, keeper: Keeper) -> None:
    text = """
import os, warnings
import flyball
warnings.filterwarnings("ignore", "This process", DeprecationWarning)
with flyball.reserve("llm_model", vram_mb=1) as held:
    child = os.fork()
    if child:
        assert os.waitpid(child, 0)[1] == 0
        print("child is gone", flush=True)
        input()
"""
    with program(text, server) as parent:
        assert parent.stdout is not None and parent.stdin is not None and parent.stderr is not None
        assert parent.stdout.readline() == "child is gone\n"
        with flyball.reserve("after", vram_mb=1):
            pass
        keeper.next(Release)
        assert keeper.ledger["llm_model"].pid == parent.pid
        parent.stdin.write("\n")
        parent.stdin.close()
        assert keeper.next(Release)[1].allocation_id == "llm_model"
        assert (parent.wait(LONG_S), parent.stderr.read()) == (0, "")


@pytest.mark.parametrize("answered", [True, False])
def test_ctrl_c_while_it_waits(server: BusServer, keeper: Keeper, answered: bool) -> None:
    """What is granted after that is given back."""
    keeper.grant("other_model", gpu0=8192)
    if not answered:
        keeper.leave_alone()
    text = "import flyball\nwith flyball.reserve('llm_model', vram_mb=1, wait_s=600): pass"
    with program(text, server) as waiting:
        if answered:
            keeper.next(Reserve)
        else:
            keeper.until_asked()
        waiting.send_signal(signal.SIGINT)
        assert waiting.stderr is not None
        assert waiting.stderr.read().rstrip().endswith("KeyboardInterrupt")
    keeper.end("other_model")
    keeper.come_back()
    if not answered:
        keeper.next(Release)
    assert keeper.ledger == {}
