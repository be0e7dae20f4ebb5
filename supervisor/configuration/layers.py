"""Reads the configuration: API > flags > `FLYBALL_SECTION__KEY` > file > defaults, and every problem at once."""

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath
from typing import Annotated, Any, Final, get_args, get_origin

from msgspec import Struct
from msgspec.structs import fields

from schemas.config import Origin
from supervisor.config import CORE_SECTIONS, Config, WorkloadSection
from supervisor.configuration.conversion import Path, Report, converted, settings
from supervisor.configuration.declarations import check as check_declarations
from supervisor.configuration.wording import shown
from supervisor.errors import ConfigurationError
from supervisor.paths import configuration_file

PREFIX: Final = "FLYBALL_"
#: Read elsewhere or by the SDK; no key of the configuration.
RESERVED: Final = frozenset({"FLYBALL_STATE_DIR", "FLYBALL_CONFIG", "FLYBALL_HOST", "FLYBALL_URL"})
TOP_LEVEL: Final[Mapping[str, Any]] = {"dry_run": bool, "workload": tuple[WorkloadSection, ...]}
#: From the lowest to the highest.
LAYERS: Final = ("default", "file", "environment", "command line", "api")
#: No setting lies deeper; what does is unknown as a whole.
_DEEPEST: Final = 8
#: A configuration is some kilobytes; whatever is larger was not meant.
_LARGEST_FILE: Final = 1024 * 1024


class Effective(Struct, frozen=True):
    """A configuration that was checked as a whole, and where its values came from."""

    config: Config
    origins: Mapping[Path, Origin]

    def origin(self, key: str) -> Origin:
        """Where the value of a dotted key came from; of a whole table, the highest layer that has a part in it."""
        path = tuple(key.split("."))
        found = [origin for place, origin in self.origins.items() if place[: len(path)] == path]
        return max(found, key=lambda origin: LAYERS.index(origin.layer), default=Origin())


class Sources(Struct, frozen=True, kw_only=True):
    """Where the configuration of this process is read from, as often as need be.

    `sections` are the handlers' own, name → settings; None leaves them unread, for a command that needs no handler.
    `path` names the file; without it `supervisor.paths.configuration_file` finds it. `flags` are dotted keys
    (`bus.url`) with TOML values; one that is None was not given.
    """

    environ: Mapping[str, str]
    sections: Mapping[str, type[Struct]] | None
    path: FilePath | None = None
    flags: Mapping[str, Any] = {}

    def read(self) -> "Layers":
        """What they say now; what is wrong with it is told by `Layers.under`."""
        return Layers(self)


def load(
    *,
    environ: Mapping[str, str],
    sections: Mapping[str, type[Struct]] | None,
    path: FilePath | None = None,
    flags: Mapping[str, Any] | None = None,
) -> Config:
    """The configuration of all layers below the API, checked as a whole; see `Sources` for what they are.

    :raises ConfigurationError: with every problem in `problems`, each `path: what is wrong, what would be right`.
    """
    return Sources(environ=environ, sections=sections, path=path, flags=flags or {}).read().under().config


def scalar(kind: Any, text: str) -> object:
    """`text` from outside the file as a TOML value; for a field of text, what is no TOML string is meant as it is."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, ValueError, RecursionError):
        return text
    if parsed.keys() != {"value"}:  # a line break smuggled in further keys
        return text
    return text if _bare(kind) is str and not isinstance(parsed["value"], str) else parsed["value"]


class Layers:
    """What file, environment and command line say, merged: tables key by key, everything else as a whole."""

    def __init__(self, sources: Sources) -> None:
        """Read all of them."""
        self._kinds = {**CORE_SECTIONS, **(sources.sections or {})}
        self._reads_handlers = sources.sections is not None
        self._raw: dict[str, Any] = {}
        self._origins: dict[Path, Origin] = {}
        self._problems: list[str] = []
        #: The file that was read.
        self.source = sources.path or configuration_file(sources.environ)
        if self.source:
            self._raw = self._document(self.source)
            self._origins |= dict.fromkeys(_leaves((), self._raw), Origin("file", str(self.source)))
        self._environment(sources.environ)
        for key, value in sources.flags.items():
            if value is not None:
                self._set(tuple(key.split(".")), value, Origin("command line"))

    def under(self, values: Mapping[str, Any] | None = None, kept_in: str = "", *, asked: bool = False) -> Effective:
        """All of it, with `values` of the API (by dotted key, as wholes) on top.

        They are kept in the file `kept_in`. Where they are just `asked` for, problems with them do not say from where
        they come.

        :raises ConfigurationError: with every problem in `problems`, each `path: what is wrong, what would be right`.
        """
        raw, origins = dict(self._raw), dict(self._origins)
        for key, value in (values or {}).items():
            _put(raw, origins, tuple(key.split(".")), value, Origin("api", kept_in))
        mentioned = {path: origin for path, origin in origins.items() if not (asked and origin.layer == "api")}
        known = {*self._kinds, *TOP_LEVEL}
        # nobody looks into a table that is unknown, so its name stands for what is in it
        named = {path if path[0] in known else path[:1]: _words(origin) for path, origin in mentioned.items()}
        report = Report({path: words for path, words in named.items() if words})
        config = _build(raw, self._kinds, report, checks_handlers=self._reads_handlers)
        problems = [*self._problems, *report.problems]
        if problems:
            raise ConfigurationError(problems, source=str(self.source or "configuration"))
        return Effective(config, origins)

    def _document(self, source: FilePath) -> dict[str, Any]:
        """What the file says; problems with it as such are noted."""
        try:
            with source.open("rb") as file:
                content = file.read(_LARGEST_FILE + 1)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            return self._unusable(f"cannot be read: {why}; name a file that can be read, or none for the defaults")
        if len(content) > _LARGEST_FILE:
            return self._unusable(f"is larger than {_LARGEST_FILE} bytes, so it is not a configuration")
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            return self._unusable(
                f"line {line}: byte 0x{content[error.start]:02x} is not UTF-8; save the file as UTF-8"
            )
        try:
            return tomllib.loads(text)
        except ValueError as error:  # also what int() and the dates refuse: tomllib lets that through
            why = str(error).replace("at end of document", f"at line {text.count(chr(10)) + 1}, the end of the file")
            return self._unusable(f"is not TOML: {why}")
        except RecursionError:
            return self._unusable("is not TOML that can be read: nested too deeply")

    def _unusable(self, why: str) -> dict[str, Any]:
        self._problems.append(f"{self.source}: {why}")
        return {}

    def _environment(self, environ: Mapping[str, str]) -> None:
        """Take up `FLYBALL_SECTION__KEY` and `FLYBALL_DRY_RUN`; other names without `__` belong to others."""
        for name in sorted(environ):
            key = name.removeprefix(PREFIX).lower()
            if not name.startswith(PREFIX) or name in RESERVED or ("__" not in key and key not in TOP_LEVEL):
                continue
            self._set(tuple(key.split("__")), environ[name], Origin("environment", name))

    def _set(self, path: tuple[str, ...], value: Any, origin: Origin) -> None:
        if path[0] == "workload":
            self._problems.append(f"workload: is set in the file only, as [[workload]] (from {_words(origin)})")
            return
        if isinstance(value, str):
            value = scalar(self._kind(path), value)
        self._problems += _put(self._raw, self._origins, path, value, origin)

    def _kind(self, path: tuple[str, ...]) -> Any:
        """The type of the field at `path`; None where there is none, which the conversion reports."""
        kind: Any = self._kinds.get(path[0]) if len(path) > 1 else TOP_LEVEL.get(path[0])
        for part in path[1:]:
            if not (isinstance(kind, type) and issubclass(kind, Struct)):
                return None
            kind = next((_bare(field.type) for field in fields(kind) if field.encode_name == part), None)
        return kind


def _words(origin: Origin) -> str:
    """What a problem says of where a value came from; nothing of the file, which is named above all problems."""
    match origin.layer:
        case "environment":
            return origin.where
        case "command line":
            return "the command line"
        case "api":
            return f"the API, kept in {origin.where}"
        case _:
            return ""


def _put(
    raw: dict[str, Any], origins: dict[Path, Origin], path: tuple[str, ...], value: Any, origin: Origin
) -> list[str]:
    """Set one value, and note where it came from; what is in the way of its table is a problem.

    The tables in `raw` are replaced, not changed: other layers may hold them, too.
    """
    problems = []
    table = raw
    for part in path[:-1]:
        inner = table.get(part)
        if inner is not None and not isinstance(inner, dict):
            problems.append(f"{part}: {shown(inner)} is not a table")
        table[part] = table = dict(inner) if isinstance(inner, dict) else {}
    table[path[-1]] = value
    for place in [place for place in origins if place[: len(path)] == path]:
        del origins[place]
    origins.update(dict.fromkeys(_leaves(path, value), origin))
    return problems


def _leaves(path: Path, value: Any) -> Iterator[Path]:
    """Where the values in `value`, which is at `path`, lie; not recursive, for a key may have thousands of parts."""
    found: list[tuple[Path, Any]] = [(path, value)]
    while found:
        path, value = found.pop()
        if isinstance(value, Mapping) and value and len(path) < _DEEPEST:
            found += [((*path, key), inner) for key, inner in value.items()]
        elif path:
            yield path


def _build(
    raw: Mapping[str, Any], kinds: Mapping[str, type[Struct]], report: Report, *, checks_handlers: bool
) -> Config:
    known = [*kinds, *TOP_LEVEL]
    elsewhere = [f"{name}.{field.encode_name}" for name, kind in kinds.items() for field in fields(kind)]
    for key in raw:
        if key not in known and (checks_handlers or not isinstance(raw[key], dict)):
            report.unknown((key,), known, elsewhere)
    built = {name: settings(kind, raw.get(name, {}), (name,), report, elsewhere) for name, kind in kinds.items()}
    top = {key: converted(kind, raw[key], (key,), report) for key, kind in TOP_LEVEL.items() if key in raw}
    check_declarations(raw.get("workload"), report)
    if report.problems:
        return Config()  # never seen: the caller raises
    core: dict[str, Any] = {name: built[name] for name in CORE_SECTIONS}
    own = {name: section for name, section in built.items() if section is not None and name not in CORE_SECTIONS}
    return Config(**core, **top, handlers=own)


def _bare(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind
