"""Other settings for a running daemon: through the API, by SIGHUP, over a restart, and while the bus is away."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from schemas.event import ConfigChanged, ConfigRefused, StateChanged
from supervisor.configuration.kept import FILE
from tests.api.client import Client
from tests.busservers import start_bus_server
from tests.daemon import PATIENCE_S, STOPS_WITHIN_S, Daemon
from tests.mocknvml.control import MockNvml

CONFIG = "/api/gpu/config"


def changed(daemon: Daemon, key: str, after: str = "0-0") -> tuple[str, Any]:
    """The sentence that says that a setting was changed, and its new value."""
    event = daemon.event(
        "flyball.config.changed",
        lambda event: key in [change.key for change in event.decode(ConfigChanged).changes],
        after=after,
    ).event
    return event.text, next(change.new for change in event.decode(ConfigChanged).changes if change.key == key)


def test_a_threshold_holds_from_the_next_sample_on(state: Path, mock: MockNvml) -> None:
    """The card moves to where the new threshold puts it; the answer, GET and the event say what, and where from."""
    mock.set(0, temperature=72)
    with Daemon(state, "[throttle]\ntemp_optimal = 60\n", environ=mock.environment()) as daemon:
        daemon.event("flyball.gpu.state_changed", lambda event: event.decode(StateChanged).state == "NORMAL")
        client = Client(daemon)
        seen = client.get(CONFIG)
        assert seen.document["values"]["temp_optimal"] == 60
        answer = client.put(CONFIG, {"temp_normal": 70}, If_Match=seen.headers["etag"])
        assert answer.status == 200, answer
        assert answer.document["changed"] == [{"key": "throttle.temp_normal", "old": 75, "new": 70, "holds": "now"}]
        assert answer.headers["etag"] == client.get(CONFIG).headers["etag"] != seen.headers["etag"]
        text, _ = changed(daemon, "throttle.temp_normal")
        assert text == "api 127.0.0.1 changed throttle.temp_normal from 75 to 70"
        moved = daemon.event("flyball.gpu.state_changed", lambda event: event.decode(StateChanged).state == "THROTTLED")
        assert daemon.directive("gpu0").speed == 0.5
        assert "72" in moved.event.text

        stale = client.put(CONFIG, {"temp_normal": 71}, If_Match=seen.headers["etag"])
        assert (stale.status, stale.headers["etag"]) == (412, answer.headers["etag"])
        wrong = client.put(CONFIG, {"throttle": {"temp_normal": 95}, "monitor_intervall": 1})
        assert wrong.status == 422
        assert len(wrong.document["errors"]) == 2
        assert client.put(CONFIG, b'{"throttle": {"temp_normal": NaN}}').status == 400
        assert client.get(CONFIG).headers["etag"] == answer.headers["etag"]


def test_no_tick_is_lost_when_the_interval_changes(state: Path) -> None:
    """Ticks stay in order, none comes later than the longer interval allows, and none of them is a gap.

    The intervals are long enough that a busy machine makes no gaps of its own.
    """
    with Daemon(state, "[sampling]\ninterval_s = 1\n") as daemon:
        client = Client(daemon)
        for interval_s in (0.5, 0.9, 0.4):
            before = daemon.position("flyball:samples:{0}")
            assert client.put(CONFIG, {"sampling": {"interval_s": interval_s}}).status == 200
            daemon.sample(lambda sample, wanted=interval_s: sample.interval_s == wanted, after=before)  # type: ignore[misc]
        daemon.sample(lambda sample: sample.interval_s == 0.4, after=daemon.position("flyball:samples:{0}"))
        samples = daemon.samples()
        assert [after.tick - before.tick for before, after in pairwise(samples)] == [1] * (len(samples) - 1)
        assert not any(sample.gap for sample in samples)
        intervals = [sample.interval_s for sample in samples]
        assert list(dict.fromkeys(intervals)) == [1, 0.5, 0.9, 0.4]


def test_what_was_set_outlives_a_restart_until_it_is_taken_back(state: Path) -> None:
    with Daemon(state, "[sampling]\ninterval_s = 0.5\n[history]\nhistory_size = 50\n") as daemon:
        body = {"interval_s": 0.3, "history_size": 70}
        assert Client(daemon).put(CONFIG, body).status == 200
        assert daemon.terminate() == 0
        daemon.output.clear()
        daemon.start()
        (said,) = daemon.events("flyball.config.changed")
        assert "history.history_size from 50 to 70" in said.text, "it was said before the end"
        client = Client(daemon)
        shown = client.get(CONFIG).document["settings"]
        assert shown["sampling.interval_s"]["value"] == 0.3
        assert shown["sampling.interval_s"]["origin"] == {"layer": "api", "where": str(state / FILE)}
        daemon.sample(lambda sample: sample.interval_s == 0.3)
        back = client.put(CONFIG, {"sampling": None, "history": {"history_size": None}})
        assert {one["key"]: (one["new"], one["holds"]) for one in back.document["changed"]} == {
            "sampling.interval_s": (0.5, "now"), "history.history_size": (50, "now"),
        }  # fmt: skip
        assert json.loads((state / FILE).read_bytes()) == {}


def test_what_is_kept_and_damaged_is_told_before_anything_starts(state: Path) -> None:
    daemon = Daemon(state)
    (state / FILE).write_text('{"throttle.temp_normal": 7')
    told = daemon.command("run")
    assert (told.returncode, told.stdout) == (2, "")
    assert f"{state / FILE}: is damaged: " in told.stderr
    assert "remove it, which takes back what was set through the API" in told.stderr
    assert "Traceback" not in told.stderr
    (state / FILE).write_text('{"throttle.temp_normal": 99}')
    told = daemon.command("run")
    assert told.returncode == 2
    assert "throttle.temp_normal: 99 is not below temp_throttle (85)" in told.stderr
    assert f"(from the API, kept in {state / FILE})" in told.stderr
    assert [path.name for path in state.iterdir() if path.suffix == ".db"] == []


def test_while_the_bus_is_away_settings_change_and_it_is_said_later_once(state: Path) -> None:
    with (
        start_bus_server("debian") as bus,
        Daemon(state, "[sampling]\ninterval_s = 0.5\n", environ={"FLYBALL_BUS__URL": bus.url}) as daemon,
    ):
        daemon.event("flyball.directive.issued")
        client = Client(daemon)
        bus.kill()
        assert client.put(CONFIG, {"interval_s": 0.25}).document["changed"][0]["holds"] == "now"
        bus.start()
        assert changed(daemon, "sampling.interval_s") == (
            "api 127.0.0.1 changed sampling.interval_s from 0.5 to 0.25",
            0.25,
        )
        daemon.event("flyball.bus.restored")
        assert len(daemon.events("flyball.config.changed")) == 1
        daemon.sample(lambda sample: sample.interval_s == 0.25)


def test_sighup_reads_the_file_again(state: Path) -> None:
    """A good file holds at once, a bad one changes nothing and every problem is told; what cannot change is named."""
    file = state / "flyball.toml"
    with Daemon(state, "[sampling]\ninterval_s = 0.5\n") as daemon:
        file.write_text("[sampling]\ninterval_s = 0.25\n[bus]\nmemory_mib = 300\n")
        os.kill(daemon.pid, signal.SIGHUP)
        text, value = changed(daemon, "sampling.interval_s")
        assert (value, text) == (
            0.25,
            "SIGHUP changed bus.memory_mib from 256 to 300 (takes effect at the next start); "
            "sampling.interval_s from 0.5 to 0.25",
        )
        daemon.sample(lambda sample: sample.interval_s == 0.25)
        file.write_text("[sampling]\ninterval_s = 0\n[throttle]\ntemp_norml = 70\n")
        os.kill(daemon.pid, signal.SIGHUP)
        refused = daemon.event("flyball.config.refused").event.decode(ConfigRefused)
        assert refused.problems == (
            "sampling.interval_s: 0 is not a number from 0.05 to 60",
            "throttle.temp_norml: no such key; did you mean temp_normal?",
        )
        assert all(problem in daemon.errors for problem in refused.problems)
        assert "bus.memory_mib takes effect at the next start" in daemon.errors
        shown = Client(daemon).get(CONFIG).document["settings"]
        assert shown["sampling.interval_s"]["value"] == 0.25
        assert (shown["bus.memory_mib"]["value"], shown["bus.memory_mib"]["at_next_start"]) == (256, 300)


#: Takes the terminal on its standard input as the controlling one, then becomes what the other words say.
AT_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)
NOHUP = f"import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); {AT_TERMINAL}"


@contextmanager
def at_a_terminal(daemon: Daemon, code: str) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """`flyball run` in the foreground of a terminal, once it has greeted there; the other end of it is the number."""
    ours, its = pty.openpty()
    with (daemon.state / "stderr.log").open("ab") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *daemon.words("run")], stdin=its, stdout=its, stderr=errors,
            env=daemon.environ, start_new_session=True, cwd=Path(__file__).parent.parent.parent,
        )  # fmt: skip
    os.close(its)
    try:
        greeting = b""
        while b"stop:" not in greeting:
            greeting += os.read(ours, 4096)
        yield process, ours
    finally:
        process.kill()
        process.wait()


def test_a_terminal_that_closes_ends_what_was_started_from_it(state: Path) -> None:
    """SIGHUP by hand reads the file again as long as the terminal is there; when it hangs up, it ends in good order."""
    daemon = Daemon(state, "[sampling]\ninterval_s = 0.5\n")
    with at_a_terminal(daemon, AT_TERMINAL) as (process, terminal):
        (state / "flyball.toml").write_text("[sampling]\ninterval_s = 0.25\n")
        process.send_signal(signal.SIGHUP)
        changed(daemon, "sampling.interval_s")
        assert process.poll() is None
        os.close(terminal)
        assert process.wait(STOPS_WITHIN_S) == 0
    daemon.assert_nothing_left()
    assert "Traceback" not in daemon.errors


def test_who_was_told_to_outlive_the_terminal_does(state: Path) -> None:
    daemon = Daemon(state, "[sampling]\ninterval_s = 0.5\n")
    with at_a_terminal(daemon, NOHUP) as (process, terminal):
        (state / "flyball.toml").write_text("[sampling]\ninterval_s = 0.25\n")
        os.close(terminal)
        changed(daemon, "sampling.interval_s")
        assert process.poll() is None
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
