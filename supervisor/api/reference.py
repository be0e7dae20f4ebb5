"""`docs/api.md`: every resource with what it takes, what it answers, and a line of curl, from the route table."""

import json
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from shlex import quote
from typing import Any, Final
from urllib.parse import urlencode

from msgspec import NODEFAULT, UNSET, Struct
from msgspec.json import schema_components
from msgspec.structs import fields

from supervisor.api.bodies import LARGEST_BYTES
from supervisor.api.openapi import shown
from supervisor.api.plain import PLAIN, Plain
from supervisor.configuration.reference import Setting, settings_of
from supervisor.route import Example, Nothing, Route

_INTRODUCTION: Final = f"""\
# The HTTP API

Generated from the route table by `./flyball schemas --write`; a test fails when it is stale, and another one runs every
line of curl. The same as OpenAPI 3.1: `/openapi.json`, and [schemas/published](../schemas/published/openapi.json).

Flyball listens at `127.0.0.1:8470` (`[api]` in [settings.md](settings.md)). A change needs the token that the first
start puts into the state directory. Where `api.host` lets others in, all but `/livez` and `/readyz` needs it, and there
should be a proxy with TLS before it: Flyball itself speaks plain HTTP.
```bash
FLYBALL=http://127.0.0.1:8470
TOKEN=$(cat "${{FLYBALL_STATE_DIR:-$HOME/.local/state/flyball}}/token")
```
- Every key carries its unit. What is not known is absent or null, and never a number.
- Errors are `application/problem+json` (RFC 9457): `detail` says what, where, why and what to do; `errors` lists every
  fault of a request. 503 comes with `Retry-After`, and means that nothing was done unless `detail` says otherwise.
- Parameters and keys that nobody knows are errors. A body is `application/json` of at most {LARGEST_BYTES >> 10} KiB.
- Requests that name another host, or come from a page of another origin, are refused; there is no CORS.
"""
_PARAMETERS: Final = "| parameter | in | accepts | default | meaning |\n|---|---|---|---|---|\n"


def page(table: Iterable[Route]) -> str:
    """The page on the routes of `table`, and on what is served beside them."""
    routes = sorted(table, key=lambda route: (route.path, route.method))
    return _INTRODUCTION + "".join(_route(route) for route in routes) + "".join(_plain(plain) for plain in PLAIN)


def curl(route: Route) -> str:
    """A line of curl that asks for the route's example."""
    example = route.example or Example()
    path = route.path.format(**_said(example.path))
    query = f"?{urlencode(said)}" if (said := _said(example.query)) else ""
    words = ["curl -s"]
    if route.method == "PUT" or (route.changes and not _said(example.body)):
        words.append(f"-X {route.method}")
    if route.changes:
        words.append('-H "Authorization: Bearer $TOKEN"')
    if body := _said(example.body):
        words += ["-H 'Content-Type: application/json'", f"-d {quote(json.dumps(body))}"]
    return " ".join([*words, f'"$FLYBALL{path}{query}"'])


def _said(example: Any) -> Any:
    return {} if example is None else shown(example)


def _route(route: Route) -> str:
    parameters = [
        *_rows(route.path_kind, "path"),
        *_rows(route.query, "query"),
        *(f"| `{name}` | header | text | | {_cell(meaning)} |\n" for name, meaning in route.headers.items()),
        *(_rows(route.body, "body") if _is_struct(route.body) else []),
    ]
    answers = {route.status: route.answer, **route.further}
    said = [f"`{status}` {_keys(kind)}" for status, kind in answers.items()]
    said += [f"`{status}` {_sentence(when)}" for status, when in sorted(route.problems.items())]
    return _section(route.method, route.path, route.summary, parameters, curl(route), said)


def _plain(plain: Plain) -> str:
    parameters = [
        *_rows(plain.query, "query"),
        *(f"| `{name}` | header | text | | {_cell(meaning)} |\n" for name, meaning in plain.headers.items()),
    ]
    said = [f"`{status}` {said.when} (`{said.media_type}`)" for status, said in plain.answers.items()]
    stream = "N" if any(one.media_type == "text/event-stream" for one in plain.answers.values()) else ""
    asked = f'curl -s{stream} "$FLYBALL{plain.path}{plain.shown}"'
    return _section("GET", plain.path, plain.summary, parameters, asked, said)


def _section(method: str, path: str, summary: str, parameters: Sequence[str], asked: str, said: Sequence[str]) -> str:
    table = f"{_PARAMETERS}{''.join(parameters)}\n" if parameters else ""
    answers = "".join(f"- {one}\n" for one in said)
    return f"\n## {method} {path}\n{summary}\n\n{table}```bash\n{asked}\n```\n{answers}"


def _rows(kind: Any, where: str) -> list[str]:
    if kind is Nothing:
        return []
    told = _descriptions(kind)
    return [
        f"| `{one.key}` | {where} | {_cell(one.accepts)} | {_default(one.default)} | {_meaning(one, told)} |\n"
        for one in settings_of(kind)
    ]


def _default(default: Any) -> str:
    if default is NODEFAULT:
        return "required"
    return "" if default in (None, (), "", UNSET) else f"`{json.dumps(default)}`"


def _meaning(one: Setting, told: Mapping[str, str]) -> str:
    """What the field's comment says, or else its description; nothing where that is what it accepts."""
    meaning = one.meaning or told.get(one.key, "")
    return "" if meaning == one.accepts else _cell(meaning)


def _descriptions(kind: type[Struct]) -> dict[str, str]:
    (_,), named = schema_components([kind])
    properties = named[kind.__name__]["properties"]
    return {name: schema.get("description", "") for name, schema in properties.items()}


def _keys(kind: Any) -> str:
    if not _is_struct(kind):
        return HTTPStatus.OK.phrase
    return f"{kind.__name__}: " + ", ".join(f"`{one.encode_name}`" for one in fields(kind))


def _sentence(when: str) -> str:
    return f"{when[:1].upper()}{when[1:].removesuffix('.')}."


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Struct)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
