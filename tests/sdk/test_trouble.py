"""Trouble with the bus stays out of the program: at most a line in the log, and the rules of silence."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from flyball import Workload, bus, link
from flyball.wire import Acknowledgement, Counters, Join, directive_key, inbox_key, throttle_channel
from tests.busservers import BusServer, start_bus_server
from tests.sdk.supervision import HOST, WORKLOAD_RIGHTS, Heard, Lines, Supervisor, calls


def test_without_a_supervisor_one_warning_and_full_speed(lines: Lines) -> None:
    with Workload("trainer") as workload:
        assert list(workload.pace(range(1000))) == list(range(1000))
        workload.wait()
        workload.count("steps")
        assert (workload.speed, workload.paused, workload.directive, workload.batch_size(64)) == (1.0, False, None, 64)
        lines.until("no bus: ")  # it has looked a second time
    (warning,) = [line for line in lines.warnings if "batch_size" not in line]
    assert warning.startswith("no supervisor found (")
    assert "running at full speed; start one with `flyball run`, or set FLYBALL_URL" in warning


async def test_without_a_supervisor_async(lines: Lines) -> None:
    async with Workload("trainer") as workload:
        assert [step async for step in workload.pace(range(10))] == list(range(10))
        await workload.ready()
    assert len(lines.warnings) == 1


@pytest.mark.parametrize(
    "url", ["redis://127.0.0.1:1", "redis://x:y@[::1:2", "http://box", "redis://h:port", "redis://?db=x", "unix://"]
)
def test_a_useless_url_is_a_warning(url: str, monkeypatch: pytest.MonkeyPatch, lines: Lines) -> None:
    monkeypatch.setenv("FLYBALL_URL", url)
    with Workload("trainer") as workload:
        assert list(workload.pace("abc")) == ["a", "b", "c"]
    assert len(lines.warnings) == 1
    assert "no supervisor found" in lines.warnings[0]


def test_a_supervisor_that_comes_later_is_found(monkeypatch: pytest.MonkeyPatch, lines: Lines) -> None:
    """In the state directory, without being named."""
    with Workload("trainer") as workload, start_bus_server("debian") as server:
        assert workload.speed == 1.0
        supervisor = Supervisor(server.url)
        supervisor.say("throttle", 0.5)
        heard = Heard()
        workload.on_change(heard)
        monkeypatch.setenv("FLYBALL_STATE_DIR", str(server.directory))
        assert heard.next().speed == 0.5
        supervisor.until(Acknowledgement, stage="applied", speed=0.5)
        supervisor.close()


def test_the_password_is_not_logged(server: BusServer, monkeypatch: pytest.MonkeyPatch, lines: Lines) -> None:
    monkeypatch.setenv("FLYBALL_URL", f"unix://workload:hush@{server.path}")
    with Workload("trainer"):
        lines.until("no supervisor found")
    assert not [line for line in lines.warnings if "hush" in line]


def test_kill_9_of_the_bus(server: BusServer, supervisor: Supervisor, lines: Lines) -> None:
    """What was last said is held; when the bus is back, the workload joins again and hears what it missed."""
    heard = Heard()
    with Workload("trainer") as workload:
        workload.on_change(heard)
        supervisor.say("throttle", 0.5)
        assert heard.next().speed == 0.5
        supervisor.until(Acknowledgement, stage="applied")
        for missed in (0.8, 0.3, 0.6):
            server.kill()
            lines.until("the bus is lost")
            held = workload.speed
            assert held < 1
            workload.wait()
            workload.count("while it was away")
            server.start()
            directive = supervisor.directive("throttle", missed)
            supervisor.retain(directive)  # not published: only the hash can tell
            while heard.next().speed != missed:
                pass
            lines.until("found the bus at")
            supervisor.until(Acknowledgement, directive=directive.id, stage="accepted")
        supervisor.say("run", 1.0)
        assert heard.next().speed == 1.0
    events = {event for event, _ in supervisor.inbox()}
    assert len({event.id for event in events}) == len(events), "what a kill let be said twice has the same id"
    joins = [data for _, data in supervisor.inbox() if isinstance(data, Join)]
    assert len(joins) >= 2
    assert sum("the bus is lost" in line for line in lines.warnings) == 3


def test_a_bus_that_stops_answering(
    server: BusServer, supervisor: Supervisor, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGSTOP keeps the connection open; only a missing sign of life tells."""
    monkeypatch.setattr(link, "QUIET_S", 0.2)
    monkeypatch.setattr(link, "GONE_S", 0.2)
    monkeypatch.setattr(link, "TICK_S", 0.1)
    heard = Heard()
    with Workload("trainer") as workload:
        workload.on_change(heard)
        before = calls(supervisor.client, "ping")
        while calls(supervisor.client, "ping") == before:  # nothing else is under way when it asks for a sign of life
            time.sleep(0.01)
        server.pause()
        lines.until("no sign of life")
        server.resume()
        supervisor.say("throttle", 0.5)
        assert heard.next().speed == 0.5


def test_a_quiet_bus_is_not_lost(supervisor: Supervisor, lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers when it is asked, again and again."""
    monkeypatch.setattr(link, "QUIET_S", 0.02)
    monkeypatch.setattr(link, "GONE_S", 5.0)
    monkeypatch.setattr(link, "TICK_S", 0.01)
    with Workload("trainer"):
        before = calls(supervisor.client, "ping")
        while calls(supervisor.client, "ping") < before + 5:
            time.sleep(0.01)
    assert lines.warnings == []


@pytest.mark.parametrize(("on_silence", "speed"), [("run", 1.0), ("pause", 0.0)])
def test_silence_of_the_supervisor(supervisor: Supervisor, lines: Lines, on_silence: str, speed: float) -> None:
    """The bus is there, nobody speaks; and the next word rules again."""
    heard, silent_state = Heard(), Heard()
    with Workload("trainer", on_silence=on_silence) as workload:  # type: ignore[arg-type]
        workload.on_change(heard)
        workload.on_state("silent", silent_state)
        directive = supervisor.say("throttle", 0.5, ttl_s=0.3)
        assert heard.next() == directive
        silent = heard.next()
        assert (silent.id, silent.cause, silent.speed, workload.speed) == ("", directive.id, speed, speed)
        lines.until("no word from the supervisor about gpu0")
        supervisor.publish(directive)
        assert heard.next() == directive
        assert silent_state.next() == silent


def test_after_a_clean_stop_it_runs_on_without_a_word(
    supervisor: Supervisor, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last word of a supervisor that leaves stands for good: an hour of silence later nothing has changed."""
    ahead_s = 0.0
    monkeypatch.setattr(link, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + ahead_s))
    monkeypatch.setattr(link, "QUIET_S", 10_000)
    heard = Heard()
    with Workload("trainer", on_silence="pause") as workload:
        workload.on_change(heard)
        supervisor.say("throttle", 0.5)
        supervisor.say("run", 1.0, ttl_s=0)
        while heard.next().speed < 1:
            pass
        ahead_s = 3600.0
        workload.count("after an hour")
        supervisor.heard(lambda _, data: isinstance(data, Counters))
        workload.count("and a second")
        supervisor.heard(lambda _, data: isinstance(data, Counters) and "and a second" in data.counts)
        assert (workload.speed, workload.paused) == (1.0, False)
    assert heard.nothing()
    assert lines.warnings == []


def test_a_bus_on_which_nobody_speaks_to_this_host(
    supervisor: Supervisor, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One warning, that names the host; and one when somebody does after all."""
    monkeypatch.setattr(link, "UNHEARD_S", 0.05)
    monkeypatch.setattr(link, "TICK_S", 0.02)
    monkeypatch.setattr(link, "QUIET_S", 0.05)
    supervisor.client.hset(directive_key("other-box", "host"), mapping={"action": "run"})
    heard = Heard()
    with Workload("trainer") as workload:
        workload.on_change(heard)
        lines.until(f"no supervisor has spoken to host {HOST}")
        before = calls(supervisor.client, "ping")
        while calls(supervisor.client, "ping") < before + 3:
            time.sleep(0.01)
        assert workload.speed == 1.0
        assert len(lines.warnings) == 1 and "FLYBALL_HOST" in lines.warnings[0]
        supervisor.say("throttle", 0.5)
        assert heard.next().speed == 0.5
        lines.until(f"a supervisor speaks to host {HOST} now")
    assert len(lines.warnings) == 2


def test_a_supervisor_that_has_nothing_to_say_about_our_targets(
    supervisor: Supervisor, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It speaks of the host's memory at least, so it is there."""
    monkeypatch.setattr(link, "UNHEARD_S", 0.02)
    monkeypatch.setattr(link, "TICK_S", 0.01)
    monkeypatch.setattr(link, "QUIET_S", 0.05)
    supervisor.retain(supervisor.directive("run", 1.0, "host"))
    with Workload("trainer", gpus=[], host_memory=False) as workload:
        before = calls(supervisor.client, "ping")
        while calls(supervisor.client, "ping") < before + 3:
            time.sleep(0.01)
        assert workload.directive is None
    assert lines.warnings == []


def test_another_shard(supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch, lines: Lines) -> None:
    """Its retained directives are read there, and there the workload speaks."""
    monkeypatch.setenv("FLYBALL_SHARD", "3")
    directive = supervisor.directive("throttle", 0.5)
    fields = {name: str(value) for name, value in msgspec.to_builtins(directive).items()}
    supervisor.client.hset(directive_key(HOST, "gpu0", 3), mapping=fields)
    supervisor.say("throttle", 0.2, "host")  # of shard 0, before it listens
    with Workload("trainer") as workload:
        assert workload.speed == 0.5
    assert supervisor.client.exists(inbox_key()) == 0
    assert supervisor.client.xlen(inbox_key(3)) == 3  # joined, heard it, left
    assert lines.warnings == []


def test_a_shard_that_is_no_number_is_a_warning(monkeypatch: pytest.MonkeyPatch, lines: Lines) -> None:
    monkeypatch.setenv("FLYBALL_SHARD", "east")
    with Workload("trainer") as workload:
        assert list(workload.pace("abc")) == ["a", "b", "c"]
    assert lines.warnings == [
        "workload trainer cannot listen (FLYBALL_SHARD is 'east'; it must be a whole number, the supervisor's "
        "`[bus] shard`): running at full speed"
    ]


def test_a_fault_is_told_in_full_once(monkeypatch: pytest.MonkeyPatch, lines: Lines) -> None:
    """As where the Redis client cannot be imported, at each attempt."""
    monkeypatch.setattr(bus, "candidates", lambda: ["unix:///x"])
    monkeypatch.setattr(bus, "check", lambda url: 1 // 0)
    monkeypatch.setattr(link, "LAST_RETRY_S", 0.02)
    with Workload("trainer"):
        for _ in range(3):
            lines.until("no bus: a fault in Flyball's SDK: integer division")
    assert [line for line in lines.warnings if line.startswith("a fault")] == [
        "a fault in Flyball's SDK; this program goes on as it was"
    ]


async def test_no_thread_to_be_had(monkeypatch: pytest.MonkeyPatch, lines: Lines) -> None:
    """Neither at the start nor, for `async with`, at the end."""

    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as context:
        context.setattr(link.Link, "start", refuse)
        async with Workload("trainer") as workload:
            assert (workload.speed, list(workload.pace("ab"))) == (1.0, ["a", "b"])
    assert lines.warnings == ["workload trainer cannot listen (can't start new thread): running at full speed"]
    async with Workload("trainer"):
        monkeypatch.setattr("asyncio.to_thread", refuse)


def test_hold_is_bounded(supervisor: Supervisor, lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while the bus is away."""
    monkeypatch.setattr("flyball.orders.HOLD_AT_MOST_S", 0.2)
    heard = Heard()
    with Workload("trainer") as workload:
        workload.on_change(heard)
        directive = supervisor.say("pause", 0.0, ttl_s=0.2)
        assert heard.next() == directive
        monkeypatch.setenv("FLYBALL_URL", "unix:///nowhere")
        supervisor.client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        after = heard.next()
        assert (after.action, after.speed) == ("throttle", 0.5)
        lines.until("throttle at speed 0.5")


@pytest.mark.parametrize(
    "message",
    [
        b"", b"{}", b"null", b"[" * 100_000, b"\xff\xfe", b'{"id": 1}', b"\x00" * 10, b'"pause"',
        b'{"id":"x","seq":-1,"time":"","host":"test-box","target":"gpu0","action":"pause","speed":0}',
        b'{"id":"x","seq":9,"time":"","host":"test-box","target":"gpu0","action":"stop","speed":0}',
        b'{"id":"x","seq":9,"time":"","host":"test-box","target":"gpu0","action":"pause","speed":2}',
        b'{"id":"x","seq":9,"time":"","host":"test-box","target":"gpu1","action":"pause","speed":0}',
        b'{"id":"x","seq":9,"time":"","host":"elsewhere","target":"gpu0","action":"pause","speed":0}',
    ],
)  # fmt: skip
def test_garbage_is_ignored_with_a_line(supervisor: Supervisor, lines: Lines, message: bytes) -> None:
    heard = Heard()
    with Workload("trainer") as workload:
        workload.on_change(heard)
        supervisor.client.publish(throttle_channel(HOST, "gpu0"), message)
        supervisor.client.publish(throttle_channel(HOST, "gpu0"), message)
        directive = supervisor.say("throttle", 0.5)
        assert heard.next() == directive, "what comes after it is heard"
        lines.until("ignored a ")
        lines.until("ignored a ")
    assert len([line for line in lines.warnings if line.startswith("ignored")]) == 1, "one warning, not a thousand"
    stages = [data.stage for _, data in supervisor.inbox() if isinstance(data, Acknowledgement)]
    assert stages == ["accepted", "applied"], "garbage is not acknowledged"


def test_a_retained_directive_that_is_garbage(supervisor: Supervisor, lines: Lines) -> None:
    supervisor.client.hset(directive_key(HOST, "gpu0"), mapping={"speed": "fast", "id": b"\xff"})
    supervisor.say("throttle", 0.5, "host")
    with Workload("trainer") as workload:
        assert workload.speed == 0.5, "the others stand"
    lines.until("ignored the retained directive of gpu0")


def test_the_workloads_user_is_enough(
    server: BusServer, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch, lines: Lines
) -> None:
    """The whole round with the commands that a workload may use; the server has refused none but CLIENT SETINFO."""
    supervisor.client.execute_command("ACL", "SETUSER", "workload", *WORKLOAD_RIGHTS)
    monkeypatch.setenv("FLYBALL_URL", f"unix://workload:secret@{server.path}")
    with Workload("trainer") as workload:
        heard = Heard()
        workload.on_change(heard)
        directive = supervisor.say("pause", 0.0)
        assert heard.next() == directive
        supervisor.until(Acknowledgement, directive=directive.id, stage="applied")
    refused = {entry["object"] for entry in supervisor.client.acl_log()}
    assert refused <= {"client|setinfo"}
    assert lines.warnings == []


def test_refused_words_do_not_keep_it_from_obeying(
    server: BusServer, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch, lines: Lines
) -> None:
    supervisor.client.execute_command("ACL", "SETUSER", "workload", *WORKLOAD_RIGHTS, "-xadd")
    monkeypatch.setenv("FLYBALL_URL", f"unix://workload:secret@{server.path}")
    with Workload("trainer") as workload:
        heard = Heard()
        workload.on_change(heard)
        for speed in (0.5, 0.3):
            supervisor.say("throttle", speed)
            assert heard.next().speed == speed
    assert supervisor.client.xlen(inbox_key()) == 0
    assert len(lines.warnings) == 1
    assert "refuses what this workload says" in lines.warnings[0]


def test_a_directive_that_may_not_be_read_is_no_supervisor(
    server: BusServer, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch, lines: Lines
) -> None:
    supervisor.client.execute_command("ACL", "SETUSER", "workload", *WORKLOAD_RIGHTS, "-hgetall")
    monkeypatch.setenv("FLYBALL_URL", f"unix://workload:secret@{server.path}")
    with Workload("trainer") as workload:
        assert workload.speed == 1.0
    assert "cannot be read" in lines.warnings[0]


def run_program(code: str, server: BusServer) -> subprocess.CompletedProcess[str]:
    """A program of its own, where every warning is an error."""
    root = Path(__file__).parent.parent.parent
    return subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", code],
        env={**os.environ, "FLYBALL_URL": server.url, "PYTHONPATH": f"{root}:{root / 'sdk'}"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_forked_child_is_a_shell(server: BusServer, supervisor: Supervisor) -> None:
    """The child runs at full speed with one warning and touches no socket; the parent goes on as before."""
    supervisor.say("throttle", 0.5)
    done = run_program(
        """
import os, sys, warnings
import flyball
warnings.filterwarnings("ignore", "This process", DeprecationWarning)  # of Python 3.12: forking beside threads
with flyball.Workload("trainer") as workload:
    assert workload.speed == 0.5
    steps = iter(workload.pace(range(100)))
    next(steps)
    child = os.fork()
    if child == 0:
        assert workload.speed == 1.0 and workload.directive is None
        assert len(list(steps)) == 99
        workload.count("in the child")
        workload.wait()
    else:
        _, status = os.waitpid(child, 0)
        assert status == 0, status
        assert workload.speed == 0.5
        next(steps)
        workload.count("in the parent")
""",
        server,
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "this is a forked child of workload trainer, at full speed; open a Workload of its own\n"
    assert [event.type.rpartition(".")[2] for event, _ in supervisor.inbox()] == [
        "join", "acknowledge", "acknowledge", "count", "leave",
    ]  # fmt: skip


def test_a_forked_child_may_open_its_own(server: BusServer, supervisor: Supervisor) -> None:
    supervisor.say("throttle", 0.5)
    done = run_program(
        """
import os, warnings
import flyball
warnings.filterwarnings("ignore", "This process", DeprecationWarning)
with flyball.Workload("parent"):
    child = os.fork()
    if child == 0:
        with flyball.Workload("child") as workload:
            assert workload.speed == 0.5
    else:
        assert os.waitpid(child, 0)[1] == 0
""",
        server,
    )
    assert (done.returncode, done.stderr) == (0, "")
    joined = {data.workload: data.pid for _, data in supervisor.inbox() if isinstance(data, Join)}
    assert joined.keys() == {"parent", "child"}
    assert joined["parent"] != joined["child"]


def test_no_descriptor_to_be_had(server: BusServer, supervisor: Supervisor) -> None:
    """Plain and asynchronous: one warning each, full speed, and nothing raised."""
    supervisor.say("pause", 0.0)
    done = run_program(
        """
import asyncio, os, resource
import flyball
async def work():
    async with flyball.Workload("second") as workload:
        assert [step async for step in workload.pace(range(10))] == list(range(10))
        await workload.ready()
resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
with asyncio.Runner() as runner:
    runner.get_loop()
    taken = []
    try:
        while True:
            taken.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    with flyball.Workload("first") as workload:
        assert list(workload.pace(range(10))) == list(range(10))
        workload.on_change(print)
        workload.count("steps")
        workload.wait()
    runner.run(work())
    for descriptor in taken:
        os.close(descriptor)
""",
        server,
    )
    assert (done.returncode, done.stdout) == (0, "")
    first, second = done.stderr.splitlines()
    assert first.startswith("workload first cannot listen ([Errno 24] Too many open files")
    assert first.endswith("): running at full speed")
    assert second.startswith("workload second cannot listen (")
    assert supervisor.inbox() == []


def test_a_program_that_never_leaves_says_goodbye_at_its_end(server: BusServer, supervisor: Supervisor) -> None:
    """A notebook enters by hand; the interpreter's end is clean and quick."""
    done = run_program("import flyball; flyball.Workload('notebook').__enter__()", server)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [event.type for event, _ in supervisor.inbox()] == ["flyball.workload.join", "flyball.workload.leave"]


def test_a_program_that_ends_while_paused(server: BusServer, supervisor: Supervisor) -> None:
    """Ctrl-C reaches a program that stands still."""
    supervisor.say("pause", 0.0)
    root = Path(__file__).parent.parent.parent
    with subprocess.Popen(
        [sys.executable, "-c", "import flyball\nwith flyball.Workload('a') as w: w.wait()"],
        env={**os.environ, "FLYBALL_URL": server.url, "PYTHONPATH": str(root / "sdk")},
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        supervisor.until(Acknowledgement, stage="applied", speed=0.0)
        program.send_signal(signal.SIGINT)
        assert program.stderr is not None
        assert program.stderr.read().rstrip().endswith("KeyboardInterrupt")
    assert supervisor.inbox()[-1][1].reason == "ended by KeyboardInterrupt"


def test_importing_it_costs_and_does_nothing(server: BusServer) -> None:
    done = run_program(
        """
import logging, os, signal, sys, threading
before = logging.getLogger().handlers[:], signal.getsignal(signal.SIGTERM), threading.enumerate()
import flyball
assert before == (logging.getLogger().handlers, signal.getsignal(signal.SIGTERM), threading.enumerate())
assert not {"redis", "psutil", "asyncio", "schemas", "supervisor"} & sys.modules.keys()
os.environ["FLYBALL_URL"] = "unix:///nowhere"
logging.getLogger("flyball").addHandler(logging.NullHandler())
with flyball.Workload("trainer"):
    pass
assert "redis" not in sys.modules, "it is imported once a bus is there"
""",
        server,
    )
    assert (done.returncode, done.stderr) == (0, "")
