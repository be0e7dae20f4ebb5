"""How the daemon starts, stops, and starts again over what it left."""

import os
import signal
import socket
from pathlib import Path

import pytest

from schemas.event import StateChanged
from schemas.workload import Directive
from supervisor.bus.keys import demands_key, lease_key, status_key, throttle_channel
from tests.busservers import start_bus_server
from tests.daemon import Daemon
from tests.mocknvml.control import MockNvml


def throttle(daemon: Daemon, mock: MockNvml) -> Directive:
    """Let the card be THROTTLED, once it was OPTIMAL, and return the directive."""
    daemon.event("flyball.directive.issued", lambda event: event.subject == "gpu0")
    mock.set(0, temperature=78)
    entry = daemon.event(
        "flyball.directive.issued",
        lambda event: (directive := event.decode(Directive)).target == "gpu0" and directive.action == "throttle",
    )
    return entry.event.decode(Directive)


def test_it_greets_and_ends_in_good_order(state: Path) -> None:
    """The greeting names the page, the bus and how to stop; SIGTERM ends it with 0 and leaves no process."""
    with Daemon(state) as daemon:
        greeting = "\n".join(daemon.output)
        assert "page:  http://127.0.0.1:" in greeting
        assert f"redis-cli -s {state}/bus.sock" in greeting
        assert str(daemon.pid) in greeting
        daemon.event("flyball.directive.issued", lambda event: event.subject == "host")
        assert daemon.left()
        assert daemon.terminate() == 0
        daemon.assert_nothing_left()


def test_a_clean_stop_withdraws_every_demand(state: Path, mock: MockNvml) -> None:
    """Nobody stays slow for a supervisor that is gone: the directive says run, and so does the channel."""
    with (
        start_bus_server("embedded") as bus,
        Daemon(state, environ={**mock.environment(), "FLYBALL_BUS__URL": bus.url}) as daemon,
    ):
        throttled = throttle(daemon, mock)
        client = daemon.redis()
        with client.pubsub() as listener:
            listener.subscribe(throttle_channel(daemon.host, "gpu0"))
            assert listener.get_message(timeout=5)["type"] == "subscribe"
            assert daemon.terminate() == 0
            heard = None
            while message := listener.get_message(timeout=1):
                heard = message["data"]
        standing = daemon.directive("gpu0")
        assert (standing.action, standing.speed) == ("run", 1.0)
        assert standing.seq > throttled.seq
        assert heard is not None
        assert f'"seq":{standing.seq},'.encode() in heard
        for target in ("gpu0", "host"):
            assert not client.exists(demands_key(daemon.host, target))
        assert client.hget(lease_key(daemon.host), "expires_ms") == b"0"
        assert not client.exists(status_key(daemon.host))


@pytest.mark.parametrize("how", ["terminate", "kill"])
def test_a_restart_goes_on_where_it_stopped(state: Path, mock: MockNvml, how: str) -> None:
    """The ladder's rung, the events and `seq` are kept, whether it ended in good order or was killed."""
    with Daemon(state, environ=mock.environment()) as daemon:
        throttled = throttle(daemon, mock)
        before, bus_pid = daemon.entries("flyball:events:{0}"), daemon.bus_pid
        if how == "kill":
            daemon.kill()
            assert bus_pid in daemon.left(), "the bus outlives a killed daemon"
            assert daemon.directive("gpu0") == throttled
        else:
            assert daemon.terminate() == 0
            daemon.assert_nothing_left()
        mock.set(0, temperature=60)  # cool, but not for as long as the cooldown
        daemon.start()
        assert daemon.entries("flyball:events:{0}")[: len(before)] == before
        assert (daemon.bus_pid == bus_pid) == (how == "kill")
        read_s = daemon.sample(lambda sample: bool(sample.gpus), after=daemon.position("flyball:samples:{0}"))[1]
        status = daemon.status_when(lambda status: status.sample_id > read_s.id and status.targets)
        row = next(target for target in status.targets if target.target == "gpu0")
        assert (row.state, row.action, row.speed) == ("THROTTLED", "throttle", 0.5)
        standing = daemon.directive("gpu0")
        assert (standing.action, standing.speed) == ("throttle", 0.5)
        assert standing.seq >= throttled.seq
        states = [event.decode(StateChanged).state for event in daemon.events("flyball.gpu.state_changed")]
        assert states == ["OPTIMAL", "THROTTLED"]
        seqs = [
            directive.seq
            for event in daemon.events("flyball.directive.issued")
            if (directive := event.decode(Directive)).target == "gpu0"
        ]
        assert seqs == sorted(set(seqs)), "seq only grows"
        assert standing.seq == seqs[-1], "the retained directive is the last one that was said"
        assert not daemon.events("flyball.handler.failed", "flyball.stream.gap")


def test_a_bus_that_hangs_does_not_hold_up_the_end(state: Path) -> None:
    """SIGTERM still ends the daemon within 5 s, and its bus with it."""
    with Daemon(state) as daemon:
        daemon.event("flyball.directive.issued")
        os.kill(daemon.bus_pid, signal.SIGSTOP)
        assert daemon.terminate() == 0
        daemon.assert_nothing_left()


def test_a_second_one_on_the_same_state_directory_names_the_first(state: Path) -> None:
    """It exits 2 and changes nothing."""
    with Daemon(state) as daemon:
        second = daemon.command("run")
        assert second.returncode == 2
        assert not second.stdout
        assert f"pid {daemon.pid} of box since " in second.stderr
        assert second.stderr.count("\n") == 1, second.stderr
        assert daemon.running
        assert daemon.redis().ping()


def test_a_taken_port_is_one_sentence(state: Path) -> None:
    """What, why, and one thing to do; and no process is left behind."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        daemon = Daemon(state, environ={"FLYBALL_API__PORT": str(port)})
        ended = daemon.command("run")
        assert ended.returncode == 2
        assert not ended.stdout
        assert f"cannot listen at 127.0.0.1:{port}: another program listens there. Choose another port" in ended.stderr
        assert "Traceback" not in ended.stderr
        daemon.assert_nothing_left()


@pytest.mark.parametrize("password", ["", ":wrong@"], ids=["none", "wrong"])
def test_a_refused_password_is_one_sentence(state: Path, password: str) -> None:
    """It exits 2 with what to do, and starts nothing."""
    with start_bus_server("embedded", ["--requirepass", "sesame"]) as bus:
        daemon = Daemon(state, environ={"FLYBALL_BUS__URL": f"unix://{password}{bus.path}"})
        ended = daemon.command("run")
        assert ended.returncode == 2, ended.stderr
        assert not ended.stdout
        assert "refuses us: " in ended.stderr
        assert ". Check bus.url and bus.password_file; try: " in ended.stderr
        assert ".." not in ended.stderr
        assert "wrong@" not in ended.stderr
        daemon.assert_nothing_left()


def test_a_dry_run_says_everything_and_does_nothing(state: Path, mock: MockNvml) -> None:
    mock.set(gpu=0, temperature=92)
    with Daemon(state, environ=mock.environment(), arguments=("--dry-run",)) as daemon:
        said = daemon.event("flyball.gpu.state_changed")
        daemon.sample(lambda sample: sample.scope == "full")
        assert said.event.text.startswith("DRY RUN: gpu0 is CRITICAL")
        assert daemon.events("flyball.directive.issued") == []
        assert daemon.redis().keys("flyball:d[ei][mr]*") == []  # neither demands nor directives
