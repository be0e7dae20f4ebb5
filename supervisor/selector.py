"""What selects a series of a Prometheus page, as people write it: `requests_total{method="add"}`."""

import re
from typing import Final

from msgspec import Struct

#: Possessive (`*+`), so that a hostile line cannot make the matching take quadratic time.
_LABEL: Final = r'[ \t]*+[a-zA-Z_][a-zA-Z0-9_]*+[ \t]*+=[ \t]*+"(?:[^"\\\n]|\\.)*+"[ \t]*+'
#: The labels of a series, in a group of this name.
LABELS: Final = rf"\{{(?P<labels>(?:{_LABEL},)*+(?:{_LABEL})?+[ \t]*+)\}}"
_PAIR: Final = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*+)[ \t]*+=[ \t]*+"((?:[^"\\\n]|\\.)*+)"')
_METRIC: Final = re.compile(rf"(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*+)[ \t]*+(?:{LABELS})?+")
_ESCAPED: Final = re.compile(r"\\(.)")


class Selector(Struct, frozen=True):
    """A metric, and the labels that its series must have."""

    metric: str
    labels: frozenset[tuple[str, str]] = frozenset()


def selector(text: str) -> Selector:
    """`requests_total` or `requests_total{method="add"}`.

    :raises ValueError: it is neither.
    """
    match = _METRIC.fullmatch(text.strip())
    if match is None:
        raise ValueError('expected a metric such as requests_total or requests_total{method="add"}')
    return Selector(match["name"], frozenset(pairs(match["labels"] or "")))


def pairs(labels: str) -> list[tuple[str, str]]:
    """The labels of a series: name and value."""
    return [(name, _ESCAPED.sub(_plain, value)) for name, value in _PAIR.findall(labels)]


def _plain(escaped: re.Match[str]) -> str:
    return "\n" if escaped[1] == "n" else escaped[1]
