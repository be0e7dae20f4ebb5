"""`flyball events`: what was decided or noticed, newest last, and what comes next with `--follow`."""

from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from time import sleep
from typing import Any, Final

import click
import msgspec

from schemas.envelope import Event, MalformedEntry, event_from_entry
from schemas.terminal import printable
from supervisor.bus.keys import events_key
from supervisor.cli.connection import Connection, connected
from supervisor.cli.options import as_json, configured, supervision
from supervisor.cli.output import painted
from supervisor.config import Config
from supervisor.errors import BusLost

#: Entries that are read at once; a page of some 100 kB.
_PAGE: Final = 500
#: How long the server holds a read open where nothing comes.
_BLOCK_S: Final = 5.0
_RETRY_S: Final = 1.0

Entry = tuple[bytes, list[bytes]]


@click.command(epilog="Example: flyball events --follow --type 'flyball.gpu.*'")
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("--count", "-n", type=click.IntRange(min=0), default=20, show_default=True, help="How many of the past.")
@click.option(
    "--type", "types", multiple=True, metavar="TYPE", help="Only this type; * stands for anything; may be given again."
)
@as_json
@configured
def command(
    follow: bool, count: int, types: tuple[str, ...], as_json: bool, config_file: Path | None, flags: Mapping[str, Any]
) -> None:
    """Show what was decided or noticed, newest last.

    With --json each event is one line: its fields, and the `entry` under which the stream holds it.
    """
    config, environ = supervision(config_file, flags)
    show = _as_line if as_json else _as_text
    with connected(config.bus, environ) as connection:
        position, past = _past(connection, events_key(config.bus.shard), count, types)
    for entry in past:
        _print(entry, show)
    if follow:
        _follow(config, environ, position, types, show)


def _past(connection: Connection, key: str, count: int, types: tuple[str, ...]) -> tuple[bytes, list[Entry]]:
    """Where the stream ends, and its newest `count` entries of these types, oldest first."""
    newest: list[Entry] = connection.ask("XREVRANGE", key, "+", "-", "COUNT", 1)
    position = before = newest[0][0] if newest else b"0-0"
    found: list[Entry] = []
    while len(found) < count:
        page: list[Entry] = connection.ask(
            "XREVRANGE", key, before, "-", "COUNT", _PAGE if types else min(count, _PAGE)
        )
        found += [entry for entry in page if _wanted(entry, types)]
        if not page:
            break
        before = b"(" + page[-1][0]
    return position, found[:count][::-1]


def _follow(
    config: Config,
    environ: Mapping[str, str],
    position: bytes,
    types: tuple[str, ...],
    show: Callable[[Entry, Event], str],
) -> None:
    """Print what comes after `position`, across the times when the bus is away."""
    away = False
    while True:
        try:
            with connected(config.bus, environ) as connection:
                away = False
                for entry in _coming(connection, events_key(config.bus.shard), position):
                    position = entry[0]
                    if _wanted(entry, types):
                        _print(entry, show)
        except BusLost as error:
            if not away:
                click.echo(f"flyball: {error}. Waiting for it", err=True)
            away = True
            sleep(_RETRY_S)


def _coming(connection: Connection, key: str, position: bytes) -> Iterator[Entry]:
    while True:
        block_ms = int(_BLOCK_S * 1000)
        reply = connection.ask("XREAD", "COUNT", _PAGE, "BLOCK", block_ms, "STREAMS", key, position, wait_s=_BLOCK_S)
        for entry in reply[0][1] if reply else ():
            position = entry[0]
            yield entry


def _wanted(entry: Entry, types: tuple[str, ...]) -> bool:
    if not types:
        return True
    fields = dict(zip(entry[1][::2], entry[1][1::2], strict=False))
    kind = fields.get(b"type", b"").decode(errors="replace")
    return any(fnmatchcase(kind, pattern) for pattern in types)


def _print(entry: Entry, show: Callable[[Entry, Event], str]) -> None:
    try:
        line = show(entry, event_from_entry(entry[1]))
    except (MalformedEntry, msgspec.DecodeError) as error:
        click.echo(f"flyball: entry {entry[0].decode()} is not an event: {printable(str(error))}", err=True)
        return
    click.echo(line)


def _as_text(entry: Entry, event: Event) -> str:
    return f"{painted(printable(event.time), 'dim')}  {printable(event.text or event.type)}"


def _as_line(entry: Entry, event: Event) -> str:
    document = {"entry": entry[0].decode(), **msgspec.structs.asdict(event), "data": msgspec.json.decode(event.data)}
    return msgspec.json.encode(document).decode()
