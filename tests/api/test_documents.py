"""What is published of the API is what it is: the OpenAPI document, and the page with curl for each resource."""

import json
import re
from typing import Any, Final

import msgspec
import pytest
from jsonschema import Draft202012Validator

from schemas.publish import ROOT
from supervisor.api.openapi import document
from supervisor.api.plain import PLAIN
from supervisor.api.published import OPENAPI, documents, routes
from supervisor.route import Route
from tests.api import curls
from tests.api.client import Client
from tests.daemon import Daemon
from tests.tools import require_tool

DOCUMENTS: Final = documents()
ROUTES: Final = routes()
PUBLISHED: Final[dict[str, Any]] = json.loads(DOCUMENTS[OPENAPI])
#: Those of the system that Flyball grew out of.
SEED: Final = {
    *(("get", f"/api/gpu/{path}") for path in (
        "status", "status/all", "metrics", "metrics/history", "temperature/trend", "memory/available",
        "throttle/status", "config",
    )),
    *(("post", f"/api/gpu/{path}") for path in (
        "memory/allocate", "memory/deallocate", "monitoring/start", "monitoring/stop",
    )),
    ("put", "/api/gpu/config"),
}  # fmt: skip


def operations(openapi: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(method, path): one for path, item in openapi["paths"].items() for method, one in item.items()}


@pytest.mark.parametrize("path", DOCUMENTS)
def test_file_is_not_stale(path: str) -> None:
    assert (ROOT / path).read_text() == DOCUMENTS[path], f"{path} is stale: ./flyball schemas --write"


def test_the_daemon_serves_what_is_published(api: Client) -> None:
    assert api.get("/openapi.json").document == PUBLISHED


def test_every_resource_is_in_it() -> None:
    found = operations(PUBLISHED)
    assert found.keys() >= SEED
    assert found.keys() == {(route.method.lower(), route.path) for route in ROUTES} | {
        ("get", one.path) for one in PLAIN
    }
    assert PUBLISHED["openapi"] == "3.1.0"
    ids = [one["operationId"] for one in found.values()]
    assert len(set(ids)) == len(ids)


def test_every_schema_is_one_and_every_reference_leads_somewhere() -> None:
    schemas = PUBLISHED["components"]["schemas"]
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)
    named = re.findall(r'"#/components/schemas/([^"]+)"', DOCUMENTS[OPENAPI])
    assert set(named) <= schemas.keys()
    assert len(named) == len(re.findall(r'"\$ref"', DOCUMENTS[OPENAPI]))


@pytest.mark.parametrize("needs_token", ["changes", "all", "none"])
def test_it_says_what_needs_the_token(needs_token: Any) -> None:
    for (method, path), one in operations(document(ROUTES, needs_token)).items():
        is_open = path in ("/livez", "/readyz")
        wanted = {"all": not is_open, "changes": method != "get", "none": False}[needs_token]
        assert (one["security"] == [{"token": []}]) == wanted, path
        assert ("401" in one["responses"]) == wanted, path


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_a_route_says_what_it_takes_and_when_it_refuses(route: Route) -> None:
    one = operations(PUBLISHED)[route.method.lower(), route.path]
    assert one["summary"].endswith(".")
    problem = one["responses"]["default"]["content"]["application/problem+json"]["schema"]
    assert problem == {"$ref": "#/components/schemas/Problem"}
    assert {str(status) for status in (route.status, *route.further, *route.problems)} <= one["responses"].keys()
    if route.body is not None:
        assert {"400", "413", "415", "422"} <= one["responses"].keys()
    assert {parameter["name"] for parameter in one["parameters"] if parameter["in"] == "path"} == set(
        re.findall(r"\{(\w+)\}", route.path)
    )
    if one.get("requestBody", {}).get("required"):
        assert route.example and route.example.body is not None, "what must be sent is shown"
    if route.example and route.example.body is not None:
        example = one["requestBody"]["content"]["application/json"]["example"]
        assert msgspec.convert(example, route.body) == route.example.body


# -- the page ------------------------------------------------------------------------------------------------------


def test_every_line_of_curl_does_what_the_page_says(daemon: Daemon, api: Client) -> None:
    """Each is answered with a status and a body that the document has for it."""
    require_tool("curl")
    asked = curls.lines()
    assert {(line.method.lower(), line.path) for line in asked} == operations(PUBLISHED).keys()
    for line in asked:
        status, body = curls.run(line, api.url, daemon.environ)
        assert status in (200, 201), f"{line.command}: {status} {body}"
        if line.path == curls.STREAM:
            assert body.count("\nevent: flyball.") >= 3
            continue
        said = operations(PUBLISHED)[line.method.lower(), line.path]["responses"][str(status)]["content"]
        if schema := said.get("application/json", {}).get("schema"):
            whole = {**PUBLISHED, "$ref": schema["$ref"]} if "$ref" in schema else schema
            Draft202012Validator(whole).validate(json.loads(body))
