"""The handlers that are installed: the table in pyproject.toml, and what a third party adds to the same group."""

from importlib.metadata import entry_points
from typing import Final

from msgspec import Struct

from supervisor.config import CORE_SECTIONS, Config
from supervisor.errors import FlyballError
from supervisor.handler import Handler

ENTRY_POINTS: Final = "flyball.handlers"
_TAKEN: Final = {*CORE_SECTIONS, *Config.__struct_fields__}


def handlers() -> dict[str, type[Handler]]:
    """Every handler by its name, in the order of names.

    :raises FlyballError: one cannot be loaded, is no handler, or bears a name that is taken.
    """
    found: dict[str, type[Handler]] = {}
    for entry in sorted(entry_points(group=ENTRY_POINTS), key=lambda entry: entry.name):
        try:
            kind = entry.load()
        except (ImportError, AttributeError) as error:
            raise _unusable(entry.name, entry.value, f"it cannot be loaded: {error}") from error
        if not (isinstance(kind, type) and issubclass(kind, Handler)):
            raise _unusable(entry.name, entry.value, "it is not a subclass of supervisor.handler.Handler")
        if kind.name in _TAKEN or kind.name in found:
            raise _unusable(entry.name, entry.value, f"the name {kind.name!r} is taken")
        found[kind.name] = kind
    return found


def handler_sections() -> dict[str, type[Struct]]:
    """The section of each handler in the configuration, for `supervisor.configuration.layers.load`.

    :raises FlyballError: see `handlers`.
    """
    return {name: kind.settings for name, kind in handlers().items()}


def _unusable(name: str, value: str, why: str) -> FlyballError:
    return FlyballError(f"the handler {name} cannot be used", why=why, hint=f"Reinstall or remove what brings {value}")
