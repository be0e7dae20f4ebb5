"""A handler's routes are served like ours; one that cannot be costs nobody else anything."""

from collections.abc import Sequence
from typing import Any

import aiohttp
import msgspec
import pytest
from msgspec import Struct

from schemas.envelope import Event
from schemas.workload import LedgerAnswer
from supervisor.api.brought import brought
from supervisor.api.openapi import document
from supervisor.handler import Asked, Context, Decisions, Draft, GpuQuery, Handler, NoSettings, Nothing, Route
from tests.api.serving import Host, answer, serving


class Told(Struct, frozen=True):
    text: str


class Brings(Handler):
    """Brings the routes that the test gives it."""

    streams = ("events",)

    def __init__(self, name: str, routes: Sequence[Route] | Exception) -> None:
        self.name = name  # type: ignore[misc]  # of a class otherwise
        self._routes = routes

    async def handle(self, event: Event, context: Context) -> Decisions | None:
        return None

    def routes(self) -> Sequence[Route]:
        if isinstance(self._routes, Exception):
            raise self._routes
        return self._routes


def route(path: str, **changes: Any) -> Route:
    fields = {"method": "GET", "summary": "Tells.", "answer": Told, "call": lambda asked: Told("x"), **changes}
    return Route(path=path, **fields)


async def nobody(handler: str, decisions: Decisions) -> Sequence[LedgerAnswer]:
    return ()


async def test_a_route_decides_as_its_handler() -> None:
    asked_of: list[str] = []

    async def decide(handler: str, decisions: Decisions) -> Sequence[LedgerAnswer]:
        asked_of.append(f"{handler}: {decisions.events[0].text}")
        return [LedgerAnswer(request="r", allocation_id="a", outcome="released", text="given back")]

    async def call(asked: Asked) -> Told:
        assert asked.decide is not None
        (said,) = await asked.decide(Decisions(events=[Draft("t", "s", f"{asked.who} asks", Nothing())]))
        return Told(said.text)

    handlers = [Brings(name, [route(f"/api/{name}", method="POST", call=call)]) for name in ("one", "two")]
    contents = Host().contents(routes=brought(handlers, [], decide))
    async with serving(Host(), routes=contents.routes) as server, aiohttp.ClientSession(server.url) as client:
        for name in ("one", "two"):
            assert (await answer(client, f"/api/{name}", "POST"))[::2] == (200, {"text": "given back"})
    assert asked_of == ["one: api 127.0.0.1 asks", "two: api 127.0.0.1 asks"]


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (RuntimeError("no routes today"), "no routes today"),
        ([route("/api/status")], "another one has that path"),
        ([route("/metrics")], "another one has that path"),
        ([route("/healthz")], "does not begin with /api/"),
        ([route("/api/x", answer=object())], "has no schema"),
        ([route("/api/x", body=complex)], "has no schema"),
        ([route("/api/{bad")], "Invalid path '/api/{bad'"),
        ([route("/api/{a:[}")], "unterminated character set"),
        ([route("/api/x", method="NO GET")], "is not allowed HTTP method"),
    ],
)
def test_what_cannot_be_served_costs_itself_alone(bad: Any, why: str, caplog: pytest.LogCaptureFixture) -> None:
    good = route("/api/good")
    found = brought([Brings("bad", bad), Brings("good", [good])], [route("/api/status")], nobody)
    assert [one for one, _ in found] == [good]
    assert "handler bad" in caplog.text
    assert why in caplog.text


def test_types_of_one_name_are_told_apart() -> None:
    """Two handlers know nothing of each other."""
    other = msgspec.defstruct("Told", [("number", int)], module="other.handler")
    openapi = document([route("/api/a"), route("/api/b", answer=other, query=GpuQuery)])
    kinds = [
        openapi["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]["$ref"]
        for path in ("/api/a", "/api/b")
    ]
    schemas = [openapi["components"]["schemas"][kind.rpartition("/")[2]] for kind in kinds]
    assert [[*schema["properties"]] for schema in schemas] == [["text"], ["number"]]
    assert "GpuQuery" not in openapi["components"]["schemas"]
    assert NoSettings.__name__ not in openapi["components"]["schemas"]
