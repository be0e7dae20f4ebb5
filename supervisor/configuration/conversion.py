"""Raw TOML values into a settings Struct, field by field, so that every problem is found at once and has a path."""

import difflib
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Annotated, Any, Final, TypeVar, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, Struct
from msgspec.structs import FieldInfo, fields

from supervisor.configuration.wording import accepted, shown

S = TypeVar("S", bound=Struct)

#: Where in the raw values a path such as `workload[0].match` lies, and by which layer it was set.
Path = tuple[str | int, ...]
Origins = Mapping[Path, str]
_INVALID: Final = object()


class Report:
    """The problems found so far, each `path: what is wrong, what would be right`."""

    def __init__(self, origins: Origins) -> None:
        """`origins` names the layer of values that do not come from the file."""
        self.problems: list[str] = []
        self._origins = origins

    def add(self, path: Path, problem: str) -> None:
        """Note a problem of the value at `path`."""
        origin = next((self._origins[path[:end]] for end in range(len(path), 0, -1) if path[:end] in self._origins), "")
        line = f"{dotted(path)}: {problem}" + (f" (from {origin})" if origin else "")
        if line not in self.problems:
            self.problems.append(line)

    def unknown(self, path: Path, known: Collection[str], elsewhere: Collection[str] = ()) -> None:
        """Note that there is no such key; `known` stand beside it, `elsewhere` are dotted keys of other tables."""
        key = str(path[-1])
        near = nearest(key, known) or next((other for other in elsewhere if other.rpartition(".")[2] == key), "")
        right = f"did you mean {near}?" if near else "known here: " + ", ".join(sorted(known))
        self.add(path, f"no such key; {right}")


def dotted(path: Path) -> str:
    """`path` as people write it: `workload[0].match.cmdline`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{_key(part)}" if text else _key(part)
    return text


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that `word` was probably meant to be, or an empty string."""
    return next(iter(difflib.get_close_matches(word.lower(), sorted(known), n=1)), "")


def settings(kind: type[S], raw: object, path: Path, report: Report, elsewhere: Collection[str] = ()) -> S | None:
    """`raw` as a `kind`; None where a problem was reported.

    `kind` may have a method `problems() -> list[str]` for what no single field can tell. It is also asked where a
    field is wrong, with that field's default; what it then says of such a field is left out, for nobody said that.
    """
    if not isinstance(raw, Mapping):
        report.add(path, f"{shown(raw)} is not a table")
        return None
    known = {field.encode_name: field for field in fields(kind)}
    for key in raw:
        if key not in known:
            report.unknown((*path, key), known, elsewhere)
    values: dict[str, Any] = {}
    wrong: list[str] = []
    for key, field in known.items():
        value = _field(field, raw, (*path, key), report)
        if value is not _INVALID:
            values[field.name] = value
        else:
            wrong.append(key)
    if any(known[key].required for key in wrong):
        return None
    try:
        built = kind(**values)
    except (ValueError, TypeError) as error:  # a __post_init__ that refuses
        report.add(path, str(error))
        return None
    consistent = _consistent(built, wrong, path, report)
    return built if consistent and not wrong else None


def _field(field: FieldInfo, raw: Mapping[str, Any], path: Path, report: Report) -> Any:
    """The value of one field; `_INVALID` where a problem was reported."""
    if field.encode_name in raw:
        return converted(field.type, raw[field.encode_name], path, report)
    if field.default is not NODEFAULT:
        return field.default
    if field.default_factory is not NODEFAULT:
        return field.default_factory()
    report.add(path, f"is missing; expected {accepted(field.type)}")
    return _INVALID


def converted(kind: Any, raw: object, path: Path, report: Report) -> Any:
    """`raw` as a `kind`, looking into tables and lists; `_INVALID` where a problem was reported."""
    bare = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    if isinstance(bare, type) and issubclass(bare, Struct):
        table = settings(bare, raw, path, report)
        return _INVALID if table is None else table
    if get_origin(bare) in (tuple, list) and isinstance(raw, list):
        before = len(report.problems)
        for index, item in enumerate(raw):
            converted(get_args(bare)[0], item, (*path, index), report)
        if len(report.problems) > before:
            return _INVALID
    if get_origin(bare) is dict and isinstance(raw, Mapping):
        before = len(report.problems)
        keys, values = get_args(bare)
        for key, item in raw.items():
            converted(keys, key, (*path, key), report)
            converted(values, item, (*path, key), report)
        if len(report.problems) > before:
            return _INVALID
    if isinstance(raw, float) and not math.isfinite(raw):
        report.add(path, f"{raw} is not a finite number")
        return _INVALID
    try:
        return msgspec.convert(raw, type=kind)
    except (msgspec.ValidationError, OverflowError):
        near = nearest(raw, _literals(bare)) if isinstance(raw, str) else ""
        meant = f"; did you mean {near}?" if near else ""
        report.add(path, f"{shown(raw, str(path[-1]))} is not {accepted(kind)}{meant}")
        return _INVALID


def _literals(kind: Any) -> list[str]:
    return [one for one in get_args(kind) if isinstance(one, str)]


def _consistent(built: Struct, wrong: Collection[str], path: Path, report: Report) -> bool:
    check: Callable[[], list[str]] | None = getattr(built, "problems", None)
    found = check() if check else []
    for problem in found:
        said = problem.partition(";")[0]  # what follows is advice, and may name any field
        if not any(re.search(rf"\b{re.escape(key)}\b", said) for key in wrong):
            key, _, text = problem.partition(": ")
            report.add((*path, *key.split(".")), text)
    return not found


def _key(part: str) -> str:
    return part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else repr(part)
