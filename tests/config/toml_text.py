"""Plain values as TOML text, for tests that make up configurations."""

import json
import math
from collections.abc import Mapping
from datetime import date
from typing import Any


def as_toml(document: Mapping[str, Any]) -> str:
    """`document` as a TOML file; tables are written inline, so that any nesting is possible."""
    return "".join(f"{_string(key)} = {value(one)}\n" for key, one in document.items())


def value(one: Any) -> str:
    """One value as TOML writes it."""
    match one:
        case bool():
            return str(one).lower()
        case int():
            return str(one)
        case float():
            return str(one) if math.isfinite(one) else str(one).removeprefix("+")
        case str():
            return _string(one)
        case date():
            return one.isoformat()
        case list() | tuple():
            return "[" + ", ".join(value(item) for item in one) + "]"
        case dict():
            return "{" + ", ".join(f"{_string(key)} = {value(item)}" for key, item in one.items()) + "}"
        case _:
            raise TypeError(type(one))


def _string(text: str) -> str:
    return json.dumps(text).replace("\x7f", "\\u007f")
