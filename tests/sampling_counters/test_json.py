"""Figures from a JSON resource: where they lie, and what is no figure."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from supervisor.configuration.counters import CounterSection
from supervisor.sampling.counters.paths import at
from supervisor.sampling.counters.source import Tally
from tests.sampling_counters.serving import Server, json_section, told, untold

STATUS = {"jsonrpc": "2.0", "id": 1, "result": {"completedCount": 41, "processingCount": 2, "pendingCount": 7.5}}


async def test_the_status_of_the_study_is_read(server: Server) -> None:
    """A JSON-RPC request by POST, as the script of the thread study sent it with curl."""
    body = '{"jsonrpc":"2.0","id":1,"method":"getIndexStatus","params":{}}'
    server.says(json.dumps(STATUS), Content_Type="application/json")
    section = CounterSection(
        kind="json", url=f"{server.url}/rpc", body=body, counts={"requests.completed": "result.completedCount"},
        gauges={"requests.processing": "result.processingCount", "requests.pending": "result.pendingCount"},
    )  # fmt: skip
    answer = await told(section)
    assert answer.tally == Tally(
        counts={"requests.completed": 41.0}, gauges={"requests.processing": 2.0, "requests.pending": 7.5}
    )
    assert answer.missing == ""
    (request,) = server.asked
    assert (request.method, request.path, server.bodies) == ("POST", "/rpc", [body.encode()])
    assert request.headers["Content-Type"] == "application/json"


async def test_a_body_may_be_left_out_and_the_method_chosen(server: Server) -> None:
    server.says('{"done": 3}')
    await told(json_section(server.url))
    await told(json_section(server.url, method="POST"))
    assert [request.method for request in server.asked] == ["GET", "POST"]


@pytest.mark.parametrize("kind", ["text/html", "text/plain", "application/x-nonsense", "image/png; charset=nonsense"])
async def test_json_is_read_whatever_it_is_called(server: Server, kind: str) -> None:
    server.says('{"done": 3}', Content_Type=kind)
    assert (await told(json_section(server.url))).tally.counts == {"done": 3.0}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("a", 1), ("b.c", 2), ("list.1", 20), ("list.0.x", 3), ("b", {"c": 2}), ("dotted.key", 4), ("dotted.key2.x", 5),
        ("com.example.requests.count", 6), ("deep.0.0", 7), ("7", 8),
    ],
)  # fmt: skip
def test_paths_lead_through_tables_lists_and_keys_with_dots(path: str, found: object) -> None:
    document = {
        "a": 1, "b": {"c": 2}, "list": [{"x": 3}, 20], "dotted.key": 4, "dotted.key2": {"x": 5},
        "com.example.requests": {"count": 6}, "deep": [[7]], "7": 8,
    }  # fmt: skip
    assert at(document, path) == found


@pytest.mark.parametrize(
    ("document", "path", "why"),
    [
        ({"error": {"code": 1}, "id": 1}, "result.done", "the document has no result, but error, id"),
        ({"result": {}}, "result.done", "result has no done, but nothing at all"),
        ({"result": None}, "result.done", "result is null and has nothing in it"),
        ({"a": {"b": 3}}, "a.b.c", "a.b is 3 and has nothing in it"),
        ([1, 2], "2", "the document is a list of 2 and has no item 2"),
        ([1, 2], "-1", "the document is a list of 2 and has no item -1"),
        ([1, 2], "9" * 5000, f"the document is a list of 2 and has no item {'9' * 5000}"),
        ([1, 2], "²", "the document is a list of 2 and has no item ²"),
        ({f"key{index}": 0 for index in range(9)}, "x",
         "the document has no x, but key0, key1, key2, key3, key4, key5, …"),
        ({"k" * 5000: 0}, "x", f"the document has no x, but {'k' * 58}…"),
    ],
)  # fmt: skip
def test_a_path_that_leads_nowhere_is_told_with_what_there_is(document: Any, path: str, why: str) -> None:
    with pytest.raises(LookupError) as caught:
        at(document, path)
    assert caught.value.args == (why,)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("NaN", "done is nan, not a finite number"),
        ("Infinity", "done is inf, not a finite number"),
        ("-Infinity", "done is -inf, not a finite number"),
        ("1e999", "done is inf, not a finite number"),
        ("true", "done is true, not a number"),
        ("null", "done is null, not a number"),
        ('"3"', "done is '3', not a number"),
        ('"\\ud800\\u0000\\n"', r"done is '\ud800\x00\n', not a number"),
        ('"' + "x" * 5000 + '"', f"done is '{'x' * 58}…, not a number"),
        ("{}", "done is a table, not a number"),
        ("[3]", "done is a list, not a number"),
        ("1000000000000001", "done is beyond ±1e+15"),
        ("9" * 4000, "done is beyond ±1e+15"),
        ("1e16", "done is beyond ±1e+15"),
        ("-1", "done is -1, and what is counted is never below 0"),
    ],
)
async def test_what_is_no_figure_is_named(server: Server, value: str, why: str) -> None:
    server.says(f'{{"done": {value}}}')
    assert await untold(json_section(server.url)) == why


@pytest.mark.parametrize(("value", "figure"), [("0", 0.0), ("1000000000000000", 1e15), ("2.5", 2.5), ("-0.0", 0.0)])
async def test_what_is_just_a_figure_is_read(server: Server, value: str, figure: float) -> None:
    server.says(f'{{"done": {value}}}')
    assert (await told(json_section(server.url))).tally.counts == {"done": figure}


async def test_a_level_may_be_negative_and_fall(server: Server) -> None:
    server.says('{"done": -3}')
    assert (await told(json_section(server.url, counts={}, gauges={"x": "done"}))).tally.gauges == {"x": -3.0}


async def test_one_bad_figure_does_not_cost_the_others(server: Server) -> None:
    """Nor does a NaN that nobody asked for, which strict readers of JSON refuse as a whole."""
    server.says('{"done": 3, "ratio": NaN, "other": Infinity}')
    answer = await told(json_section(server.url, counts={"done": "done", "gone": "gone"}, gauges={"ratio": "ratio"}))
    assert answer.tally == Tally(counts={"done": 3.0}, gauges={})
    assert answer.missing == (
        f"json {server.url}: gone leads nowhere: the document has no gone, but done, ratio, other (and 1 more)"
    )


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "the answer is not JSON (Expecting value: line 1 column 1 (char 0)) and begins with ''; check url"),
        (b"<!DOCTYPE html><title>Login</title>",
         "the answer is not JSON (Expecting value: line 1 column 1 (char 0)) and begins with "
         "'<!DOCTYPE html><title>Login</title>'; check url"),
        (b'{"done": 3',
         "the answer is not JSON (Expecting ',' delimiter: line 1 column 11 (char 10)) and begins with "
         "'{\"done\": 3'; check url"),
        (b'{"done": "\xff"}', "the answer is not UTF-8 at byte 10"),
        (b"[" * 500_000, "the answer is nested too deeply"),
        (b'{"done":' * 100_000, "the answer is nested too deeply"),
        (b"\x00\x01\x02\x03", "the answer is not JSON"),
        (b'{"done": ' + b"9" * 100_000 + b"}", "the answer is not JSON (Exceeds the limit (4300 digits)"),
    ],
)  # fmt: skip
async def test_what_is_not_json_is_told(server: Server, body: bytes, why: str) -> None:
    server.says(body, Content_Type="application/json")
    assert (await untold(json_section(server.url))).startswith(why)


async def test_a_counter_that_falls_back_is_passed_on(server: Server) -> None:
    section = json_section(server.url)
    server.says('{"done": 900}')
    before = await told(section)
    server.says('{"done": 2}')
    after = await told(section)
    assert (before.tally.counts, after.tally.counts) == ({"done": 900.0}, {"done": 2.0})


async def test_authorization_comes_from_its_file_and_is_read_anew(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "token"
    section = json_section(server.url, authorization_file=str(file))
    server.says('{"done": 3}')
    for token in ("Bearer first", "Bearer second"):
        file.write_text(f"{token}\n")
        await told(section)
        assert server.asked[-1].headers["Authorization"] == token


async def test_an_authorization_that_cannot_be_used_is_told(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "token"
    section = json_section(server.url, authorization_file=str(file))
    assert await untold(section) == f"authorization_file {file} cannot be read: No such file or directory"
    for content in (b"", b"a\r\nX-Evil: 1", b"\x00"):
        file.write_bytes(content)
        assert (await untold(section)).startswith(f"authorization_file {file} does not hold one line of text")
    file.unlink()
    os.mkfifo(file)  # whoever opens it for reading waits for a writer
    assert await untold(section) == f"authorization_file {file} cannot be read: it is no regular file"
    assert server.asked == []
