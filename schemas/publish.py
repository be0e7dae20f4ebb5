"""The published form of the wire: JSON Schema 2020-12 for each type, AsyncAPI 3.0, and the SDK's copy of its messages.

Pure: `documents` says what each file should hold; `flyball schemas --write` writes them, and a test compares.
"""

import inspect
import json
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from schemas.demand import Demand
from schemas.event import EVENT_TYPES, WIRE_TYPES
from schemas.status import Status
from schemas.workload import (
    ENTRY_FIELDS,
    INBOX_TYPES,
    NAME_PATTERN,
    TARGET_PATTERN,
    Ask,
    Directive,
    LedgerAnswer,
    Reservation,
)

#: The root of the repository, to which the paths below are relative.
ROOT: Final = Path(__file__).parent.parent
PUBLISHED: Final = "schemas/published"
WIRE: Final = "sdk/flyball/wire.py"

#: What is not the data of a stream entry: on channels, in hashes and in strings.
RETAINED_TYPES: Final[dict[str, type[Struct]]] = {
    "flyball.directive": Directive,
    "flyball.demand": Demand,
    "flyball.status": Status,
    "flyball.reservation": Reservation,
    "flyball.memory.answer": LedgerAnswer,
    "flyball.ask": Ask,
}
#: Every type that has a schema of its own.
TYPES: Final[dict[str, type[Struct]]] = {**WIRE_TYPES, **RETAINED_TYPES}
ENTRY: Final = "flyball.entry"

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_FORMAT: Final = "application/schema+json;version=draft-2020-12"


def documents(workload_source: str) -> dict[str, str]:
    """The text of every generated file, by its path from the root of the repository.

    `workload_source` is the text of `schemas/workload.py`, of which the SDK gets a copy.
    """
    published = {name: json_schema(name) for name in TYPES} | {ENTRY: entry_schema(), "asyncapi": asyncapi()}
    files = {f"{PUBLISHED}/{name}.json": _text(document) for name, document in published.items()}
    return files | {WIRE: wire(workload_source)}


def wire(workload_source: str) -> str:
    """The SDK's copy of the messages that cross to workloads."""
    return f"# Generated from schemas/workload.py by `flyball schemas --write`; edit that file.\n{workload_source}"


def json_schema(name: str) -> dict[str, Any]:
    """The schema of one type's JSON.

    It accepts what we accept, but for three things that JSON Schema cannot say: an integer is written without fraction
    or exponent (not `1.0`), a number fits a double, and a string holds no half of a surrogate pair.
    """
    kind = TYPES[name]
    (_,), components = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    own = _clean(components.pop(kind.__name__))
    document = {"$schema": _DIALECT, "$id": f"urn:flyball:schema:{name}", **own}
    if components:
        document["$defs"] = {title: _clean(component) for title, component in sorted(components.items())}
    return document


def entry_schema() -> dict[str, Any]:
    """The schema of a stream entry as a JSON object; `data` is JSON in a string, as the stream has it."""
    texts: dict[str, Any] = {name: {"type": "string"} for name in ENTRY_FIELDS}
    for name in ("id", "type"):
        texts[name]["minLength"] = 1
    texts["time"]["description"] = "RFC 3339 in UTC"
    texts["text"]["description"] = "one plain sentence for people"
    texts["data"]["contentMediaType"] = "application/json"
    return {
        "$schema": _DIALECT,
        "$id": f"urn:flyball:schema:{ENTRY}",
        "title": "Entry",
        "description": "The fields of every stream entry, in this order; readers ignore fields that they do not know.",
        "type": "object",
        "properties": texts,
        "required": list(ENTRY_FIELDS),
    }


def asyncapi() -> dict[str, Any]:
    """Every stream and channel, what it carries, and who speaks there, as AsyncAPI 3.0."""
    streams = {
        "samples": ("flyball:samples:{shard}", "One entry a host and tick.", ["flyball.host.sampled"]),
        "events": ("flyball:events:{shard}", "Everything decided or noticed.", list(EVENT_TYPES)),
        "inbox": ("flyball:inbox:{shard}", "What workloads say.", list(INBOX_TYPES)),
        "commands": ("flyball:commands:{shard}:{host}", "Requests to act on that host.", ["flyball.command.requested"]),
        "dead": ("flyball:dead:{shard}", "What a handler could not process, with the error.", [ENTRY]),
    }
    topics = {
        "throttle": (
            "flyball:throttle:{host}:{target}",
            "Every change of a directive, and the same one again every 10 s.",
            ["flyball.directive"],
        ),
        "pause": (
            "flyball:pause:{host}:{target}",
            "Only the changes into and out of pause.",
            ["flyball.directive"],
        ),
        "memory": (
            "flyball:memory:{host}",
            "What became of every request for memory, and of reservations that ended by themselves.",
            ["flyball.memory.answer"],
        ),
        "ask": (
            "flyball:ask:{host}:{target}",
            "What the processes of a workload are asked for, once; `target` is `workload.<name>`.",
            ["flyball.ask"],
        ),
    }
    channels = {name: _channel(*row, kind="stream") for name, row in streams.items()}
    channels |= {name: _channel(*row, kind="pubsub") for name, row in topics.items()}
    operations = {
        f"{action}-{name}": {
            "action": action,
            "channel": {"$ref": f"#/channels/{name}"},
            "summary": f"The supervisor {verb} {name}.",
        }
        for action, verb, names in (
            ("send", "writes to", ("samples", "events", "commands", "dead", "throttle", "pause", "memory", "ask")),
            ("receive", "reads from", ("samples", "events", "inbox", "commands")),
        )
        for name in names
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Flyball's wire",
            "version": "1.0.0",
            "description": "Streams and channels in Redis or Valkey, seen from the supervisor.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": {
                name: _message(name)
                for name in [*WIRE_TYPES, "flyball.directive", "flyball.memory.answer", "flyball.ask", ENTRY]
            },
            "parameters": {
                "shard": {
                    "description": "A slice of the fleet with its braces (a hash tag); a small team has only `{0}`.",
                    "default": "{0}",
                },
                "host": {"description": f"The host's name on the bus, {NAME_PATTERN}"},
                "target": {"description": f"`gpu0`…, `host` or `workload.<name>`, {TARGET_PATTERN}"},
            },
        },
    }


def _channel(address: str, description: str, types: list[str], *, kind: str) -> dict[str, Any]:
    """A channel; `x-redis-kind` tells a stream (XADD) from a channel (PUBLISH), for AsyncAPI's binding is empty."""
    return {
        "address": address,
        "description": description,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in types},
        "parameters": {
            name: {"$ref": f"#/components/parameters/{name}"}
            for name in ("shard", "host", "target")
            if f"{{{name}}}" in address
        },
        "x-redis-kind": kind,
    }


def _message(name: str) -> dict[str, Any]:
    """A message: in a stream the payload is the field `data`, and the other fields are its headers."""
    if name == ENTRY:
        return {
            "name": name,
            "summary": "The entry as it was, with further fields that say which handler failed and why.",
            "payload": {"schemaFormat": _FORMAT, "schema": {"$ref": f"./{ENTRY}.json"}},
        }
    message: dict[str, Any] = {
        "name": name,
        "title": TYPES[name].__name__,
        "summary": _summary(TYPES[name]),
        "payload": {"schemaFormat": _FORMAT, "schema": {"$ref": f"./{name}.json"}},
    }
    if name in WIRE_TYPES:
        headers = [field for field in ENTRY_FIELDS if field != "data"]
        message["headers"] = {
            "type": "object",
            "properties": {field: {"type": "string"} for field in headers} | {"type": {"const": name}},
            "required": headers,
        }
    return message


def _summary(kind: type[Struct]) -> str:
    """The first sentence of its docstring."""
    return inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0].replace("\n", " ")


def _clean(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema whose description is not indented as the source is."""
    if "description" in schema:
        return schema | {"description": inspect.cleandoc(schema["description"])}
    return schema


def _text(document: dict[str, Any]) -> str:
    """A document as it stands in its file."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
