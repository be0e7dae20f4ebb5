"""How a table is written: its separator, where its header stands, and what the columns are called."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from handlers.leak.commands.correlation.cells import moment, number, split
from handlers.leak.commands.correlation.lines import Unreadable
from schemas.terminal import printable

#: In the order in which they are believed: a comma may also be a decimal comma.
SEPARATORS: Final = {";": "semicolons", "\t": "tabs", "|": "bars", ",": "commas"}
_ANY: Final = re.compile(r"[;\t|,]")
#: So many lines tell how the rest is written.
_LOOKED_AT: Final = 500
#: More columns than any trace has; holds memory within bounds.
MOST_COLUMNS: Final = 200
LONGEST_NAME: Final = 100
EXAMPLE: Final = "--map 1=time --map 2=threads --map 3=rss:MB"


class Dialect(Struct, frozen=True):
    """How one table is written."""

    separator: str
    #: of the columns; `1`, `2` … where there is no header
    names: tuple[str, ...]
    #: how many lines come before the first row
    skipped: int
    headless: bool = False

    @property
    def decimal_comma(self) -> bool:
        """Whether 1,5 may be a number."""
        return self.separator != ","

    def cells(self, line: str) -> list[str]:
        """The cells of one line."""
        return split(line, self.separator)


def is_silent(line: str) -> bool:
    """Whether a line holds nothing: empty, or a comment."""
    bare = line.strip()
    return not bare or bare.startswith("#")


def recognised(sample: Sequence[str], name: str, headless_allowed: bool) -> Dialect:
    """How the table is written that begins with these lines; `name` is the file's.

    `headless_allowed`: columns may go by number. :raises Unreadable: there is no table, or no usable header.
    """
    sample = sample[:_LOOKED_AT]
    lines = [(index, line) for index, line in enumerate(sample) if not is_silent(line)]
    if not lines:
        raise Unreadable(f"{name} is empty", hint="Give a table with a header and a line a sample")
    separator, width = _separator([line for _, line in lines])
    if not separator:
        raise Unreadable(
            f"{name} is no table: no line has cells between commas, semicolons, tabs or bars",
            why=f"line {lines[0][0] + 1} is {shortened(lines[0][1])!r}",
            hint="Write a header such as Time(s),Threads,RSS(MB)",
        )
    if width > MOST_COLUMNS:
        raise Unreadable(f"{name} has {width:,} columns; {MOST_COLUMNS} are the most", hint="Cut out those that matter")
    return _header(sample, lines, separator, width, name, headless_allowed)


def shortened(text: str, longest: int = 60) -> str:
    """`text`, or its begin, with nothing in it that a terminal obeys."""
    text = printable(text[: longest + 1])
    return text if len(text) <= longest else text[: longest - 1] + "…"


def other_separator(line: str, dialect: Dialect) -> str:
    """The separators that make a row of a line with the wrong number of cells, as a phrase; empty: none do."""
    cells = _ANY.split(line.strip())
    if len(cells) != len(dialect.names) or not looks_like_a_row(cells):
        return ""
    return " and ".join(SEPARATORS[found] for found in sorted(set(_ANY.findall(line))))


def looks_like_a_row(cells: Sequence[str]) -> bool:
    """Whether these are measured values rather than names or prose."""
    filled = [cell for cell in cells if cell.strip()]
    numeric = sum(moment(cell) is not None or number(cell, decimal_comma=True) is not None for cell in filled)
    return bool(filled) and numeric * 2 >= len(filled)


def _separator(lines: Sequence[str]) -> tuple[str, int]:
    """The separator by which most lines have the same number of cells, and that number."""
    best, best_width, best_support = "", 0, 0
    for separator in SEPARATORS:
        widths = Counter(len(split(line, separator)) for line in lines)
        del widths[1]
        if not widths:
            continue
        width, support = max(widths.items(), key=lambda item: (item[1], item[0]))
        if support > best_support:
            best, best_width, best_support = separator, width, support
    return best, best_width


def _header(
    sample: Sequence[str], lines: Sequence[tuple[int, str]], separator: str, width: int, name: str, headless: bool
) -> Dialect:
    first_row = None
    header: tuple[int, list[str]] | None = None
    for index, line in lines:
        cells = split(line, separator)
        if len(cells) == width and looks_like_a_row(cells):
            first_row = (index, cells)
            break
        if len(cells) > 1 and not looks_like_a_row(cells):
            header = (index, cells)
    if first_row is None:
        found = f"the last line looked at is {shortened(lines[-1][1])!r}"
        raise Unreadable(f"{name} has no row of numbers", why=found, hint="Give a line a sample, numbers in its cells")
    index, cells = first_row
    if header is None:
        header = _commented(sample[:index], separator, width)
    if header is None:
        if headless:
            return Dialect(separator, tuple(str(column + 1) for column in range(width)), index, headless=True)
        raise Unreadable(
            f"{name} has no header: line {index + 1} is {shortened(separator.join(cells))!r}",
            hint=f"Add one such as Time(s),Threads,RSS(MB), or name the columns by number: {EXAMPLE}",
        )
    names = [shortened(cell.strip(), LONGEST_NAME) for cell in header[1]]
    while len(names) > width and not names[-1]:
        names.pop()
    if len(names) != width and not (len(names) == width - 1 and not cells[-1].strip()):
        raise Unreadable(
            f"{name} has a broken header: line {header[0] + 1} names {len(names)} columns, the rows have {width} cells",
            why=f"the names are {shortened(', '.join(names))}, the first row is {shortened(separator.join(cells))}",
            hint=f"Mend line {header[0] + 1}, or take it out and name the columns by number: {EXAMPLE}",
        )
    return Dialect(separator, tuple(names), index)


def _commented(sample: Sequence[str], separator: str, width: int) -> tuple[int, list[str]] | None:
    """A header that is written as a comment, right before the first row."""
    for index in range(len(sample) - 1, -1, -1):
        if sample[index].strip():
            cells = split(sample[index].strip().lstrip("#"), separator)
            return (index, cells) if len(cells) == width and not looks_like_a_row(cells) else None
    return None
