"""An operator's request to slow a target down or let it run: sent to the host, and answered by an event."""

import getpass
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from time import monotonic, time
from typing import Any, Final, Literal

import click
import msgspec

from schemas.command import Command
from schemas.envelope import Event
from schemas.event import OverrideChanged
from supervisor.bus.keys import commands_key, events_key
from supervisor.cli.connection import Connection, connected
from supervisor.cli.options import supervision
from supervisor.clock import rfc3339
from supervisor.config import Config
from supervisor.errors import FlyballError
from supervisor.identity import host_name
from supervisor.request import KEPT, TTL_S, envelope, outcome, requested

#: Long enough for a supervisor that has just fallen behind.
ANSWER_WITHIN_S: Final = 5.0
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
    command = requested(action, target, arguments, host=host, operator=operator, time=rfc3339(time()))
    with connected(config.bus, environ) as connection:
        before = _end(connection, events_key(config.bus.shard))
        key = commands_key(host, config.bus.shard)
        connection.ask("XADD", key, "MAXLEN", "~", KEPT, "*", *envelope(command, "cli").fields())
        answer, changed = _answer(connection, config, before, command)
    if as_json:
        entry = {**msgspec.structs.asdict(answer), "data": msgspec.json.decode(answer.data)}
        click.echo(msgspec.json.encode(entry))
    elif changed.outcome == "refused":
        click.echo(f"flyball: {answer.text}", err=True)
    else:
        click.echo(answer.text)
    return 1 if changed.outcome == "refused" else 0


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
            if found := outcome(fields, command):
                return found
    raise NoAnswer(
        f"the supervisor of {command.host} did not answer within {ANSWER_WITHIN_S:g} s",
        why=f"it does not run, or has fallen behind; it may still obey until the request expires, "
        f"{TTL_S:g} s after {command.time}",
        hint="Look with `flyball status` before you ask again",
    )


def _operator() -> str:
    """Who asks, as user@host."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # KeyError before Python 3.13: this uid has no name
        user = f"uid-{os.getuid()}"
    return f"{user}@{socket.gethostname()}"[:128]
