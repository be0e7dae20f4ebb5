"""What the published schemas accept is what we accept: of documents made from a schema, and of mutated ones."""

import json
import os
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from schemas.publish import TYPES, json_schema
from tests.schemas.documents import conforming, json_values, mutated

EXAMPLES = int(os.environ.get("FLYBALL_FUZZ_EXAMPLES", "1000"))
PER_TYPE = max(EXAMPLES // len(TYPES), 10)

VALIDATORS = {name: Draft202012Validator(json_schema(name)) for name in TYPES}
fuzz = settings(
    max_examples=PER_TYPE, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def is_accepted(name: str, text: bytes) -> bool:
    """Whether our decoder takes it; anything but its own two errors fails the test."""
    try:
        msgspec.json.decode(text, type=TYPES[name])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True


@pytest.mark.parametrize("name", TYPES)
@fuzz
@given(data=st.data())
def test_conforming_documents_are_accepted(name: str, data: st.DataObject) -> None:
    schema = json_schema(name)
    document = data.draw(conforming(schema, schema.get("$defs", {})))
    assert VALIDATORS[name].is_valid(document), "the generator keeps to the schema"
    assert is_accepted(name, json.dumps(document).encode())


@pytest.mark.parametrize("name", TYPES)
@fuzz
@given(data=st.data())
def test_mutated_documents_are_accepted_by_both_or_neither(name: str, data: st.DataObject) -> None:
    schema = json_schema(name)
    document = data.draw(mutated(conforming(schema, schema.get("$defs", {}))))
    assert is_accepted(name, json.dumps(document).encode()) == VALIDATORS[name].is_valid(document)


@pytest.mark.parametrize("name", TYPES)
@fuzz
@given(document=json_values)
def test_anything_else_is_accepted_by_both_or_neither(name: str, document: Any) -> None:
    assert is_accepted(name, json.dumps(document).encode()) == VALIDATORS[name].is_valid(document)


@pytest.mark.parametrize(
    ("figure", "reason"),
    [
        ("1.0", "JSON Schema's integer may be written with a fraction"),
        ("1e1", "or with an exponent"),
        ("-0.0", "or as minus nought"),
    ],
)
def test_integers_are_written_plainly(figure: str, reason: str) -> None:
    """The first thing that JSON Schema cannot say, as `schemas.publish.json_schema` tells."""
    text = f'{{"workload": "w", "pid": {figure}, "reason": "", "cause": ""}}'
    assert VALIDATORS["flyball.workload.left"].is_valid(json.loads(text)), reason
    assert not is_accepted("flyball.workload.left", text.encode())


@pytest.mark.parametrize("figure", ["1e400", "1" * 400])
def test_numbers_fit_a_double(figure: str) -> None:
    """The second."""
    text = f'{{"target": "host", "memory_used_ratio": {figure}, "paused_s": 1, "reason": "", "cause": ""}}'
    assert VALIDATORS["flyball.pause.futile"].is_valid(json.loads(text))
    assert not is_accepted("flyball.pause.futile", text.encode())


def test_strings_hold_no_half_of_a_pair() -> None:
    """The third."""
    text = r'{"workload": "w", "pid": 1, "reason": "\ud800", "cause": ""}'
    assert VALIDATORS["flyball.workload.left"].is_valid(json.loads(text))
    assert not is_accepted("flyball.workload.left", text.encode())


@pytest.mark.parametrize(
    ("name", "field", "figure"),
    [
        ("flyball.host.sampled", "gpus", [{"index": 0, "uuid": "u", "memory_used_bytes": 2**63}]),
        ("flyball.host.sampled", "tick", 2**63),
        ("flyball.host.sampled", "monotonic_s", 1e13),
        ("flyball.workload.join", "priority", 2**63),
        ("flyball.workload.join", "start_time_s", 1.7e308),
        ("flyball.workload.join", "pid", 2**31 + 1),
    ],
)
def test_numbers_are_bounded(name: str, field: str, figure: Any) -> None:
    """Neither side takes what a snapshot or a sum cannot hold."""
    sample = {"host": "h", "boot_id": "b", "tick": 1, "time": "", "monotonic_s": 1.0, "interval_s": 1.0}
    join = {"workload": "w", "pid": 1, "start_time_s": 1.0, "targets": []}
    document = sample if name == "flyball.host.sampled" else join
    assert is_accepted(name, json.dumps(document).encode())
    document = {**document, field: figure}
    assert not VALIDATORS[name].is_valid(document)
    assert not is_accepted(name, json.dumps(document).encode())


@pytest.mark.parametrize("name", ["gpu٣", "gpu0\n", "workload.a\n", "gpu", "gpu00000", "workload.", "hosts"])
def test_targets_mean_the_same_in_every_dialect(name: str) -> None:
    """Where Python's regular expressions and JSON Schema's differ (other digits, a final line break), both refuse."""
    document = {"target": name, "memory_used_ratio": 1.0, "paused_s": 1, "reason": "", "cause": ""}
    assert not VALIDATORS["flyball.pause.futile"].is_valid(document)
    assert not is_accepted("flyball.pause.futile", json.dumps(document).encode())
