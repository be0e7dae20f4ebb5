"""`flyball events`: the past, what comes, and what is not an event."""

import json
import signal

import pytest

from supervisor.bus.keys import events_key
from tests.busservers import BusServer
from tests.cli.conftest import Flyball, Supervisor


def test_the_newest_are_shown_oldest_first(flyball: Flyball, supervisor: Supervisor) -> None:
    for number in range(30):
        supervisor.say(number)
    lines = flyball.run("events", "--count", "3").stdout.splitlines()
    assert lines == [f"2026-11-21T12:00:00.000Z  Sentence {number}." for number in (27, 28, 29)]
    assert len(flyball.run("events").stdout.splitlines()) == 20


def test_each_event_is_one_line_of_json(flyball: Flyball, supervisor: Supervisor) -> None:
    entry = supervisor.say(1, speed=0.5, text="two\nlines")
    (line,) = flyball.run("events", "--json").stdout.splitlines()
    assert json.loads(line) == {
        "entry": entry.decode(), "id": "event-1", "type": "flyball.gpu.state_changed", "source": "box/throttle",
        "subject": "gpu0", "time": "2026-11-21T12:00:00.000Z", "text": "Sentence 1.",
        "data": {"speed": 0.5, "text": "two\nlines"},
    }  # fmt: skip


def test_nothing_that_a_terminal_obeys_is_printed(flyball: Flyball, supervisor: Supervisor) -> None:
    """Sentences hold names that programs give themselves, and on some buses anybody may write."""
    supervisor.client.xadd(
        events_key(),
        {
            "id": "e1", "type": "x", "source": "box/x", "subject": "", "time": "noon\x1b[8m", "data": "{}",
            "text": "\x1b]0;owned\x07two\nlines\u202e \x9b2J",
        },
    )  # fmt: skip
    odd = "\N{REPLACEMENT CHARACTER}"
    assert flyball.run("events").stdout == f"noon{odd}[8m  {odd}]0;owned{odd}two{odd}lines{odd} {odd}2J\n"
    (line,) = flyball.run("events", "--json").stdout.splitlines()
    assert "\x1b" not in line  # JSON has escapes of its own
    assert json.loads(line)["text"].endswith("\x9b2J")


def test_only_the_types_that_are_asked_for(flyball: Flyball, supervisor: Supervisor) -> None:
    """The wanted one lies behind more others than one page holds."""
    supervisor.say(0, "flyball.workload.joined")
    for number in range(1, 700):
        supervisor.say(number, "flyball.directive.issued")
    assert flyball.run("events", "--type", "flyball.workload.*").stdout.endswith("Sentence 0.\n")
    assert flyball.run("events", "--type", "flyball.workload").stdout == ""


def test_no_events_are_no_error(flyball: Flyball) -> None:
    shown = flyball.run("events")
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, "", "")


def test_what_is_not_an_event_is_named_and_passed_over(flyball: Flyball, supervisor: Supervisor) -> None:
    entry: bytes = supervisor.client.xadd(events_key(), {b"garbage": b"\xff"})
    broken: bytes = supervisor.client.xadd(
        events_key(), dict.fromkeys(("id", "type", "source", "subject", "time", "text", "data"), "{")
    )
    supervisor.say(1)
    shown = flyball.run("events", "--json")
    assert shown.returncode == 0
    assert len(shown.stdout.splitlines()) == 1
    assert f"entry {entry.decode()} is not an event" in shown.stderr
    assert f"entry {broken.decode()} is not an event" in shown.stderr


def test_follow_prints_what_comes_once_and_ends_quietly_with_ctrl_c(flyball: Flyball, supervisor: Supervisor) -> None:
    supervisor.say(1)
    with flyball.start("events", "--follow") as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline().endswith("Sentence 1.\n")
        supervisor.say(2)
        assert process.stdout.readline().endswith("Sentence 2.\n")
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
        assert (process.stdout.read(), process.stderr.read()) == ("", "")


def test_follow_waits_for_a_bus_that_goes_and_comes_back(
    flyball: Flyball, supervisor: Supervisor, bus: BusServer
) -> None:
    supervisor.say(1)
    with flyball.start("events", "--follow") as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline().endswith("Sentence 1.\n")
        bus.stop()
        assert "Waiting for it" in process.stderr.readline()
        bus.start()
        supervisor.say(2)
        assert process.stdout.readline().endswith("Sentence 2.\n")
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130


def test_a_reader_that_has_seen_enough_is_no_error(flyball: Flyball, supervisor: Supervisor) -> None:
    for number in range(2000):
        supervisor.say(number, padding="x" * 200)
    with flyball.start("events", "--json", "--count", "2000") as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 0


def test_an_away_bus_is_one_message(alone: Flyball) -> None:
    shown = alone.run("events")
    assert (shown.returncode, shown.stdout) == (1, "")
    assert shown.stderr.startswith("flyball: nothing answers on the bus at unix://")
    assert len(shown.stderr.splitlines()) == 1


@pytest.mark.parametrize("count", ["-1", "many"])
def test_a_count_must_be_a_number(alone: Flyball, count: str) -> None:
    assert alone.run("events", "--count", count).returncode == 2
