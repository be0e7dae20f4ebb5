"""`flyball throttle`, `pause` and `resume`: what is asked, and what each answer means."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest

from schemas.command import Command
from schemas.envelope import event_from_entry
from schemas.event import OverrideChanged
from supervisor.bus.keys import commands_key
from tests.cli.conftest import HOST, Flyball, Supervisor

Answer = Callable[[Command], None]


@contextmanager
def answering(supervisor: Supervisor, answer: Answer) -> Iterator[list[Command]]:
    """Takes one command, as the operator's handler does."""
    taken: list[Command] = []

    def take() -> None:
        reply: Any = supervisor.client.xread({commands_key(HOST): "0"}, block=20_000)
        command = event_from_entry(reply[0][1][0][1]).decode(Command)
        taken.append(command)
        answer(command)

    thread = threading.Thread(target=take, name="the supervisor")
    thread.start()
    try:
        yield taken
    finally:
        thread.join()


def outcome(supervisor: Supervisor, kind: str = "started") -> Answer:
    """Answers a command, after something else was said."""

    def answer(command: Command) -> None:
        changed = OverrideChanged(
            target=command.target, outcome=kind, action="throttle", speed=0.5,  # type: ignore[arg-type]
            operator="alice@box", reason="asked", cause=command.id,
        )  # fmt: skip
        data = json.loads(msgspec.json.encode(changed))
        supervisor.say(1, "flyball.override.changed", **{**data, "cause": "another-command"})
        supervisor.say(2, "flyball.override.changed", nonsense=True)
        supervisor.say(3, "flyball.directive.issued", cause=command.id)
        supervisor.say(4, "flyball.override.changed", **data)

    return answer


@pytest.mark.parametrize(
    ("words", "action", "arguments"),
    [
        (["throttle", "gpu0", "--speed", "0.25", "--for", "1h30m"], "throttle", {"speed": 0.25, "for_s": 5400.0}),
        (["throttle", "host"], "throttle", {"speed": 0.5, "for_s": 600.0}),
        (["pause", "host", "--reason", "a test"], "pause", {"speed": 0.0, "for_s": 600.0, "reason": "a test"}),
        (["pause", "workload.trainer", "--for", "90s"], "pause", {"speed": 0.0, "for_s": 90.0}),
        (["throttle", "gpu44", "--force"], "throttle", {"speed": 0.5, "for_s": 600.0, "force": True}),
        (["pause", "gpu44", "--force"], "pause", {"speed": 0.0, "for_s": 600.0, "force": True}),
        (["resume", "gpu3"], "resume", {}),
        (["resume", "gpu3", "--for", "5m"], "resume", {"speed": 1.0, "for_s": 300.0}),
        (["resume", "gpu3", "--force", "--speed", "0.8"], "resume", {"speed": 0.8, "for_s": 600.0, "force": True}),
    ],
)
def test_the_request_is_a_command_on_the_hosts_stream(
    flyball: Flyball, supervisor: Supervisor, words: list[str], action: str, arguments: dict[str, Any]
) -> None:
    with answering(supervisor, outcome(supervisor)) as taken:
        shown = flyball.run(*words, LOGNAME="alice")
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, "Sentence 4.\n", "")
    (command,) = taken
    assert (command.action, command.target, command.host, command.ttl_s) == (action, words[1], HOST, 30.0)
    assert command.arguments.pop("operator") == command.issuer
    assert command.issuer.startswith("alice@")
    assert command.arguments == {"force": False} | arguments
    ((_, fields),) = supervisor.client.xrange(commands_key(HOST))
    assert list(fields) == [b"id", b"type", b"source", b"subject", b"time", b"text", b"data"]
    assert fields[b"type"] == b"flyball.command.requested"
    assert fields[b"id"].decode() == command.id
    assert command.id.startswith("command-")


def test_requests_do_not_pile_up(flyball: Flyball, supervisor: Supervisor) -> None:
    """Nodes of a stream hold a hundred entries, so "about a thousand" is a bit more."""
    key = commands_key(HOST)
    with supervisor.client.pipeline() as pipe:
        for _ in range(3000):
            pipe.xadd(key, {"old": "1"})
        pipe.execute()
    supervisor.client.config_set("stream-node-max-entries", 100)
    flyball.run("pause", "gpu0")
    assert 1000 <= supervisor.client.xlen(key) < 1200


def test_the_answer_as_json(flyball: Flyball, supervisor: Supervisor) -> None:
    with answering(supervisor, outcome(supervisor)) as taken:
        document = flyball.json("pause", "gpu0")
    assert (document["type"], document["data"]["outcome"]) == ("flyball.override.changed", "started")
    assert document["data"]["cause"] == taken[0].id


def test_a_refusal_exits_1_with_its_reason(flyball: Flyball, supervisor: Supervisor) -> None:
    with answering(supervisor, outcome(supervisor, "refused")):
        shown = flyball.run("resume", "gpu0", "--force")
    assert (shown.returncode, shown.stdout, shown.stderr) == (1, "", "flyball: Sentence 4.\n")


def test_no_answer_exits_3_and_says_what_that_means(flyball: Flyball) -> None:
    shown = flyball.run("pause", "gpu0")
    assert (shown.returncode, shown.stdout) == (3, "")
    assert "did not answer within 5 s" in shown.stderr
    assert "may still obey until the request expires" in shown.stderr
    assert "flyball status" in shown.stderr


def test_what_has_no_bus_is_not_sent(alone: Flyball) -> None:
    shown = alone.run("pause", "gpu0")
    assert shown.returncode == 1
    assert "nothing answers on the bus" in shown.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pause", "gpu"], "'gpu' is not a target; targets are gpu0, gpu1 …, host and workload.NAME."),
        (["pause", "gpu0\n"], "is not a target"),
        (["pause"], "Missing argument 'TARGET'"),
        (["pause", "gpu0", "--for", "soon"], "'soon' is not a duration; write it as 90s, 10m or 1h30m."),
        (["pause", "gpu0", "--for", "0s"], "'0s' is not a duration"),
        (["pause", "gpu0", "--for", "10"], "'10' is not a duration"),
        (["pause", "gpu0", "--for", "25h"], "'25h' is too long; the longest is 24h."),
        (["throttle", "gpu0", "--speed", "50"], "'50' is not a share of full speed; write it as a number from 0 to 1."),
        (["throttle", "gpu0", "--speed", "nan"], "'nan' is not a share"),
    ],
)
def test_a_word_that_makes_no_sense_is_explained(alone: Flyball, words: list[str], message: str) -> None:
    shown = alone.run(*words)
    assert (shown.returncode, shown.stdout) == (2, "")
    assert message in shown.stderr
