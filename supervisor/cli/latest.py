"""The latest state of a host as its supervisor reported it, and how far that may still be believed."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, get_origin

import msgspec
from msgspec import Struct
from msgspec.structs import fields

from schemas.status import SCHEMA_VERSION, Status
from supervisor.bus.keys import status_key
from supervisor.cli.connection import connected
from supervisor.config import Config
from supervisor.demo import is_held
from supervisor.errors import BusLost
from supervisor.identity import host_name
from supervisor.paths import state_directory

#: The supervisor rewrites `status.json` every few seconds; this is also how long its lease outlives its last word.
STALE_AFTER_S: Final = 15.0


class Latest(Struct, frozen=True, kw_only=True):
    """What is known of `host`.

    known: reported just now · stale: an old report, so the present is unknown · unknown: nothing to show. `trouble` is
    a sentence on why it is not known, or on why the report did not come over the bus.
    """

    host: str
    state: Literal["known", "stale", "unknown"]
    source: Literal["bus", "file", "none"]
    status: Status | None = None
    age_s: float | None = None
    trouble: str = ""
    document: dict[str, Any] = {}

    def json(self) -> dict[str, Any]:
        """The report as it was written, unknown fields included, with `state`, `source` and `age_s`.

        Without a report it has the same keys, each null or empty.
        """
        age_s = None if self.age_s is None else round(self.age_s, 3)
        head = _nothing(Status) | {"schema_version": SCHEMA_VERSION, "state": self.state, "host": self.host}
        trouble = {"trouble": self.trouble} if self.trouble else {}
        return head | self.document | {"state": self.state, "source": self.source, "age_s": age_s} | trouble


def _nothing(kind: type[Struct]) -> dict[str, Any]:
    """The keys of a `kind` that nothing is known of: lists empty, the rest null, in nested objects likewise."""
    document: dict[str, Any] = {}
    for one in fields(kind):
        if isinstance(one.type, type) and issubclass(one.type, Struct):
            document[one.encode_name] = _nothing(one.type)
        else:
            document[one.encode_name] = [] if get_origin(one.type) is tuple else None
    return document


def latest(config: Config, environ: Mapping[str, str]) -> Latest:
    """Ask the bus; where it is away or knows nothing, read the state directory's `status.json`.

    :raises BusRefused: the bus is there and does not want us. :raises ConfigurationError: it cannot be asked.
    """
    host = host_name(config.host.name)
    try:
        with connected(config.bus, environ) as connection:
            content = connection.ask("GET", status_key(host, config.bus.shard))
    except BusLost as error:
        content, trouble = None, str(error)
    else:
        trouble = ""
    if content is not None:
        return _read(host, content, "bus", trouble)
    return _from_file(host, state_directory(environ) / "status.json", trouble)


def _from_file(host: str, path: Path, trouble: str) -> Latest:
    try:
        content = path.read_bytes()
    except OSError:
        return _unknown(host, "no supervisor has reported for this host, as far as this machine knows", trouble)
    found = _read(host, content, "file", trouble)
    if found.status is None:
        return found
    if found.status.host != host:
        own = found.status.host
        return _unknown(host, f"no supervisor has reported for {host}; this machine's own is called {own}", trouble)
    has_ended = (path.parent / "lock").exists() and is_held(path.parent) is False
    if found.age_s is None or found.age_s > STALE_AFTER_S or has_ended:
        since = f"no supervisor has reported for this host since {found.status.time}"
        return msgspec.structs.replace(found, state="stale", trouble=_joined(since, trouble))
    return found


def _unknown(host: str, why: str, trouble: str) -> Latest:
    return Latest(host=host, state="unknown", source="none", trouble=_joined(why, trouble))


def _joined(*sentences: str) -> str:
    return "; ".join(sentence for sentence in sentences if sentence)


def _read(host: str, content: bytes, source: Literal["bus", "file"], trouble: str) -> Latest:
    try:
        status = msgspec.json.decode(content, type=Status)
        document = msgspec.json.decode(content, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        unreadable = f"the report of {host} cannot be read: {error}"
        return Latest(host=host, state="unknown", source=source, trouble=unreadable)
    return Latest(
        host=host, state="known", source=source, status=status, age_s=_age_s(status.time), trouble=trouble,
        document=document,
    )  # fmt: skip


def _age_s(time: str) -> float | None:
    """Seconds since `time`; None where it cannot be read. Clocks of two machines differ, so it is never below 0."""
    try:
        return max((datetime.now(UTC) - datetime.fromisoformat(time)).total_seconds(), 0.0)
    except (ValueError, TypeError):  # TypeError: a time without its zone
        return None
