"""The report as a page of plain text: at most 60 lines of 100 letters."""

import textwrap
from collections.abc import Iterator
from typing import Final, Literal

from handlers.leak.commands.correlation import tables, wording
from handlers.leak.commands.correlation.dialect import shortened
from handlers.leak.commands.correlation.recording import Recording
from handlers.leak.commands.correlation.report import Gravity, Report
from handlers.leak.commands.correlation.tables import Table
from supervisor.command import duration, painted

_COLOURS: Final[dict[Gravity, Literal["red", "yellow", "green"]]] = {"leak": "red", "open": "yellow", "none": "green"}
_WIDTH: Final = 100
_LINES: Final = 60
_LONGEST_CELL: Final = 60
_SHORTEST_PROSE: Final = 40
#: Of the tables but the pairs, which take what is left.
_MOST_COUNTERS: Final = 6
_MOST_SENTENCES: Final = 10
_MOST_COLUMN_LINES: Final = 6
_MOST_NOTES: Final = 4


def page(recording: Recording, report: Report, written: str = "") -> str:
    """The whole page; `written` names the files that hold more."""
    top = [*_head(report), "", *_table(tables.resources(recording, report))]
    if report.surges:
        top += ["", *_table(tables.surges(recording, report))]
    if report.first_calls:
        top += ["", *_table(tables.first_calls(recording, report), _MOST_COUNTERS, "counters")]
    bottom = ["", *_columns(report), *_notes(report), *([written] if written else [])]
    # the empty line, the head of the table, and what is said under it
    room = _LINES - len(top) - len(bottom) - 4
    related = tables.pairs(report)
    if related.rows and room > 0:
        top += ["", *_table(related, min(room, 10), "pairs with --json")]
    return "\n".join([*top, *bottom][:_LINES])


def _head(report: Report) -> Iterator[str]:
    folded = f", {report.folded:,} folded into one" if report.folded > 1 else ""
    every = wording.seconds(round(report.step_s, 2))
    yield (
        painted(shortened(report.file), "bold")
        + f" · {report.rows:,} rows{folded} · {duration(report.duration_s)}, a row every {every}"
    )
    yield ""
    yield painted(report.headline.upper(), _COLOURS[report.gravity])
    said = [line for one in report.sentences for line in textwrap.wrap(one, _WIDTH - 2)]
    yield from (f"  {line}" for line in said[:_MOST_SENTENCES])


def _table(table: Table, most: int | None = None, what: str = "") -> Iterator[str]:
    """As many columns as fit, after the last one is cut if it is prose."""
    rows = [[shortened(cell, _LONGEST_CELL) for cell in row] for row in table.rows[:most]]
    heads = [shortened(head, 30) for head in table.heads]
    left = set(table.left)
    if len(heads) - 1 in left:
        room = _WIDTH - sum(_widths(heads, rows)[:-1]) - 2 * (len(heads) - 1)
        for row in rows:
            row[-1] = shortened(row[-1], max(room, _SHORTEST_PROSE))
    while sum(widths := _widths(heads, rows)) + 2 * (len(widths) - 1) > _WIDTH:
        dropped = len(widths) - (2 if len(widths) - 1 in left else 1)
        for cells in (heads, *rows):
            del cells[dropped]
        left = {index - (index > dropped) for index in left}
    yield painted(_line(heads, widths, left), "dim")
    yield from (_line(row, widths, left) for row in rows)
    hidden = len(table.rows) - len(rows)
    more = f"… and {hidden:,} more {what}. " if hidden > 0 else ""
    if more or table.reading:
        yield painted(shortened(f"  {more}{table.reading}", _WIDTH), "dim")


def _widths(heads: list[str], rows: list[list[str]]) -> list[int]:
    return [max(map(len, cells)) for cells in zip(heads, *rows, strict=True)]


def _line(cells: list[str], widths: list[int], left: set[int]) -> str:
    padded = (
        cell.ljust(width) if index in left else cell.rjust(width)
        for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join(padded).rstrip()


def _columns(report: Report) -> Iterator[str]:
    """What every column was read as, one after the other."""
    said = [
        f"{shortened(header, 40)} → {shortened(role, 40)}{'' if because == 'its name' else f' ({because})'}"
        for header, role, because in tables.columns(report).rows
    ]
    lines = textwrap.wrap(
        "Read: " + " · ".join(one.replace(" ", "\N{NO-BREAK SPACE}") for one in said), _WIDTH, subsequent_indent="  "
    )
    yield from (line.replace("\N{NO-BREAK SPACE}", " ") for line in lines[:_MOST_COLUMN_LINES])
    if len(lines) > _MOST_COLUMN_LINES:
        yield "  … all of them with --json"


def _notes(report: Report) -> Iterator[str]:
    for note in report.notes[:_MOST_NOTES]:
        yield painted("! ", "yellow") + shortened(note, _WIDTH - 2)
    if len(report.notes) > _MOST_NOTES:
        yield f"! … and {len(report.notes) - _MOST_NOTES} more with --json"
