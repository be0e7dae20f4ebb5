"""What is published of the API is what it is: the OpenAPI document, and the page with curl for each resource."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from jsonschema import Draft202012Validator

from schemas.publish import ROOT
from supervisor.api.openapi import document
from supervisor.api.plain import PLAIN
from supervisor.api.published import OPENAPI, PAGE, documents, routes
from supervisor.route import Route
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

BLOCKS: Final = re.findall(r"## (\w+) (\S+)\n.*?```bash\n(.*?)```", DOCUMENTS[PAGE], re.DOTALL)


def test_every_line_of_curl_does_what_the_page_says(daemon: Daemon, api: Client, tmp_path: Path) -> None:
    """Each is run by bash as it stands there, and answered with a status that the document has for it."""
    require_tool("curl")
    assert len(BLOCKS) == len(operations(PUBLISHED))
    head = re.search(r"```bash\n(FLYBALL=.*?)```", DOCUMENTS[PAGE], re.DOTALL)
    assert head
    preparation = head[1].replace("http://127.0.0.1:8470", api.url)
    for method, path, line in _in_a_sensible_order(BLOCKS):
        assert line.startswith("curl -s"), line
        status = tmp_path / "status"
        script = f"{preparation}{line.strip()} -o {tmp_path}/body -w '%{{http_code}}' > {status}"
        subprocess.run(
            ["timeout", "2" if path == "/api/events" else "20", "bash", "-euc", script],
            env=daemon.environ, check=False, capture_output=True,
        )  # fmt: skip
        body = (tmp_path / "body").read_text()
        if path == "/api/events":
            assert body.count("\nevent: flyball.") >= 3
            continue
        assert status.read_text() in ("200", "201"), f"{line}: {status.read_text()} {body}"
        said = operations(PUBLISHED)[method.lower(), path]["responses"][status.read_text()]["content"]
        if schema := said.get("application/json", {}).get("schema"):
            whole = {**PUBLISHED, "$ref": schema["$ref"]} if "$ref" in schema else schema
            Draft202012Validator(whole).validate(json.loads(body))


def _in_a_sensible_order(blocks: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """What is given back was reserved before, what is resumed was paused, and what is stopped is started again."""
    order = ("allocate", "started", "deallocate", "throttle", "pause", "resume", "stop", "start")
    acts = sorted((one for one in blocks if one[0] == "POST"), key=lambda one: order.index(one[1].rpartition("/")[2]))
    return [*(one for one in blocks if one[0] != "POST"), *acts]
