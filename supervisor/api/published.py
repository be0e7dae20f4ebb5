"""The generated documents of the API: the OpenAPI document, and the page for people."""

import json
from types import SimpleNamespace
from typing import Any, Final, cast

from supervisor.api import openapi, reference
from supervisor.api.table import own_routes
from supervisor.configuration.catalogue import Catalogue
from supervisor.handler import Handler
from supervisor.installed import handlers
from supervisor.route import Route
from supervisor.runtime.live import Live
from supervisor.runtime.monitoring import Monitoring

OPENAPI: Final = "schemas/published/openapi.json"
PAGE: Final = "docs/api.md"


def documents() -> dict[str, str]:
    """The text of each, by its path from the root of the repository."""
    table = routes()
    return {
        OPENAPI: json.dumps(openapi.document(table), indent=2, ensure_ascii=False) + "\n",
        PAGE: reference.page(table),
    }


def routes() -> list[Route]:
    """Every route of ours; nobody stands behind them, so they can be read and not asked."""
    kinds = {name: kind for name, kind in handlers().items() if kind.__module__.startswith("handlers.")}
    at_once = [name for name, kind in kinds.items() if kind.reconfigure is not Handler.reconfigure]
    catalogue = Catalogue({name: kind.settings for name, kind in kinds.items()}, at_once)
    nobody: Any = None
    own = own_routes(
        status=nobody, standing=nobody, ask=nobody, monotonic_s=nobody, monitoring=cast(Monitoring, nobody),
        live=cast(Live, SimpleNamespace(catalogue=catalogue)),
    )  # fmt: skip
    return [*own, *(route for kind in kinds.values() for route in kind(kind.settings(), ()).routes())]
