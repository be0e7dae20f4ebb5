"""What can be configured, read from the settings Structs: each key with what it accepts, its default and its meaning.

The meaning is the `#:` comment above a field, so it stands in one place.
"""

import ast
import inspect
import sys
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from typing import Annotated, Any, Final, get_args, get_origin

from msgspec import NODEFAULT, Struct
from msgspec.structs import fields

from supervisor.config import CORE_SECTIONS, Config, WorkloadSection
from supervisor.configuration.counters import CounterSection
from supervisor.configuration.wording import accepted

_COMMENT: Final = "#:"


class Setting(Struct, frozen=True):
    """One key; `kind` is its type, and `default` is `NODEFAULT` where the key must be given."""

    key: str
    kind: Any
    accepts: str
    default: Any
    meaning: str


class Section(Struct, frozen=True):
    """A table of the configuration; `header` is as TOML writes it, empty for the top level."""

    header: str
    meaning: str
    settings: tuple[Setting, ...]


def reference(handler_sections: Mapping[str, type[Struct]]) -> list[Section]:
    """Every section: the top level, the core's, the declared workloads with their counters, then the handlers' own."""
    top = [one for one in settings_of(Config) if one.key == "dry_run"]
    return [
        Section("", "What stands above every table.", tuple(top)),
        *(_section(f"[{name}]", kind) for name, kind in CORE_SECTIONS.items()),
        _section("[[workload]]", WorkloadSection, apart=("counters",)),
        _section("[[workload.counters]]", CounterSection),
        *(_section(f"[{name}]", kind) for name, kind in sorted(handler_sections.items()) if fields(kind)),
    ]


def _section(header: str, kind: type[Struct], apart: Collection[str] = ()) -> Section:
    """A table without the keys in `apart`, which have tables of their own."""
    meaning = inspect.getdoc(kind) or ""
    meaning = meaning.removeprefix(f"`{header}`").lstrip(":; ")
    rows = (one for one in settings_of(kind) if one.key not in apart)
    return Section(header, meaning[:1].upper() + meaning[1:], tuple(rows))


def settings_of(kind: type[Struct], prefix: str = "") -> Iterator[Setting]:
    """Every key of a section; those of a table in it with `prefix` and its name before them."""
    meanings = _meanings(kind)
    for field in fields(kind):
        bare = get_args(field.type)[0] if get_origin(field.type) is Annotated else field.type
        key = prefix + field.encode_name
        if isinstance(bare, type) and issubclass(bare, Struct):
            yield from settings_of(bare, f"{key}.")
            continue
        default = field.default if field.default_factory is NODEFAULT else field.default_factory()
        yield Setting(key, field.type, accepted(field.type), default, meanings.get(field.name, ""))


def _meanings(kind: type[Struct]) -> dict[str, str]:
    """The `#:` comment above (or behind) each field of a class, by the field's name."""
    lines, classes = _source(kind.__module__)
    return {
        node.target.id: _comment(lines, node.lineno - 1)
        for node in classes.get(kind.__name__, ())
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }


@cache
def _source(module: str) -> tuple[list[str], dict[str, list[ast.stmt]]]:
    """The lines of a module, and the body of each class in it."""
    try:
        source = inspect.getsource(sys.modules[module])
    except OSError:  # compiled, or made at run time
        return [], {}
    classes = {node.name: node.body for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)}
    return source.splitlines(), classes


def _comment(lines: list[str], at: int) -> str:
    found: list[str] = []
    for line in reversed(lines[:at]):
        if not line.strip().startswith(_COMMENT):
            break
        found.insert(0, line.strip().removeprefix(_COMMENT).strip())
    _, behind, text = lines[at].partition(_COMMENT)
    return " ".join(found) if found else text.strip() if behind else ""
