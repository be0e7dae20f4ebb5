"""`/openapi.json`: the whole API as OpenAPI 3.1, from the routes and their Structs."""

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Final

import msgspec
from aiohttp import web
from msgspec import Struct

from supervisor.api.bodies import LARGEST_BYTES
from supervisor.api.plain import PLAIN, Plain
from supervisor.api.problems import MEDIA_TYPE as PROBLEM
from supervisor.api.problems import Problem
from supervisor.config import Auth
from supervisor.route import Nothing, Route

_JSON: Final = "application/json"
_TOKEN: Final = "token"
_REFERENCE: Final = "#/components/schemas/{name}"
_PROBLEM: Final = {"$ref": "#/components/schemas/Problem"}
_OF_BODIES: Final = {
    400: "The body is not JSON, or is missing.",
    408: "The body does not come.",
    413: f"The body is larger than {LARGEST_BYTES} bytes.",
    415: "The body is not JSON by its Content-Type.",
}
_DESCRIPTION: Final = """\
What Flyball knows of this host's GPUs, and what may be asked of it. Every key carries its unit. Errors are RFC 9457
problems: `detail` says what is wrong, where, why and what to do; `errors` lists every fault of a request."""


def routes(table: Sequence[Route], needs_token: Auth) -> list[web.RouteDef]:
    """Serves the document on `table`."""
    body = msgspec.json.encode(document(table, needs_token))

    async def show(request: web.Request) -> web.Response:
        return web.Response(body=body, content_type=_JSON)

    return [web.get("/openapi.json", show)]


def document(table: Iterable[Route], needs_token: Auth = "changes") -> dict[str, Any]:
    """The document; `needs_token` tells which requests need the token."""
    routes = sorted(table, key=lambda route: route.path)
    types = _Types(routes)
    paths: dict[str, dict[str, Any]] = {}
    for plain in PLAIN:
        secured = needs_token == "all" and not plain.is_open
        paths.setdefault(plain.path, {})["get"] = _plain_operation(plain, types, secured=secured)
    for route in routes:
        secured = needs_token == "all" or (needs_token == "changes" and route.changes)
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, types, secured=secured)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Flyball",
            "version": version("flyball-supervisor"),
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": types.named(),
            "securitySchemes": {
                _TOKEN: {"type": "http", "scheme": "bearer", "description": "what `token` in the state directory holds"}
            },
        },
    }


class _Types:
    """The schemas of all types of the API, made together: where two have one name, both get a longer one."""

    def __init__(self, routes: Sequence[Route]) -> None:
        """Those of `routes`, of what is served beside them, and of problems."""
        bodies = [kind for route in routes for kind in (route.answer, *route.further.values(), route.body)]
        parameters: list[Any] = [kind for route in routes for kind in (route.query, route.path_kind)]
        parameters += [plain.query for plain in PLAIN]
        kinds = [kind for kind in (*bodies, *parameters, Problem) if kind is not None]
        schemas, named = msgspec.json.schema_components(kinds, ref_template=_REFERENCE)
        self._named = {name: _clean(component) for name, component in named.items()}
        self._schemas = {id(kind): schema for kind, schema in zip(kinds, schemas, strict=True)}
        self._parameters = {self._name(kind) for kind in parameters}

    def schema(self, kind: Any) -> dict[str, Any]:
        """The schema of a type of the API, mostly a reference."""
        return self._schemas[id(kind)]

    def fields(self, kind: type[Struct]) -> tuple[Mapping[str, Any], Sequence[str]]:
        """The schemas of a Struct's fields, and which of them are required."""
        component = self._named[self._name(kind)]
        return component["properties"], component["required"]

    def named(self) -> dict[str, Any]:
        """What references lead to; a Struct of parameters is spread over them."""
        return {name: schema for name, schema in sorted(self._named.items()) if name not in self._parameters}

    def _name(self, kind: Any) -> str:
        name: str = self._schemas[id(kind)]["$ref"].rpartition("/")[2]
        return name


def _operation(route: Route, types: _Types, *, secured: bool) -> dict[str, Any]:
    examples = route.example
    operation: dict[str, Any] = _head(route.method, route.path, route.summary, secured=secured)
    operation["parameters"] = [
        *_parameters(route.path_kind, "path", examples and examples.path, types),
        *_parameters(route.query, "query", examples and examples.query, types),
        *_header_parameters(route.headers),
    ]
    if route.body is not None:
        content: dict[str, Any] = {"schema": types.schema(route.body)}
        if examples and examples.body is not None:
            content["example"] = shown(examples.body)
        operation["requestBody"] = {"required": _is_needed(route.body), "content": {_JSON: content}}
    answers = {
        status: {"description": HTTPStatus(status).phrase, "content": {_JSON: {"schema": types.schema(kind)}}}
        for status, kind in {route.status: route.answer, **route.further}.items()
    }
    faults = (
        {422: "The request is not of the shape that is asked for."} if operation["parameters"] or route.body else {}
    )
    problems = {**(_OF_BODIES if route.body is not None else {}), **faults, **route.problems}
    operation["responses"] = _responses(answers, problems, secured=secured)
    return operation


def _is_needed(body: Any) -> bool:
    """Whether a body must be there: a Struct that is all defaults need not."""
    is_struct = isinstance(body, type) and issubclass(body, Struct)
    return not is_struct or any(field.required for field in msgspec.structs.fields(body))


def _plain_operation(plain: Plain, types: _Types, *, secured: bool) -> dict[str, Any]:
    operation = _head("GET", plain.path, plain.summary, secured=secured)
    operation["parameters"] = [
        *_parameters(plain.query, "query", None, types),
        *_header_parameters(plain.headers),
    ]
    answers = {
        status: {"description": said.when, "content": {said.media_type: {"schema": said.schema}}}
        for status, said in plain.answers.items()
    }
    operation["responses"] = _responses(answers, {}, secured=secured)
    return operation


def _head(method: str, path: str, summary: str, *, secured: bool) -> dict[str, Any]:
    words = re.findall(r"[a-z]+", path.lower().removeprefix("/api"))
    return {
        "operationId": "_".join([method.lower(), *words]),
        "tags": words[:1] if path.startswith("/api") else ["supervisor"],
        "summary": summary,
        "security": [{_TOKEN: []}] if secured else [],
    }


def _parameters(kind: type[Struct], where: str, example: Any, types: _Types) -> list[dict[str, Any]]:
    if kind is Nothing:
        return []
    properties, required = types.fields(kind)
    examples = {} if example is None else shown(example)
    parameters = []
    for name, schema in properties.items():
        parameter = {"name": name, "in": where, "required": name in required, "schema": schema}
        if "description" in schema:
            parameter["description"] = schema["description"]
        if name in examples:
            parameter["example"] = examples[name]
        parameters.append(parameter)
    return parameters


def _header_parameters(headers: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "header", "required": False, "description": meaning, "schema": {"type": "string"}}
        for name, meaning in headers.items()
    ]


def _responses(answers: Mapping[int, Any], problems: Mapping[int, str], *, secured: bool) -> dict[str, Any]:
    always = {403: "The Host or the page that asks is not of this server."}
    token = {401: "The token is missing or wrong."} if secured else {}
    told = {status: _problem(when) for status, when in {**token, **always, **problems}.items()}
    responses = {str(status): said for status, said in sorted({**told, **answers}.items())}
    return {**responses, "default": _problem("Any other error.")}


def _problem(when: str) -> dict[str, Any]:
    return {"description": when, "content": {PROBLEM: {"schema": _PROBLEM}}}


def shown(example: Any) -> Any:
    """What an example says beyond the defaults of its Struct."""
    values = msgspec.to_builtins(example)
    if not isinstance(example, Struct):
        return values
    defaults = {field.encode_name: field.default for field in msgspec.structs.fields(example)}
    return {name: value for name, value in values.items() if value != defaults[name]}


def _clean(schema: dict[str, Any]) -> dict[str, Any]:
    if "description" in schema:
        return schema | {"description": inspect.cleandoc(schema["description"])}
    return schema
