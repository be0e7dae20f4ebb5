"""What a field of the configuration accepts and what it got, in words that people read and without secrets."""

from collections.abc import Mapping
from datetime import date, time
from typing import Any, Final

from msgspec import inspect, to_builtins

from schemas.workload import NAME_PATTERN, TARGET_PATTERN
from supervisor.masking import is_secret, masked

_SHOWN: Final = 60
_PATTERNS: Final = {
    NAME_PATTERN: "a name of 1 to 64 of A-Z a-z 0-9 . _ -",
    TARGET_PATTERN: "a target (gpu0, gpu1 …, host or workload.NAME)",
}


def displayed(value: Any, key: str) -> Any:
    """The value of the setting `key` as JSON for everybody to read: whole, but without what may be a secret."""
    return _without_secrets(to_builtins(value), key)


def _without_secrets(value: Any, key: str) -> Any:
    if is_secret(key.rpartition(".")[2]) and value not in ("", None):
        return "***"
    if key in {"command", "restart"} and isinstance(value, list | tuple):
        return [*value[:1], *["***"] * (len(value) > 1)]  # arguments may hold anything
    if key == "body" and value:
        return "***"  # as may what is sent to a workload
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, Mapping):
        return {name: _without_secrets(inner, name) for name, inner in value.items()}
    return [_without_secrets(inner, key) for inner in value] if isinstance(value, list | tuple) else value


def shown(value: object, key: str = "") -> str:
    """`value` as an error shows it: short, masked, and a table or list by its kind only."""
    if is_secret(key):
        return "the value"
    match value:
        case bool():
            return str(value).lower()
        case float() if value.is_integer():
            return f"{value:g}"
        case int() | float():
            return _shortened(str(value)) if not isinstance(value, int) or value.bit_length() < 256 else "this number"
        case str():
            return _shortened(repr(masked(value)))
        case dict():
            return "a table"
        case list() | tuple():
            return "a list"
        case date() | time():
            return f"the date {value}"
        case _:
            return f"a value of type {type(value).__name__}"


def accepted(kind: Any) -> str:
    """What a field of type `kind` accepts: `a whole number from 0 to 65535`, `one of run, hold`.

    A pattern is told by the field's own description (`Meta(description=…)`) where it has one.
    """
    return _words(inspect.type_info(kind))


def _words(kind: inspect.Type, description: str = "") -> str:
    match kind:
        case inspect.Metadata():
            return _words(kind.type, (kind.extra_json_schema or {}).get("description", "") or description)
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType():
            return "a whole number" + _bounds(kind)
        case inspect.FloatType():
            return "a number" + _bounds(kind)
        case inspect.StrType():
            return _PATTERNS.get(kind.pattern or "") or description or _text(kind)
        case inspect.LiteralType():
            return "one of " + ", ".join(str(value) or '""' for value in kind.values)
        case inspect.VarTupleType() | inspect.ListType() | inspect.SetType() | inspect.FrozenSetType():
            return f"a list, each item {_words(kind.item_type)}"
        case inspect.DictType():
            return f"a table, each key {_words(kind.key_type)}, each value {_words(kind.value_type)}"
        case inspect.StructType():
            return "a table with " + ", ".join(field.encode_name for field in kind.fields)
        case inspect.UnionType():
            return " or ".join(_words(one) for one in kind.types if not isinstance(one, inspect.NoneType))
        case _:
            return description or type(kind).__name__.removesuffix("Type").lower()


def _text(kind: inspect.StrType) -> str:
    if kind.pattern:
        return f"text that matches {kind.pattern}"
    if kind.min_length:
        return "text that is not empty" if kind.min_length == 1 else f"text of at least {kind.min_length} characters"
    return "text"


def _bounds(kind: inspect.IntType | inspect.FloatType) -> str:
    if (kind.ge, kind.le) == (-(2**63), 2**63 - 1):
        return " of 64 bits"
    low = f"{kind.ge:g}" if kind.ge is not None else None
    high = f"{kind.le:g}" if kind.le is not None else None
    if low is not None and high is not None:
        return f" from {low} to {high}"
    parts = [
        *([f"of {low} or more"] if low is not None else []),
        *([f"of {high} or less"] if high is not None else []),
        *([f"above {kind.gt:g}"] if kind.gt is not None else []),
        *([f"below {kind.lt:g}"] if kind.lt is not None else []),
    ]
    return " " + " and ".join(parts) if parts else ""


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
