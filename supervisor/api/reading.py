"""Reads what a request says into the Structs of its route, strictly, and tells everything that is wrong at once.

Text is not guessed at: in a query `1.5` is no whole number and `yes` no boolean, and a name that nobody knows is an
error, since it is a slip more often than not.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar, get_args, get_origin

import msgspec
from msgspec import Struct
from msgspec.structs import FieldInfo, fields

from supervisor.api.problems import Fault
from supervisor.configuration.conversion import Path, Report, dotted, nearest, settings
from supervisor.configuration.wording import accepted, shown
from supervisor.route import Refusal

S = TypeVar("S", bound=Struct)

#: Who sends more faults than this sends noise, and each costs time.
_FAULTS_MOST: Final = 20
_NAME_SHOWN: Final = 60
_BOOLEANS: Final = ("true", "false")


def read_query(kind: type[S], pairs: Iterable[tuple[str, str]]) -> S:
    """The parameters behind the question mark; one whose field is a tuple may come several times.

    :raises Refusal: 422 with what is wrong.
    """
    return _read_texts(kind, pairs, "query")


def read_path(kind: type[S], values: Mapping[str, str]) -> S:
    """The parameters within the path.

    :raises Refusal: 422 with what is wrong.
    """
    return _read_texts(kind, values.items(), "path")


def read_body(kind: Any, body: bytes) -> Any:
    """A JSON body as a `kind`, a Struct or any type that msgspec has a schema for; nothing at all stands for `{}`.

    :raises Refusal: 400 where it is no JSON, 422 with what is wrong with it.
    """
    try:
        read = _decoded(body, kind)
    except msgspec.ValidationError as error:
        raise _refused_body(_body_faults(kind, body, error), empty=not body) from error
    check = getattr(read, "problems", None)
    if check is not None and check():
        raise _refused_body(_body_faults(kind, body, None), empty=not body)
    return read


def _decoded(body: bytes, kind: Any = Any) -> Any:
    """:raises Refusal: 400 where it is no JSON. :raises msgspec.ValidationError: it is none that is wanted."""
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except msgspec.ValidationError:
        raise
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal(400, f"the body is not JSON: {_why_not_json(error)}") from error


class _Faults(Report):
    """Collects faults of a body, up to a limit."""

    def __init__(self) -> None:
        super().__init__({})
        self.found: list[Fault] = []

    def add(self, path: Path, problem: str) -> None:
        self.problems.append(problem)
        if len(self.found) < _FAULTS_MOST:
            short = tuple(part[:_NAME_SHOWN] if isinstance(part, str) else part for part in path)
            what = f"{dotted(short)}: {problem}" if short else f"the body: {problem}"
            self.found.append(Fault(detail=what, pointer=_pointer(short)))

    def unknown(self, path: Path, known: Any, elsewhere: Any = ()) -> None:
        if len(self.found) < _FAULTS_MOST:  # to look for what was meant takes its time
            super().unknown((*path[:-1], str(path[-1])[:_NAME_SHOWN]), known)
        else:
            self.problems.append("")


def _body_faults(kind: Any, body: bytes, error: msgspec.ValidationError | None) -> list[Fault]:
    """Everything that is wrong, in words; at least what msgspec said."""
    faults = _Faults()
    try:
        raw = _decoded(body)
    except msgspec.ValidationError as unreadable:  # a number that no double holds
        return [Fault(detail=str(unreadable), pointer="#")]
    if isinstance(kind, type) and issubclass(kind, Struct):
        settings(kind, raw, (), faults)
    if not faults.found and error is not None:
        faults.add((), str(error))
    return faults.found


def _refused_body(faults: list[Fault], *, empty: bool) -> Refusal:
    if empty:
        return Refusal(400, f"a body is needed: {_joined(faults)}")
    return Refusal(422, _joined(faults), {"errors": faults})


def _why_not_json(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "a string in it is not UTF-8"
    return str(error).removeprefix("JSON is malformed: ")


def _pointer(path: Path) -> str:
    parts = (str(part).replace("~", "~0").replace("/", "~1") for part in path)
    return "#" + "".join(f"/{part}" for part in parts)


# -- text ----------------------------------------------------------------------------------------------------------


def _read_texts(kind: type[S], pairs: Iterable[tuple[str, str]], where: str) -> S:
    known = {field.encode_name: field for field in fields(kind)}
    given: dict[str, Any] = {}
    faults: list[Fault] = []
    for name, text in pairs:
        if len(faults) >= _FAULTS_MOST:
            break
        if name not in known:
            faults.append(_unknown(name, known, where))
        elif _is_list(known[name].type):
            given.setdefault(name, []).append(text)
        elif name in given:
            faults.append(Fault(detail=f"{name}: is there more than once; give it once", parameter=name))
        else:
            given[name] = text
    values: dict[str, Any] = {}
    for name, field in known.items():
        try:
            if name in given:
                values[field.name] = _value(field.type, given[name])
            elif field.required:
                faults.append(Fault(detail=f"{name}: is missing; expected {accepted(field.type)}", parameter=name))
        except (msgspec.ValidationError, ValueError):
            faults.append(Fault(detail=_mistaken(name, given[name], field), parameter=name))
    if faults:
        raise Refusal(422, _joined(faults), {"errors": faults})
    return kind(**values)


def _value(kind: Any, given: str | list[str]) -> Any:
    """A text as a `kind`; stricter than msgspec with booleans and numbers.

    :raises ValueError: it is none.
    """
    value = msgspec.convert(given, type=kind, strict=False)
    if isinstance(value, bool) and given not in _BOOLEANS:
        raise ValueError(f"{given!r} is not true or false")
    if isinstance(value, int) and not isinstance(value, bool) and not str(given).lstrip("-").isdigit():
        raise ValueError(f"{given!r} is not a whole number")
    if (isinstance(value, float) and not math.isfinite(value)) or value is None:
        raise ValueError(f"{given!r} is not a finite number")
    return value


def _mistaken(name: str, given: str | list[str], field: FieldInfo) -> str:
    said = ", ".join(shown(one, name) for one in ([given] if isinstance(given, str) else given[:_FAULTS_MOST]))
    return f"{name}: {said} is not {accepted(field.type)}"


def _unknown(name: str, known: Mapping[str, FieldInfo], where: str) -> Fault:
    name = name[:_NAME_SHOWN]
    near = nearest(name, known)
    right = f"did you mean {near}?" if near else f"known here: {', '.join(known)}" if known else "none is taken here"
    return Fault(detail=f"{name!r}: no such parameter of the {where}; {right}", parameter=name)


def _is_list(kind: Any) -> bool:
    bare = get_args(kind)[0] if hasattr(kind, "__metadata__") else kind
    return get_origin(bare) in (tuple, list)


def _joined(faults: list[Fault]) -> str:
    return "; ".join(fault.detail for fault in faults)
