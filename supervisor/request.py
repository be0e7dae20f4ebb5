"""An operator's request as it travels: the command to a host, its envelope, and the event that answers it."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from schemas.command import Command
from schemas.envelope import Event, MalformedEntry, event_from_entry
from schemas.event import OverrideChanged

#: The life of a request: a supervisor that comes to it later does not obey.
TTL_S: Final = 30.0
#: About how many requests their stream keeps; as the supervisor trims it.
KEPT: Final = 1_000
_ANSWER: Final = "flyball.override.changed"


def requested(
    action: str, target: str, arguments: Mapping[str, Any], *, host: str, operator: str, time: str
) -> Command:
    """The command to throttle, pause or resume a target; `arguments` as `flyball throttle` has them, "" if not said."""
    return Command(
        id=f"command-{uuid.uuid4().hex}",
        time=time,
        ttl_s=TTL_S,
        host=host,
        issuer=operator,
        action=action,
        target=target,
        arguments={**{name: value for name, value in arguments.items() if value != ""}, "operator": operator},
    )


def envelope(command: Command, sender: str) -> Event:
    """The command as an entry of its stream; `sender` is the part of Flyball that asks."""
    for_s = command.arguments.get("for_s")
    while_ = f" for {for_s:g} s" if for_s else ""
    speed = f" to {command.arguments['speed']:.0%}" if command.action == "throttle" else ""
    return Event(
        id=command.id,
        type="flyball.command.requested",
        source=f"flyball/{command.host}/{sender}",
        subject=command.target,
        time=command.time,
        text=f"{command.issuer} asks to {command.action} {command.target}{speed}{while_}.",
        data=msgspec.json.encode(command),
    )


def outcome(fields: Sequence[bytes], command: Command) -> tuple[Event, OverrideChanged] | None:
    """The event in an entry and its data, if it is the answer to `command`."""
    try:
        event = event_from_entry(fields)
        if event.type != _ANSWER:
            return None
        changed: OverrideChanged = event.decode(OverrideChanged)
    except MalformedEntry:
        return None  # someone else's; those who handle events report it
    return (event, changed) if changed.cause == command.id else None
