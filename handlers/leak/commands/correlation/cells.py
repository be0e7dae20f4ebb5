"""What a cell of a table says: a number, a moment, or that nothing was measured."""

import csv
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
#: How programs write that they have no number.
_ABSENT: Final = frozenset({"", "-", "--", "?", "na", "n/a", "#n/a", "nan", "-nan", "null", "none", "nil", "unknown"})
#: No measured value is larger, and its square is still a number.
_LARGEST: Final = 1e30
#: A number of seconds from here on is an epoch: 1973.
EPOCH_S: Final = 1e8


def split(line: str, separator: str) -> list[str]:
    """The cells of one line; quotes hold no line ends."""
    if '"' not in line:
        return line.split(separator)
    try:
        return next(csv.reader([line], delimiter=separator), [""])
    except csv.Error:  # an unclosed quote around more than csv's limit
        return line.replace('"', "").split(separator)


def number(cell: str, decimal_comma: bool = False) -> float | None:
    """A number, NaN where nothing was measured, None where the cell is something else."""
    text = cell.strip()
    if text.lower() in _ABSENT:
        return math.nan
    if decimal_comma and "." not in text:
        text = text.replace(",", ".", 1)
    try:
        found = float(text)
    except ValueError:
        return None
    return found if abs(found) < _LARGEST else math.nan


def numbers(cells: Sequence[str], decimal_comma: bool) -> tuple[Numbers, str | None]:
    """A column, NaN where there is no number; and the first cell that is something else, if one is."""
    try:
        quick = np.array(list(map(float, cells)))
    except ValueError:
        pass
    else:
        quick[~(np.abs(quick) < _LARGEST)] = np.nan
        return quick, None
    if not any(cells):
        return np.full(len(cells), np.nan), None
    found = [number(cell, decimal_comma) for cell in cells]
    foreign = next((cell for cell, value in zip(cells, found, strict=True) if value is None), None)
    return np.array([math.nan if value is None else value for value in found]), foreign


def moment(cell: str) -> float | None:
    """Seconds since 1970 of an ISO 8601 time (UTC where it names no zone), None where it is none."""
    text = cell.strip()
    if len(text) < 8 or not text[:1].isdigit():
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    try:
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except OverflowError:
        return None


def moments(cells: Sequence[str], decimal_comma: bool) -> Numbers:
    """A column of times, as numbers or ISO 8601; NaN where there is none."""
    found, foreign = numbers(cells, decimal_comma)
    if foreign is None:
        return found
    spoken = (moment(cell) for cell in cells)
    return np.array([value if at is None else at for at, value in zip(spoken, found.tolist(), strict=True)])


def epoch_scale(value: float) -> float:
    """What makes seconds of a time since 1970 in s, ms, µs or ns, by its size."""
    for size, factor in ((1e17, 1e-9), (1e14, 1e-6), (1e11, 1e-3)):
        if value >= size:
            return factor
    return 1.0
