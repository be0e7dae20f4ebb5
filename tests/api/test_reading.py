"""A request is read strictly, and all that is wrong with it is told at once: where it is, and what would be right."""

import json
import time
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, Struct

from supervisor.api.reading import read_body, read_path, read_query
from supervisor.route import GpuQuery, Nothing, Refusal

Limit = Annotated[int, Meta(ge=1, le=1000)]


class Query(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    limit: Limit = 200
    since_s: float | None = None
    live: bool = False
    type: tuple[str, ...] = ()
    gpu_id: Annotated[str, Meta(min_length=1)] = "0"


class Owner(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    pid: Annotated[int, Meta(ge=1)] = 1


class Body(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    size_mb: Limit
    owner: Owner
    ttl_s: Annotated[float, Meta(gt=0)] | None = None
    low: float = 1
    high: float = 2

    def problems(self) -> list[str]:
        return [] if self.low < self.high else [f"low: {self.low:g} is not below high ({self.high:g})"]


RIGHT: dict[str, Any] = {"size_mb": 5, "owner": {"name": "me"}}


def refused(call: Any, *given: Any) -> tuple[int, list[dict[str, str]]]:
    """Status and faults; `detail` says all of them."""
    with pytest.raises(Refusal) as raised:
        call(*given)
    errors = msgspec.to_builtins(raised.value.members.get("errors", []))
    assert all(error["detail"] in raised.value.detail for error in errors)
    return raised.value.status, errors


def test_a_query_is_read_by_its_types() -> None:
    pairs = [("limit", "5"), ("since_s", "1.5"), ("live", "true"), ("type", "a"), ("type", "b"), ("gpu_id", "007")]
    assert read_query(Query, pairs) == Query(limit=5, since_s=1.5, live=True, type=("a", "b"), gpu_id="007")
    assert read_query(Query, []) == Query()
    assert read_query(Nothing, []) == Nothing()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("limit", "0"), ("limit", "1001"), ("limit", "1.0"), ("limit", "1e2"), ("limit", " 5"), ("limit", ""),
        ("limit", "٣"), ("limit", "x" * 200), ("limit", "9" * 5000), ("since_s", "nan"), ("since_s", "-inf"),
        ("since_s", "1e999"), ("since_s", "null"), ("since_s", "now"), ("live", "1"), ("live", "True"), ("live", "yes"),
        ("gpu_id", ""),
    ],
)  # fmt: skip
def test_what_is_no_such_value_is_named(name: str, text: str) -> None:
    status, (fault,) = refused(read_query, Query, [(name, text)])
    assert (status, fault["parameter"]) == (422, name)
    assert fault["detail"].startswith(f"{name}: ")
    assert " is not " in fault["detail"]
    assert len(fault["detail"]) < 200


def test_everything_wrong_with_a_query_is_told_at_once() -> None:
    status, faults = refused(read_query, Query, [("limit", "0"), ("limt", "1"), ("gpu_id", "1"), ("gpu_id", "2")])
    assert status == 422
    assert {fault["parameter"]: fault["detail"] for fault in faults} == {
        "limit": "limit: '0' is not a whole number from 1 to 1000",
        "limt": "'limt': no such parameter of the query; did you mean limit?",
        "gpu_id": "gpu_id: is there more than once; give it once",
    }
    assert refused(read_query, Nothing, [("a", "1")])[1][0]["detail"].endswith("none is taken here")


def test_a_path_is_read_the_same_way() -> None:
    assert read_path(GpuQuery, {"gpu_id": "3"}) == GpuQuery(gpu_id="3")
    assert refused(read_path, GpuQuery, {"gpu_id": "x" * 65})[0] == 422


def test_a_body_is_read_by_its_types() -> None:
    assert read_body(Body, json.dumps(RIGHT).encode()) == Body(size_mb=5, owner=Owner("me"))
    assert read_body(GpuQuery, b"") == GpuQuery()
    assert read_body(dict[str, int], b'{"a": 1}') == {"a": 1}


@pytest.mark.parametrize(
    "body",
    [
        b"{", b"NaN", b'{"size_mb": NaN}', b'{"size_mb": Infinity}', b"{'size_mb': 1}", b'{"owner": {"name": "\xff"}}',
        b'{"owner": {"name": "\\ud800"}}', b'{"x":' + b"[" * 60_000, b"\x00", b"\xef\xbb\xbf{}", b'{"a": 1,}', b"  ",
    ],
    ids=range(12),
)  # fmt: skip
def test_what_is_no_json_is_400(body: bytes) -> None:
    with pytest.raises(Refusal) as raised:
        read_body(Body, body)
    assert raised.value.status == 400
    assert raised.value.detail.startswith("the body is not JSON: ")
    assert len(raised.value.detail) < 200


def test_a_body_that_is_missing_is_400_and_says_what_is_needed() -> None:
    with pytest.raises(Refusal) as raised:
        read_body(Body, b"")
    assert raised.value.status == 400
    assert raised.value.detail.startswith("a body is needed: size_mb: is missing; expected a whole number from 1 to")


def test_everything_wrong_with_a_body_is_told_at_once() -> None:
    wrong = {"size_mb": -5, "owner": {"name": 3, "pid": 0, "uid": 1}, "ttl_s": 0, "low": 3, "sise_mb": 1}
    status, faults = refused(read_body, Body, json.dumps(wrong).encode())
    assert status == 422
    assert {fault["pointer"]: fault["detail"] for fault in faults} == {
        "#/size_mb": "size_mb: -5 is not a whole number from 1 to 1000",
        "#/owner/name": "owner.name: 3 is not text",
        "#/owner/pid": "owner.pid: 0 is not a whole number of 1 or more",
        "#/owner/uid": "owner.uid: no such key; did you mean pid?",
        "#/ttl_s": "ttl_s: 0 is not a number above 0",
        "#/sise_mb": "sise_mb: no such key; did you mean size_mb?",
    }


def test_what_must_hold_across_fields_is_told_too() -> None:
    status, faults = refused(read_body, Body, json.dumps({**RIGHT, "low": 3}).encode())
    assert (status, faults) == (422, [{"detail": "low: 3 is not below high (2)", "pointer": "#/low"}])


@pytest.mark.parametrize("body", [b"[]", b"3", b"null", b'"x"', b'{"size_mb": 1e999}', b'{"size_mb": 1.0}'])
def test_another_shape_is_422(body: bytes) -> None:
    assert refused(read_body, Body, body)[0] == 422
    assert refused(read_body, dict[str, str], body.replace(b"null", b'{"a": 1}'))[0] == 422


def test_a_pointer_is_escaped() -> None:
    _, faults = refused(read_body, Body, json.dumps({**RIGHT, "a/b~c": 1}).encode())
    assert faults[0]["pointer"] == "#/a~1b~0c"


def test_thousands_of_faults_take_no_longer_than_a_few() -> None:
    """Each is compared with what is known, and the loop stands still meanwhile."""
    few, many = ({**RIGHT, **{f"size_m{number}": 1 for number in range(count)}} for count in (20, 4_000))
    bodies = [json.dumps(wrong).encode() for wrong in (few, many)]
    spent = [min(_spent(body) for _ in range(3)) for body in bodies]
    assert spent[1] < 10 * spent[0]
    assert len(refused(read_body, Body, bodies[1])[1]) == 20
    assert len(refused(read_query, Query, [(f"size_m{number}", "") for number in range(4_000)])[1]) == 20


def _spent(body: bytes) -> float:
    began = time.perf_counter()
    refused(read_body, Body, body)
    return time.perf_counter() - began


def test_a_name_of_60_kb_is_shortened() -> None:
    _, faults = refused(read_body, Body, json.dumps({**RIGHT, "x" * 60_000: 1}).encode())
    assert len(str(faults)) < 500


JSON = st.recursive(st.none() | st.floats() | st.text(max_size=9), st.lists)
TABLES = st.dictionaries(st.sampled_from(["size_mb", "owner", "ttl_s", "x"]), JSON)


@given(st.binary(max_size=200) | (JSON | TABLES).map(lambda value: json.dumps(value).encode()))
def test_whatever_comes_is_read_or_refused(body: bytes) -> None:
    try:
        assert isinstance(read_body(Body, body), Body)
    except Refusal as refusal:
        assert refusal.status in (400, 422)
        assert refusal.detail
