"""What the handlers tell of themselves, joined; a handler that fails at it costs its own part, and a sentence."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from schemas.demand import Demand
from supervisor.handler import Handler

T = TypeVar("T")


class Views:
    """The views and demands of all handlers."""

    def __init__(self, handlers: Sequence[Handler]) -> None:
        """Nothing is asked yet."""
        self._handlers = handlers
        self._troubles: dict[str, str] = {}

    def merged(self) -> dict[str, Any]:
        """All views as one: mappings joined, lists chained."""
        merged: dict[str, Any] = {}
        for handler in self._handlers:
            nothing: dict[str, Any] = {}
            for key, value in self._ask(handler, "view", handler.view, nothing).items():
                if isinstance(value, Mapping):
                    merged[key] = {**merged.get(key, {}), **value}
                elif isinstance(value, list | tuple):
                    merged[key] = [*merged.get(key, []), *value]
        return merged

    def demands(self) -> list[Demand]:
        """What all of them demand now."""
        demands: list[Demand] = []
        for handler in self._handlers:
            nothing: Sequence[Demand] = ()
            demands += self._ask(handler, "demands", handler.demands, nothing)
        return demands

    def registered(self) -> dict[int, tuple[float, str]]:
        """The processes that joined as workloads: pid → (start time, name)."""
        registered: dict[int, tuple[float, str]] = self.merged().get("registered", {})
        return registered

    def troubles(self) -> list[str]:
        """Who could not tell, one sentence each."""
        return list(self._troubles.values())

    def _ask(self, handler: Handler, what: str, ask: Callable[[], T], instead: T) -> T:
        try:
            answer = ask()
        except Exception as error:  # noqa: BLE001 - a handler may fail in any way, and becomes a problem in the status
            self._troubles[handler.name] = (
                f"handler {handler.name} cannot tell its {what}: {type(error).__name__}: {error}"
            )
            return instead
        self._troubles.pop(handler.name, None)
        return answer
