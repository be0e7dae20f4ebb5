"""The published documents are those that the Structs give, and are what they claim to be."""

import json
from typing import Any

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from schemas.event import EVENT_TYPES, WIRE_TYPES
from schemas.publish import PUBLISHED, ROOT, TYPES, WIRE, documents
from schemas.workload import ask_channel, memory_channel
from supervisor.bus import keys
from supervisor.cli.schemas import command, generated

DOCUMENTS = documents((ROOT / "schemas" / "workload.py").read_text())
SCHEMAS = [path for path in DOCUMENTS if path.endswith(".json") and not path.endswith("asyncapi.json")]


def read(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((ROOT / PUBLISHED / f"{name}.json").read_text())
    return document


@pytest.mark.parametrize("path", DOCUMENTS)
def test_file_is_not_stale(path: str) -> None:
    assert (ROOT / path).read_text() == DOCUMENTS[path], f"{path} is stale: ./flyball schemas --write"


def test_nothing_else_is_published() -> None:
    """A type that is gone takes its file along; the OpenAPI document is the API's."""
    there = {f"{PUBLISHED}/{path.name}" for path in (ROOT / PUBLISHED).iterdir() if path.name != "openapi.json"}
    assert there == set(DOCUMENTS) - {WIRE}


@pytest.mark.parametrize("path", SCHEMAS)
def test_is_a_json_schema(path: str) -> None:
    document = json.loads(DOCUMENTS[path])
    Draft202012Validator.check_schema(document)
    assert document["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
    assert document["$id"] == f"urn:flyball:schema:{path.rpartition('/')[2].removesuffix('.json')}"
    for reference in references(document):
        assert resolve(document, reference), reference


def test_asyncapi_has_its_parts() -> None:
    document = read("asyncapi")
    assert document["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= document["info"].keys()
    for channel in document["channels"].values():
        assert channel["messages"]
        named = {part.partition("}")[0] for part in channel["address"].split("{")[1:]}
        assert named == channel["parameters"].keys()
    for operation in document["operations"].values():
        assert operation["action"] in ("send", "receive")
        assert operation["channel"]["$ref"].removeprefix("#/channels/") in document["channels"]


def test_asyncapi_references_lead_somewhere() -> None:
    document = read("asyncapi")
    found = references(document)
    assert found
    for reference in found:
        if reference.startswith("./"):
            assert (ROOT / PUBLISHED / reference).is_file(), reference
        else:
            assert resolve(document, reference), reference


def test_asyncapi_knows_every_type_once() -> None:
    channels = read("asyncapi")["channels"]
    carried = [name for key in ("samples", "events", "inbox", "commands") for name in channels[key]["messages"]]
    assert sorted(carried) == sorted(WIRE_TYPES)
    assert channels["events"]["messages"].keys() == EVENT_TYPES.keys()


def test_asyncapi_addresses_are_the_keys_in_use() -> None:
    channels = read("asyncapi")["channels"]
    addresses = {
        name: channel["address"].replace("{shard}", "{0}").replace("{host}", "box").replace("{target}", "gpu0")
        for name, channel in channels.items()
    }
    assert addresses == {
        "samples": keys.samples_key(),
        "events": keys.events_key(),
        "inbox": keys.inbox_key(),
        "commands": keys.commands_key("box"),
        "dead": keys.dead_key(),
        "throttle": keys.throttle_channel("box", "gpu0"),
        "pause": keys.pause_channel("box", "gpu0"),
        "memory": memory_channel("box"),
        "ask": ask_channel("box", "trainer").replace("workload.trainer", "gpu0"),
    }


def test_check_names_what_is_stale(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a checkout of its own: all files missing, then written, then one edited by hand."""
    (tmp_path / "schemas").mkdir()
    (tmp_path / "sdk" / "flyball").mkdir(parents=True)
    (tmp_path / "schemas" / "workload.py").write_text((ROOT / "schemas" / "workload.py").read_text())
    monkeypatch.setattr("supervisor.cli.schemas.ROOT", tmp_path)
    run = CliRunner(catch_exceptions=False).invoke

    missing = run(command, ["--check", "--json"], standalone_mode=False)
    assert missing.return_value == 1
    wanted = generated((ROOT / "schemas" / "workload.py").read_text())
    assert DOCUMENTS.keys() | {f"{PUBLISHED}/openapi.json", "docs/api.md"} == wanted.keys()
    assert json.loads(missing.output) == {"stale": list(wanted)}
    assert run(command, ["--write"], standalone_mode=False).return_value == 0
    assert {path: (tmp_path / path).read_text() for path in wanted} == wanted
    assert run(command, ["--check"], standalone_mode=False).return_value == 0
    (tmp_path / WIRE).write_text("")
    edited = run(command, ["--check"], standalone_mode=False)
    assert edited.return_value == 1
    assert WIRE in edited.output


def test_command_lists_every_type() -> None:
    run = CliRunner(catch_exceptions=False).invoke
    assert json.loads(run(command, ["--json"]).output).keys() == TYPES.keys()
    listed = [line.split()[0] for line in run(command, []).output.splitlines()[1:]]
    assert listed == list(TYPES)


def references(part: Any) -> list[str]:
    """Every `$ref` in a document."""
    if isinstance(part, dict):
        own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
        return own + [found for value in part.values() for found in references(value)]
    if isinstance(part, list):
        return [found for value in part for found in references(value)]
    return []


def resolve(document: Any, reference: str) -> Any:
    """What a local `$ref` points to."""
    assert reference.startswith("#/")
    for step in reference[2:].split("/"):
        document = document[step]
    return document
