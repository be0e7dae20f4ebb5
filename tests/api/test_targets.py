"""An operator's word through the API: carried over the bus, and answered with what came of it."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import redis.asyncio

from schemas.command import Command
from schemas.envelope import Event, event_from_entry
from schemas.event import OverrideChanged
from supervisor.api import targets
from supervisor.bus.connection import Connection
from supervisor.bus.keys import commands_key, events_key
from supervisor.clock import SystemClock
from supervisor.route import Answered, Asked, Refusal
from supervisor.runtime import commands
from supervisor.runtime.commands import Commands, Reply
from tests.busservers import BusServer, one_bus_server

__all__ = ["one_bus_server"]


def outcome(command: Command, what: Any = "started", **changes: Any) -> Event:
    changed = OverrideChanged(
        target=command.target, outcome=what, action="throttle", speed=0.5, operator=command.issuer, reason="because",
        cause=changes.get("cause", command.id),
    )  # fmt: skip
    return Event("e1", "flyball.override.changed", "box/operator", command.target, command.time, "It is so.",
                 msgspec.json.encode(changed))  # fmt: skip


class Host:
    """Who answers commands on the bus, as the test says."""

    def __init__(self, server: BusServer) -> None:
        self._bus: Any = redis.asyncio.Redis(unix_socket_path=str(server.path))
        self.heard: list[Command] = []

    async def answer(self, events: Callable[[Command], list[Event]]) -> None:
        """Wait for a command, and say that."""
        reply = await self._bus.xread({commands_key("box"): "0"}, block=5_000)
        command = event_from_entry(reply[0][1][0][1]).decode(Command)
        self.heard.append(command)
        for event in events(command):
            fields = event.fields()
            await self._bus.xadd(events_key(), dict(zip(fields[::2], fields[1::2], strict=True)))

    async def close(self) -> None:
        await self._bus.aclose()


def sender(server: BusServer) -> Commands:
    return Commands(lambda: Connection(server.url, timeout_s=1.0), "box", 0, SystemClock())


async def test_the_answer_is_that_of_our_request(one_bus_server: BusServer) -> None:
    host = Host(one_bus_server)
    await host._bus.xadd(events_key(), {"what": "is no event"})
    said = asyncio.create_task(
        host.answer(lambda command: [outcome(command, cause="another"), outcome(command)]), name="host"
    )
    reply = await sender(one_bus_server).ask("throttle", "gpu0", {"speed": 0.5, "for_s": 60.0, "force": False}, "api x")
    await said
    await host.close()
    (command,) = host.heard
    assert reply.answer is not None
    assert (reply.command, reply.answer[1].cause) == (command.id, command.id)
    assert (command.host, command.issuer, command.action, command.target) == ("box", "api x", "throttle", "gpu0")
    assert command.arguments == {"speed": 0.5, "for_s": 60, "force": False, "operator": "api x"}


async def test_who_gets_no_answer_is_told_so(one_bus_server: BusServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "WITHIN_S", 0.2)
    reply = await sender(one_bus_server).ask("pause", "gpu0", {"for_s": 1.0}, "api x")
    assert reply.answer is None


async def test_while_the_bus_is_away_nothing_is_asked(one_bus_server: BusServer) -> None:
    one_bus_server.kill()
    with pytest.raises(Refusal) as raised:
        await sender(one_bus_server).ask("pause", "gpu0", {}, "api x")
    assert raised.value.status == 503
    assert "is away" in raised.value.detail
    assert "look before" not in raised.value.detail


async def test_a_bus_that_falls_silent_leaves_it_open(
    one_bus_server: BusServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request may have arrived, so nobody says that it has not."""
    wait = asyncio.Event()

    class Slow(Connection):
        async def ask(self, *command: bytes | str | int | float, wait_s: float = 0.0) -> Any:
            if command[0] == "XADD":
                one_bus_server.kill()
                wait.set()
            return await super().ask(*command, wait_s=wait_s)

    with pytest.raises(Refusal) as raised:
        await Commands(lambda: Slow(one_bus_server.url, timeout_s=1.0), "box", 0, SystemClock()).ask(
            "pause", "gpu0", {}, "api x"
        )
    assert wait.is_set()
    assert (raised.value.status, "look before you ask again" in raised.value.detail) == (503, True)


async def test_there_are_only_so_many_requests_at_once(
    one_bus_server: BusServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others wait their turn, and are refused before long: each has a connection to the bus."""
    monkeypatch.setattr(commands, "WITHIN_S", 0.3)
    asking = sender(one_bus_server)
    answers = await asyncio.gather(
        *(asking.ask("pause", "gpu0", {}, f"api {number}") for number in range(60)), return_exceptions=True
    )
    refused = [answer for answer in answers if isinstance(answer, Refusal)]
    assert refused
    assert {refusal.status for refusal in refused} == {503}
    assert sum(isinstance(answer, Reply) for answer in answers) >= 16


# -- the routes ----------------------------------------------------------------------------------------------------


async def call(action: str, body: Any, reply: Any = None) -> tuple[Any, dict[str, Any]]:
    """The answer of the route, and the arguments that were sent."""
    sent: dict[str, Any] = {}

    async def ask(action: str, target: str, arguments: Any, operator: str) -> Reply:
        told = {name: value for name, value in arguments.items() if value != ""}
        sent.update(told, action=action, target=target, operator=operator)
        return Reply("c1", reply)

    (route,) = [one for one in targets.routes(ask) if one.path.endswith(action)]
    asked = Asked(path=targets.TargetPath("gpu0"), body=body, who="api 10.0.0.1")
    return await route.call(asked), sent


COMMAND = Command(id="c1", time="2026-11-21T12:00:00Z", ttl_s=30, host="box", issuer="x", action="pause", target="gpu0")


def answered(what: str) -> tuple[Event, OverrideChanged]:
    event = outcome(COMMAND, what)
    return event, event.decode(OverrideChanged)


async def test_what_became_of_it_is_the_answer() -> None:
    done, sent = await call("throttle", targets.Throttle(speed=0.3), answered("started"))
    assert (done.text, done.event_id, done.command, done.event.outcome) == ("It is so.", "e1", "c1", "started")
    assert sent == {
        "action": "throttle", "target": "gpu0", "operator": "api 10.0.0.1", "speed": 0.3, "for_s": 600.0,
        "force": False,
    }  # fmt: skip


async def test_a_refusal_is_409_with_its_sentence() -> None:
    with pytest.raises(Refusal) as raised:
        await call("pause", targets.Pause(), answered("refused"))
    assert (raised.value.status, raised.value.detail) == (409, "It is so.")
    assert raised.value.members["event"].outcome == "refused"


async def test_no_answer_is_202_with_what_to_look_for() -> None:
    done, _ = await call("pause", targets.Pause())
    assert isinstance(done, Answered)
    assert (done.status, done.body.command) == (202, "c1")


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        (targets.Resume(), {"force": False}),
        (targets.Resume(reason="done"), {"force": False, "reason": "done"}),
        (targets.Resume(for_s=5), {"force": False, "for_s": 5, "speed": 1.0}),
        (targets.Resume(speed=0.0), {"force": False, "for_s": 600.0, "speed": 0.0}),
        (targets.Resume(force=True), {"force": True, "for_s": 600.0, "speed": 1.0}),
    ],
)
async def test_to_resume_ends_an_override_or_lifts_what_others_demand(
    body: targets.Resume, sent: dict[str, Any]
) -> None:
    """As `flyball resume` has it."""
    _, found = await call("resume", body, answered("ended"))
    assert {name: found[name] for name in found if name not in ("action", "target", "operator")} == sent
    assert found["action"] == "resume"


async def test_to_pause_is_speed_0() -> None:
    _, sent = await call("pause", targets.Pause(for_s=5), answered("started"))
    assert (sent["speed"], sent["for_s"], sent["force"]) == (0.0, 5, False)
