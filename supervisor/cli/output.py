"""What commands print: aligned plain text, with colours on a terminal alone."""

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal

Colour = Literal["red", "yellow", "green", "dim", "bold", ""]
_CODES: Final[dict[Colour, str]] = {"red": "31", "yellow": "33", "green": "32", "dim": "2", "bold": "1", "": ""}
#: A state of the ladder, and a state of anything else that has one.
_STATES: Final[dict[str, Colour]] = {
    "OPTIMAL": "green", "NORMAL": "green", "THROTTLED": "yellow", "CRITICAL": "red", "BLIND": "red",
    "UNAVAILABLE": "dim", "OK": "green", "WARNING": "yellow", "UNKNOWN": "red",
}  # fmt: skip


def painted(text: str, colour: Colour) -> str:
    """`text` in a colour where standard output is a terminal and NO_COLOR is not set."""
    if not colour or not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    return f"\x1b[{_CODES[colour]}m{text}\x1b[0m"


def state_colour(state: str) -> Colour:
    """The colour of a state; what we do not know is no colour, and never green."""
    return _STATES.get(state, "")


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns as wide as their widest cell, the last one as it comes; a cell that is a state has its colour."""
    cells = [tuple(row) for row in rows]
    widths = [max(len(row[column]) for row in (heads, *cells)) for column in range(len(heads) - 1)]
    first = _line(heads, widths, lambda _: "dim")
    return "\n".join([first, *(_line(row, widths, state_colour) for row in cells)])


def _line(cells: Sequence[str], widths: Sequence[int], colour: Callable[[str], Colour]) -> str:
    """Padded after painting, for the codes of a colour have no width."""
    padded = (*widths, 0)
    parts = (painted(cell, colour(cell)) + " " * (width - len(cell)) for cell, width in zip(cells, padded, strict=True))
    return "  ".join(parts).rstrip()


def duration(seconds: float) -> str:
    """A length of time for people: `0.4 s`, `12 min`, `3 h`."""
    if seconds < 10:
        return f"{max(seconds, 0):.1f} s"
    for size, unit in ((1, "s"), (60, "min"), (3600, "h")):
        if seconds < size * 120:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"
