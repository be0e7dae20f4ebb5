"""The settings in force, as `GET /api/gpu/config` shows them; every key is dotted, and secrets are masked."""

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

SCHEMA_VERSION = 1

#: how a change takes hold
Changes = Literal["at once", "at the next start", "in the file only"]


class Origin(Struct, frozen=True):
    """Where a value came from; `where` is the path of the file or the name of the variable."""

    layer: Literal["default", "file", "environment", "command line", "api"] = "default"
    where: str = ""


class Setting(Struct, frozen=True, kw_only=True):
    """One setting: its value now, what it would be by itself, and what it accepts."""

    value: Any
    #: what has been set and holds at the next start, where that is another value
    at_next_start: Any | UnsetType = UNSET
    #: absent where it must be given
    default: Any | UnsetType = UNSET
    origin: Origin
    changes: Changes
    accepts: str
    meaning: str


class SettingChange(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One setting that was changed; `why` says what keeps it from holding now."""

    key: str
    old: Any
    new: Any
    holds: Literal["now", "at the next start"]
    why: str = ""


class Configuration(Struct, frozen=True, kw_only=True):
    """Every setting, by its dotted key."""

    schema_version: int = SCHEMA_VERSION
    #: under the names of the GPU manager that Flyball grew out of
    values: dict[str, Any]
    settings: dict[str, Setting]


class ConfigurationChanged(Configuration, frozen=True, kw_only=True):
    """The same after a change, with what was changed."""

    changed: tuple[SettingChange, ...]
