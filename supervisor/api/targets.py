"""`/api/targets/{target}/throttle`, `pause` and `resume`: an operator's word, as `flyball throttle` gives it."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, Final, Protocol

import msgspec
from msgspec import Meta, Struct

from schemas.envelope import Event
from schemas.event import OverrideChanged
from schemas.workload import Speed, Target
from supervisor.route import Answered, Asked, Example, Refusal, Route

_LONGEST_S: Final = 86_400
_USUAL_S: Final = 600.0
Lasting = Annotated[float, Meta(gt=0, le=_LONGEST_S, description="how long, in seconds; it ends by itself")]
Reason = Annotated[str, Meta(max_length=200, description="why, for whoever wonders")]
Forced = Annotated[bool, Meta(description="also where safety speaks against it; this is recorded")]


class TargetPath(Struct, frozen=True, forbid_unknown_fields=True):
    """Which target is meant."""

    target: Target


class Throttle(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Slow a target down to `speed`."""

    speed: Speed = 0.5
    for_s: Lasting = _USUAL_S
    force: Forced = False
    reason: Reason = ""


class Pause(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Pause a target."""

    for_s: Lasting = _USUAL_S
    force: Forced = False
    reason: Reason = ""


class Resume(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """End the override that stands; with any of these also lift, for a while, what others demand."""

    speed: Speed | None = None
    for_s: Lasting | None = None
    force: Forced = False
    reason: Reason = ""


class Outcome(Struct, frozen=True, kw_only=True):
    """What became of a request, and the event that says so to everybody."""

    command: str
    text: str
    event_id: str
    event: OverrideChanged


class Pending(Struct, frozen=True, kw_only=True):
    """The request is on its way; its outcome will be a `flyball.override.changed` with `command` as its cause."""

    command: str
    text: str


class Reply(Protocol):
    """What came of a request; `answer` is None where nothing came in time."""

    @property
    def command(self) -> str:
        """The request's id."""
        ...

    @property
    def answer(self) -> tuple[Event, OverrideChanged] | None:
        """The event and its data."""
        ...


Ask = Callable[[str, str, Mapping[str, Any], str], Awaitable[Reply]]


def routes(ask: Ask) -> list[Route]:
    """`ask` sends action, target, arguments and operator to our host; it raises `Refusal` where it cannot."""

    def act(action: str) -> Callable[[Asked], Awaitable[Outcome | Answered]]:
        async def call(asked: Asked) -> Outcome | Answered:
            target = asked.path.target
            reply = await ask(action, target, _arguments(action, asked.body), asked.who)
            if reply.answer is None:
                text = f"nobody has answered the request to {action} {target} yet; look for what became of it"
                return Answered(body=Pending(command=reply.command, text=text), status=202)
            event, changed = reply.answer
            if changed.outcome == "refused":
                raise Refusal(409, event.text, {"event": changed})
            return Outcome(command=reply.command, text=event.text, event_id=event.id, event=changed)

        return call

    def route(action: str, summary: str, body: type[Struct], example: Struct) -> Route:
        return Route(
            method="POST", path=f"/api/targets/{{target}}/{action}", summary=summary, path_kind=TargetPath, body=body,
            answer=Outcome, further={202: Pending}, call=act(action),
            problems={409: "The request was refused, and why.", 503: "The bus is away."},
            example=Example(path=TargetPath("gpu0"), body=example),
        )  # fmt: skip

    return [
        route("throttle", "Slows a target down for a while.", Throttle, Throttle(speed=0.7, for_s=300)),
        route("pause", "Pauses a target for a while.", Pause, Pause(for_s=60, reason="a test")),
        route("resume", "Lets a target run again.", Resume, Resume()),
    ]


def _arguments(action: str, body: Struct) -> dict[str, Any]:
    """What `flyball throttle`, `pause` and `resume` say."""
    values = {name: value for name, value in msgspec.structs.asdict(body).items() if value is not None}
    if action == "pause":
        return {**values, "speed": 0.0}
    if action == "resume" and (values["force"] or values.keys() & {"speed", "for_s"}):
        return {"speed": 1.0, "for_s": _USUAL_S, **values}
    return values
