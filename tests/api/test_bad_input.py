"""Input that nobody can use gets 4xx, and is told what, where, why and what would be right; nothing changes by it."""

import json
import socket
import time
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from supervisor.configuration.catalogue import SEED_NAMES
from tests.api.client import Answer, Client
from tests.daemon import Daemon

CONFIG: Final = "/api/gpu/config"
THROTTLE: Final = "/api/targets/gpu0/throttle"
GETS: Final = (
    "/api/gpu/status", "/api/gpu/metrics", "/api/gpu/throttle/status",
)  # fmt: skip


def refused(answer: Answer, status: int, *words: str) -> list[dict[str, str]]:
    """What is wrong with each part; the sentence holds `words`."""
    assert answer.status == status, answer
    missing = [word for word in words if word not in answer.detail]
    assert not missing, answer.detail
    errors: list[dict[str, str]] = answer.document.get("errors", [])
    return errors


def directive(daemon: Daemon) -> tuple[int, str, float]:
    standing = daemon.directive("gpu0")
    return standing.seq, standing.action, standing.speed


# -- cards ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", GETS)
@pytest.mark.parametrize(
    "gpu_id", ["7", "-1", "gpu0", "GPU-nobody", "0000:99:00.0", "%00", "0%20or%201=1", "%F0%9F%94%A5"]
)
def test_an_unknown_card_is_404_and_the_known_ones_are_named(api: Client, path: str, gpu_id: str) -> None:
    refused(api.get(f"{path}?gpu_id={gpu_id}"), 404, "there is no GPU", "known are: 0 (GPU-00000000-")


@pytest.mark.parametrize("path", GETS)
def test_a_card_is_found_by_index_uuid_and_pci_id(api: Client, path: str) -> None:
    known = api.get("/api/gpu/status").document
    spellings = ["0", known["uuid"], known["uuid"].lower(), known["pci_bus_id"], "01:00.0", "0000:01:00.0"]
    assert [api.get(f"{path}?gpu_id={gpu_id}").status for gpu_id in spellings] == [200] * len(spellings)


@pytest.mark.parametrize("path", GETS)
@pytest.mark.parametrize(
    ("query", "parameter"),
    [("gpu_id=", "gpu_id"), ("gpu=0", "gpu"), ("gpu_id=0&gpu_id=0", "gpu_id"), ("gpu_id=" + "x" * 65, "gpu_id")],
)
def test_a_query_that_is_none_names_the_parameter(api: Client, path: str, query: str, parameter: str) -> None:
    (fault,) = refused(api.get(f"{path}?{query}"), 422, parameter)
    assert fault["parameter"] == parameter


# -- targets -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["throttle", "pause", "resume"])
@pytest.mark.parametrize(
    "target", ["gpu", "gpu0%0A", "gpu99999", "GPU0", "workload.", "workload.%C3%A9", "host2", "%2e%2e"]
)
def test_what_is_no_target_is_422(api: Client, action: str, target: str) -> None:
    (fault,) = refused(api.post(f"/api/targets/{target}/{action}", {}), 422, "target: ", "is not a target")
    assert fault["parameter"] == "target"


def test_an_unknown_action_is_404(api: Client) -> None:
    refused(api.post("/api/targets/gpu0/explode", {}), 404, "/ lists what there is")


@pytest.mark.parametrize(
    ("body", "pointer", "right"),
    [
        ({"speed": -0.1}, "#/speed", "a number from 0 to 1"),
        ({"speed": 1.5}, "#/speed", "a number from 0 to 1"),
        ({"speed": "0.5"}, "#/speed", "a number from 0 to 1"),
        ({"speed": None}, "#/speed", "a number from 0 to 1"),
        ({"for_s": 0}, "#/for_s", "a number of 86400 or less and above 0"),
        ({"for_s": -5}, "#/for_s", "a number of 86400 or less and above 0"),
        ({"for_s": 86_401}, "#/for_s", "a number of 86400 or less and above 0"),
        ({"force": "yes"}, "#/force", "true or false"),
        ({"sped": 0.5}, "#/sped", "did you mean speed?"),
        ({"operator": "root"}, "#/operator", "known here"),
    ],
)
def test_a_request_that_makes_no_sense_changes_nothing(
    api: Client, daemon: Daemon, body: dict[str, Any], pointer: str, right: str
) -> None:
    before = directive(daemon)
    (fault,) = refused(api.post(THROTTLE, body), 422, right)
    assert fault["pointer"] == pointer
    assert directive(daemon) == before


@pytest.mark.parametrize(
    "body",
    [b'{"speed": NaN}', b'{"speed": Infinity}', b"{speed: 1}", b'{"speed": 0', b"\xff\xfe{\x00}\x00", b"[" * 60_000],
)
def test_what_is_no_json_is_400(api: Client, daemon: Daemon, body: bytes) -> None:
    before = directive(daemon)
    refused(api.post(THROTTLE, body), 400, "the body is not JSON")
    assert directive(daemon) == before


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/xml", ""])
def test_a_wrong_content_type_is_415(api: Client, daemon: Daemon, kind: str) -> None:
    """A form of another page can send the first two without asking."""
    before = directive(daemon)
    for path in (THROTTLE, CONFIG):
        method = "PUT" if path == CONFIG else "POST"
        refused(api.ask(method, path, {"speed": 0.1}, {"Content-Type": kind}), 415, "send application/json")
    assert directive(daemon) == before


def test_a_body_of_10_mb_is_413_and_is_not_read(api: Client, daemon: Daemon) -> None:
    """Neither by its length, nor where it says none; the daemon does not grow by it."""
    address = urlsplit(api.url)
    head = (
        f"POST {THROTTLE} HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer {api.token}\r\n"
        "Content-Type: application/json\r\n"
    )
    for framing in ("Content-Length: 10000000", "Transfer-Encoding: chunked"):
        with socket.create_connection((address.hostname, address.port or 0), timeout=20) as connection:
            connection.sendall(f"{head}{framing}\r\n\r\n".encode())
            if "chunked" in framing:
                connection.sendall(b"11000\r\n" + b" " * 0x11000 + b"\r\n")
            answer = connection.recv(65_536).decode()
        assert answer.startswith("HTTP/1.1 413 ")
        assert "the body is larger than 65536 bytes" in answer


def test_who_does_not_hold_the_token_changes_nothing(api: Client, daemon: Daemon) -> None:
    before = directive(daemon)
    for given in ("", "Bearer", "Bearer x", f"Basic {api.token}"):
        answer = api.post(THROTTLE, {"speed": 0.1}, Authorization=given)
        refused(answer, 401, str(daemon.state / "token"))
        assert answer.headers["www-authenticate"].startswith("Bearer ")
        assert api.token not in str(answer)
    assert directive(daemon) == before


def test_a_page_of_elsewhere_changes_nothing(api: Client, daemon: Daemon) -> None:
    before = directive(daemon)
    refused(api.post(THROTTLE, {}, Origin="http://evil.example"), 403, "'http://evil.example' is not the origin")
    refused(api.post(THROTTLE, {}, Host="evil.example"), 403, "not called 'evil.example'")
    assert directive(daemon) == before


# -- reservations and trends -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "pointer", "right"),
    [
        ({"size_mb": -1}, "#/size_mb", "above 0"),
        ({"size_mb": 0}, "#/size_mb", "above 0"),
        ({"size_mb": 1.5}, "#/size_mb", "a whole number"),
        ({"size_mb": 2**70}, "#/size_mb", "a whole number"),
        ({"ram_mb": -1}, "#/ram_mb", "a whole number from 0"),
        ({"ttl_s": 0}, "#/ttl_s", "above 0"),
        ({"ttl_s": -1}, "#/ttl_s", "above 0"),
        ({"pid": 0}, "#/pid", "above 0"),
        ({"allocation_id": ""}, "#/allocation_id", "a name of 1 to 64"),
        ({"allocation_id": "a b"}, "#/allocation_id", "a name of 1 to 64"),
        ({"size": 5}, "#/size", "did you mean size_mb?"),
    ],
)
def test_a_reservation_that_makes_no_sense_is_none(
    api: Client, change: dict[str, Any], pointer: str, right: str
) -> None:
    body = {"allocation_id": "llm", "size_mb": 100, **change}
    (fault,) = refused(api.post("/api/gpu/memory/allocate", body), 422, right)
    assert fault["pointer"] == pointer
    assert _reserved(api) == []


def test_a_reservation_of_what_is_not_there_is_none(api: Client) -> None:
    allocate = "/api/gpu/memory/allocate"
    refused(api.post(allocate, b'{"allocation_id": "llm", "size_mb": NaN}'), 400, "the body is not JSON")
    refused(api.post(allocate, {"allocation_id": "llm", "size_mb": 1, "gpu_id": 7}), 404, "there is no GPU '7'")
    refused(api.post(allocate, {"allocation_id": "llm", "size_mb": 10**9}), 409, "llm")
    refused(api.post(allocate), 400, "a body is needed", "allocation_id: is missing", "size_mb: is missing")
    for action in ("deallocate", "started"):
        refused(api.post(f"/api/gpu/memory/{action}", {"allocation_id": "nobody"}), 404, "nobody")
    assert _reserved(api) == []


def test_the_same_reservation_twice_is_409(api: Client) -> None:
    body = {"allocation_id": "twice", "size_mb": 100}
    assert api.post("/api/gpu/memory/allocate", body).status == 201
    refused(api.post("/api/gpu/memory/allocate", body), 409, "twice")
    assert api.post("/api/gpu/memory/deallocate", {"allocation_id": "twice"}).status == 200
    refused(api.post("/api/gpu/memory/deallocate", {"allocation_id": "twice"}), 404, "twice")


def _reserved(api: Client) -> list[str]:
    """The names in the ledger."""
    standing = api.get("/api/gpu/memory/available").document["gpu"]["reservations"]
    return [one["allocation_id"] for one in standing]


@pytest.mark.parametrize(
    ("path", "query", "right"),
    [
        ("metrics/history", "limit=0", "a whole number from 1 to"),
        ("metrics/history", "limit=1e3", "a whole number from 1 to"),
        ("metrics/history", "since=yesterday", "RFC 3339"),
        ("metrics/history", "duration_minutes=nan", "a number"),
        ("temperature/trend", "duration_minutes=0", "above 0"),
        ("temperature/trend", "duration_minutes=-5", "above 0"),
        ("temperature/trend", "duration_minutes=inf", "a number"),
    ],
)
def test_a_time_that_is_none_is_422(api: Client, path: str, query: str, right: str) -> None:
    refused(api.get(f"/api/gpu/{path}?{query}"), 422, query.partition("=")[0], right)


# -- settings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"throttle": {"temp_normal": 90}}, ["throttle.temp_normal: 90 is not below temp_throttle (85)"]),
        ({"temp_critical": 60, "memory_normal": 99},
         ["temp_throttle: 85 is not below temp_critical (60)", "memory_normal: 99 is not below memory_critical (95)"]),
        ({"throttle": {"throttle_cooldown_seconds": -1}}, ["throttle_cooldown_seconds: -1 is out of range"]),
        ({"throttle": {"temp_normal": "hot"}}, ["temp_normal: 'hot' is not a number"]),
        ({"throttle": {"temp_nrmal": 70}}, ["temp_nrmal", "did you mean temp_normal?"]),
        ({"sampling": {"interval_s": 0}}, ["interval_s: 0 is not a number from 0.05 to 60"]),
        ({"api": {"port": 1}}, ["cannot be changed while Flyball runs"]),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_change_nothing(api: Client, body: dict[str, Any], words: list[str]) -> None:
    before = api.get(CONFIG)
    refused(api.put(CONFIG, body), 422, "nothing was changed", *words)
    after = api.get(CONFIG)
    assert (after.document, after.headers["etag"]) == (before.document, before.headers["etag"])


@pytest.mark.parametrize("tag", ['"stale"', 'W/"stale"', "", "stale", '"a", "b"'])
def test_settings_that_changed_meanwhile_are_not_overwritten(api: Client, tag: str) -> None:
    before = api.get(CONFIG)
    answer = api.put(CONFIG, {"throttle": {"temp_normal": 70}}, If_Match=tag)
    refused(answer, 412, "the settings have changed since", before.headers["etag"])
    assert answer.headers["etag"] == before.headers["etag"]
    assert api.get(CONFIG).document == before.document


@pytest.mark.parametrize("table", [None, "throttle"])
def test_thousands_of_names_that_nobody_knows_do_not_hold_the_others_up(api: Client, table: str | None) -> None:
    """To look for what was meant takes its time, and the loop stands still meanwhile."""
    wrong = {f"{name}{number}": 1 for name in SEED_NAMES for number in range(180)}
    assert len(json.dumps(wrong)) < 60_000
    few = dict(list(wrong.items())[:20])
    spent = [min(_seconds(api, {table: body} if table else body) for _ in range(3)) for body in (few, wrong)]
    assert spent[1] < 25 * spent[0]


def _seconds(api: Client, body: dict[str, Any]) -> float:
    began = time.perf_counter()
    assert len(refused(api.put(CONFIG, body), 422)) == 20
    return time.perf_counter() - began
