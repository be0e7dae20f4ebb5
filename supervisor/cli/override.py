"""An operator's request to slow a target down or let it run: sent to the host, and answered by an event."""

import getpass
import os
import socket
import uuid
from collections.abc import Mapping
from pathlib import Path
from time import monotonic, time
from typing import Any, Final, Literal

import click
import msgspec

from schemas.command import Command
from schemas.envelope import Event, MalformedEntry, event_from_entry
from schemas.event import OverrideChanged
from supervisor.bus.keys import commands_key, events_key
from supervisor.cli.connection import Connection, connected
from supervisor.cli.options import supervision
from supervisor.clock import rfc3339
from supervisor.config import Config
from supervisor.errors import FlyballError
from supervisor.identity import host_name

#: Long enough for a supervisor that has just fallen behind; also the life of the request itself is bounded.
ANSWER_WITHIN_S: Final = 5.0
REQUEST_TTL_S: Final = 30.0
#: About how many requests their stream keeps; as the supervisor trims it.
COMMANDS_KEPT: Final = 1_000
ANSWER: Final = "flyball.override.changed"
Action = Literal["throttle", "pause", "resume"]


class NoAnswer(FlyballError):
    """The supervisor did not answer in time: what becomes of the request is unknown."""

    exit_code = 3


def request(
    action: Action,
    target: str,
    arguments: Mapping[str, Any],
    *,
    as_json: bool,
    config_file: Path | None,
    flags: Mapping[str, Any],
) -> int:
    """Send the request, wait for its outcome and print it; the exit code: 0 done, 1 refused.

    :raises NoAnswer: nothing came within `ANSWER_WITHIN_S`.
    """
    config, environ = supervision(config_file, flags)
    host, operator = host_name(config.host.name), _operator()
    command = Command(
        id=f"command-{uuid.uuid4().hex}",
        time=rfc3339(time()),
        ttl_s=REQUEST_TTL_S,
        host=host,
        issuer=operator,
        action=action,
        target=target,
        arguments={**arguments, "operator": operator},
    )
    with connected(config.bus, environ) as connection:
        before = _end(connection, events_key(config.bus.shard))
        key = commands_key(host, config.bus.shard)
        connection.ask("XADD", key, "MAXLEN", "~", COMMANDS_KEPT, "*", *_envelope(command).fields())
        answer, outcome = _answer(connection, config, before, command)
    if as_json:
        entry = {**msgspec.structs.asdict(answer), "data": msgspec.json.decode(answer.data)}
        click.echo(msgspec.json.encode(entry))
    elif outcome.outcome == "refused":
        click.echo(f"flyball: {answer.text}", err=True)
    else:
        click.echo(answer.text)
    return 1 if outcome.outcome == "refused" else 0


def _envelope(command: Command) -> Event:
    for_s = command.arguments.get("for_s")
    while_ = f" for {for_s:g} s" if for_s else ""
    speed = f" to {command.arguments['speed']:.0%}" if command.action == "throttle" else ""
    return Event(
        id=command.id,
        type="flyball.command.requested",
        source=f"flyball/{command.host}/cli",
        subject=command.target,
        time=command.time,
        text=f"{command.issuer} asks to {command.action} {command.target}{speed}{while_}.",
        data=msgspec.json.encode(command),
    )


def _end(connection: Connection, key: str) -> bytes:
    newest = connection.ask("XREVRANGE", key, "+", "-", "COUNT", 1)
    position: bytes = newest[0][0] if newest else b"0-0"
    return position


def _answer(connection: Connection, config: Config, position: bytes, command: Command) -> tuple[Event, OverrideChanged]:
    key, deadline = events_key(config.bus.shard), monotonic() + ANSWER_WITHIN_S
    while (left := deadline - monotonic()) > 0:
        block_ms = max(int(left * 1000), 1)
        reply = connection.ask("XREAD", "COUNT", 100, "BLOCK", block_ms, "STREAMS", key, position, wait_s=left)
        for entry, fields in reply[0][1] if reply else ():
            position = entry
            if found := _outcome(fields, command):
                return found
    raise NoAnswer(
        f"the supervisor of {command.host} did not answer within {ANSWER_WITHIN_S:g} s",
        why=f"it does not run, or has fallen behind; it may still obey until the request expires, "
        f"{REQUEST_TTL_S:g} s after {command.time}",
        hint="Look with `flyball status` before you ask again",
    )


def _outcome(fields: list[bytes], command: Command) -> tuple[Event, OverrideChanged] | None:
    """The event and its data if this is the answer to our command."""
    try:
        event = event_from_entry(fields)
        if event.type != ANSWER:
            return None
        changed: OverrideChanged = event.decode(OverrideChanged)
    except MalformedEntry:
        return None  # someone else's; those who handle events report it
    return (event, changed) if changed.cause == command.id else None


def _operator() -> str:
    """Who asks, as user@host."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # KeyError before Python 3.13: this uid has no name
        user = f"uid-{os.getuid()}"
    return f"{user}@{socket.gethostname()}"[:128]
