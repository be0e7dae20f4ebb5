"""Reads the configuration: flags > `FLYBALL_SECTION__KEY` > `flyball.toml` > defaults, and every problem at once."""

import tomllib
from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Annotated, Any, Final, get_args, get_origin

from msgspec import Struct
from msgspec.structs import fields

from supervisor.config import CORE_SECTIONS, Config, WorkloadSection
from supervisor.configuration.conversion import Path, Report, converted, settings
from supervisor.configuration.declarations import check as check_declarations
from supervisor.configuration.wording import shown
from supervisor.errors import ConfigurationError
from supervisor.paths import configuration_file

PREFIX: Final = "FLYBALL_"
#: Read elsewhere or by the SDK; no key of the configuration.
RESERVED: Final = frozenset({"FLYBALL_STATE_DIR", "FLYBALL_CONFIG", "FLYBALL_HOST", "FLYBALL_URL"})
#: A configuration is some kilobytes; whatever is larger was not meant.
_LARGEST_FILE: Final = 1024 * 1024
_TOP_LEVEL: Final = {"dry_run": bool, "workload": tuple[WorkloadSection, ...]}


def load(
    *,
    environ: Mapping[str, str],
    sections: Mapping[str, type[Struct]] | None,
    path: FilePath | None = None,
    flags: Mapping[str, Any] | None = None,
) -> Config:
    """The configuration of all layers, checked as a whole.

    `sections` are the handlers' own, name → settings; None leaves them unread, for a command that needs no handler.
    `path` names the file; without it `supervisor.paths.configuration_file` finds it. `flags` are dotted keys
    (`bus.url`) with TOML values; one that is None was not given.

    :raises ConfigurationError: with every problem in `problems`, each `path: what is wrong, what would be right`.
    """
    kinds = {**CORE_SECTIONS, **(sections or {})}
    layers = _Layers(kinds)
    source = path or configuration_file(environ)
    unreadable = layers.read(source) if source else []
    layers.environment(environ)
    layers.flags(flags or {})
    report = Report(layers.origins)
    config = _build(layers.raw, kinds, report, checks_handlers=sections is not None)
    problems = [*unreadable, *layers.problems, *report.problems]
    if problems:
        raise ConfigurationError(problems, source=str(source) if source else "configuration")
    return config


def scalar(kind: Any, text: str) -> object:
    """`text` from outside the file as a TOML value; for a field of text, what is no TOML string is meant as it is."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, ValueError, RecursionError):
        return text
    if parsed.keys() != {"value"}:  # a line break smuggled in further keys
        return text
    return text if _bare(kind) is str and not isinstance(parsed["value"], str) else parsed["value"]


class _Layers:
    """The raw values of all layers, merged: tables key by key, everything else as a whole."""

    def __init__(self, kinds: Mapping[str, type[Struct]]) -> None:
        self.raw: dict[str, Any] = {}
        self.origins: dict[Path, str] = {}
        self.problems: list[str] = []
        self._kinds = kinds

    def read(self, source: FilePath) -> list[str]:
        """Take up the file; the problems are about the file as such."""
        try:
            with source.open("rb") as file:
                content = file.read(_LARGEST_FILE + 1)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            return [f"{source}: cannot be read: {why}; name a file that can be read, or none for the defaults"]
        if len(content) > _LARGEST_FILE:
            return [f"{source}: is larger than {_LARGEST_FILE} bytes, so it is not a configuration"]
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            return [f"{source}: line {line}: byte 0x{content[error.start]:02x} is not UTF-8; save the file as UTF-8"]
        try:
            self.raw = tomllib.loads(text)
        except ValueError as error:  # also what int() and the dates refuse: tomllib lets that through
            why = str(error).replace("at end of document", f"at line {text.count(chr(10)) + 1}, the end of the file")
            return [f"{source}: is not TOML: {why}"]
        except RecursionError:
            return [f"{source}: is not TOML that can be read: nested too deeply"]
        return []

    def environment(self, environ: Mapping[str, str]) -> None:
        """Take up `FLYBALL_SECTION__KEY` and `FLYBALL_DRY_RUN`; other names without `__` belong to others."""
        for name in sorted(environ):
            key = name.removeprefix(PREFIX).lower()
            if not name.startswith(PREFIX) or name in RESERVED or ("__" not in key and key not in _TOP_LEVEL):
                continue
            self._set(tuple(key.split("__")), environ[name], name)

    def flags(self, flags: Mapping[str, Any]) -> None:
        """Take up what the command line says."""
        for name, value in flags.items():
            if value is not None:
                self._set(tuple(name.split(".")), value, "the command line")

    def _set(self, path: tuple[str, ...], value: Any, origin: str) -> None:
        if path[0] == "workload":
            self.problems.append(f"workload: is set in the file only, as [[workload]] (from {origin})")
            return
        if isinstance(value, str):
            value = scalar(self._kind(path), value)
        table = self.raw
        for part in path[:-1]:
            inner = table.get(part)
            if not isinstance(inner, dict):
                if inner is not None:
                    self.problems.append(f"{part}: {shown(inner)} is not a table")
                inner = table[part] = {}
            table = inner
        table[path[-1]] = value
        self.origins[path] = origin

    def _kind(self, path: tuple[str, ...]) -> Any:
        """The type of the field at `path`; None where there is none, which the conversion reports."""
        kind: Any = self._kinds.get(path[0]) if len(path) > 1 else _TOP_LEVEL.get(path[0])
        for part in path[1:]:
            if not (isinstance(kind, type) and issubclass(kind, Struct)):
                return None
            kind = next((_bare(field.type) for field in fields(kind) if field.encode_name == part), None)
        return kind


def _build(
    raw: Mapping[str, Any], kinds: Mapping[str, type[Struct]], report: Report, *, checks_handlers: bool
) -> Config:
    known = [*kinds, *_TOP_LEVEL]
    elsewhere = [f"{name}.{field.encode_name}" for name, kind in kinds.items() for field in fields(kind)]
    for key in raw:
        if key not in known and (checks_handlers or not isinstance(raw[key], dict)):
            report.unknown((key,), known, elsewhere)
    built = {name: settings(kind, raw.get(name, {}), (name,), report, elsewhere) for name, kind in kinds.items()}
    top = {key: converted(kind, raw[key], (key,), report) for key, kind in _TOP_LEVEL.items() if key in raw}
    check_declarations(raw.get("workload"), report)
    if report.problems:
        return Config()  # never seen: the caller raises
    core: dict[str, Any] = {name: built[name] for name in CORE_SECTIONS}
    own = {name: section for name, section in built.items() if section is not None and name not in CORE_SECTIONS}
    return Config(**core, **top, handlers=own)


def _bare(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind
