"""Stream entries: read exactly when the rules say so, refused with MalformedEntry otherwise, and nothing else ever."""

import json
import os
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from schemas.envelope import Event, MalformedEntry, event_from_entry, event_id
from schemas.event import WIRE_TYPES
from schemas.publish import TYPES, entry_schema, json_schema
from schemas.workload import ENTRY_FIELDS, Leave
from tests.schemas.documents import conforming, json_values, mutated, texts

#: Issue 2 wants to see 10,000: FLYBALL_FUZZ_EXAMPLES=10000.
EXAMPLES = int(os.environ.get("FLYBALL_FUZZ_EXAMPLES", "1000"))
fuzz = settings(max_examples=EXAMPLES, deadline=None)
pytestmark = pytest.mark.timeout(60 + EXAMPLES // 10)

ENTRY = Draft202012Validator(entry_schema())
DATA = {name: Draft202012Validator(json_schema(name)) for name in TYPES}
SCHEMAS = {name: json_schema(name) for name in WIRE_TYPES}

events = st.builds(
    Event,
    id=texts.filter(bool),
    type=st.sampled_from(sorted(WIRE_TYPES)) | texts.filter(bool),
    source=texts,
    subject=texts,
    time=texts,
    text=texts,
    data=st.binary(max_size=20),
)


@st.composite
def entries(draw: st.DrawFn) -> dict[bytes, bytes]:
    """An entry as a Redis client returns it: mostly one of ours, often with something wrong about it."""
    name = draw(st.sampled_from(sorted(WIRE_TYPES)))
    documents = conforming(SCHEMAS[name], SCHEMAS[name].get("$defs", {}))
    document = draw(st.one_of(documents, mutated(documents), json_values))
    data = draw(st.one_of(st.just(json.dumps(document).encode()), st.binary(max_size=20), truncated(document)))
    fields = {b"id": b"1", b"type": name.encode(), b"source": b"", b"subject": b"", b"time": b"", b"text": b""}
    fields[b"data"] = data
    for _ in range(draw(st.integers(0, 2))):
        key = draw(st.sampled_from([field.encode() for field in ENTRY_FIELDS] + [b"", b"\xff", b"tomorrow"]))
        if draw(st.booleans()):
            fields.pop(key, None)
        else:
            fields[key] = draw(st.binary(max_size=6) | texts.map(str.encode))
    return fields


def truncated(document: Any) -> st.SearchStrategy[bytes]:
    """JSON that ends too early, or that nests without end."""
    text = json.dumps(document).encode()
    deep = st.sampled_from([b"[" * 100_000, b'{"a":' * 100_000, b'{"arguments":' + b"[" * 100_000])
    return st.integers(0, len(text)).map(lambda end: text[:end]) | deep


def expected(fields: Mapping[bytes, bytes]) -> bool:
    """Whether the published schemas accept an entry: the envelope's, and that of its type where we know the type."""
    try:
        known = {name: fields[name.encode()].decode() for name in ENTRY_FIELDS[:-1] if name.encode() in fields}
    except UnicodeDecodeError:
        return False
    there = known | ({"data": ""} if b"data" in fields else {})
    if not ENTRY.is_valid(there):
        return False
    if known["type"] not in DATA:
        return True
    try:
        return bool(DATA[known["type"]].is_valid(json.loads(fields[b"data"].decode(), parse_constant=_refuse)))
    except (ValueError, RecursionError):
        return False


def _refuse(constant: str) -> None:
    """NaN and Infinity are Python's, not JSON's."""
    raise ValueError(f"{constant} is not JSON")


def read(fields: Mapping[bytes, bytes]) -> bool:
    """Whether we accept an entry with its data; any other exception than MalformedEntry fails the test."""
    try:
        event = event_from_entry(fields)
        if event.type in WIRE_TYPES:
            event.decode(WIRE_TYPES[event.type])
    except MalformedEntry as refused:
        assert str(refused), "a rejection says why"
        return False
    return True


@fuzz
@given(fields=entries())
def test_entries_are_accepted_exactly_when_the_schemas_accept_them(fields: dict[bytes, bytes]) -> None:
    assert read(fields) == expected(fields)


@fuzz
@given(fields=st.dictionaries(st.binary(max_size=6), st.binary(max_size=20), max_size=8))
def test_random_bytes_are_refused(fields: dict[bytes, bytes]) -> None:
    assert read(fields) == expected(fields)


@fuzz
@given(fields=st.lists(st.sampled_from([name.encode() for name in ENTRY_FIELDS]) | st.binary(max_size=3), max_size=16))
def test_flat_entries_are_refused_or_read(fields: list[bytes]) -> None:
    """Names and values in turn; an odd number of them, too."""
    if len(fields) % 2:
        with pytest.raises(MalformedEntry, match="no value"):
            event_from_entry(fields)
    else:
        mapping = dict(zip(fields[::2], fields[1::2], strict=True))
        assert read(mapping) == expected(mapping)


@given(event=events)
def test_an_event_comes_back_as_it_was(event: Event) -> None:
    """Through the fields as XADD takes them, flat and as a mapping, with a field of tomorrow among them."""
    flat = [part.encode() if isinstance(part, str) else part for part in event.fields()]
    assert [name.decode() for name in flat[::2]] == list(ENTRY_FIELDS)
    assert event_from_entry(flat) == event
    mapping = dict(zip(flat[::2], flat[1::2], strict=True))
    assert event_from_entry({b"tomorrow": b"\xff", **dict(reversed(mapping.items()))}) == event


@given(fields=st.sets(st.sampled_from(ENTRY_FIELDS), min_size=1))
def test_the_missing_field_is_named(fields: set[str]) -> None:
    whole = {name.encode(): b"x" for name in ENTRY_FIELDS if name not in fields}
    with pytest.raises(MalformedEntry) as refused:
        event_from_entry(whole)
    assert any(repr(name) in str(refused.value) for name in fields)


def test_a_rejection_names_type_and_place() -> None:
    event = Event("1", "flyball.workload.leave", "", "", "", "", b'{"workload": "a b"}')
    with pytest.raises(MalformedEntry, match=r"data of flyball\.workload\.leave is not a Leave: .*workload"):
        event.decode(Leave)


@given(issuer=texts, input_id=texts, ordinal=st.integers(0, 100))
def test_the_same_input_gives_the_same_id(issuer: str, input_id: str, ordinal: int) -> None:
    first = event_id(issuer, input_id, ordinal)
    assert first == event_id(issuer, input_id, ordinal)
    assert first != event_id(issuer, input_id, ordinal + 1)
    assert len(first) == 20
    assert set(first) <= set("0123456789abcdef")


def test_ids_differ_between_issuers_and_inputs() -> None:
    ids = [event_id(issuer, given, ordinal) for issuer in "ab" for given in "xy" for ordinal in range(10)]
    assert len(set(ids)) == len(ids)
