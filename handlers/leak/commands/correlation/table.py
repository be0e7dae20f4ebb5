"""Rows of numbers in bounded memory: when there are many, neighbours are folded into one."""

from typing import Final

import numpy as np

from handlers.leak.commands.correlation.cells import Numbers

#: From this many rows up to twice as many are kept.
KEPT: Final = 20_000


class Table:
    """Rows of a fixed number of columns, the first of them the time.

    Every kept row but the first stands for `stride` rows that were read: the time of the last of them, and the last
    value that each column had among them.
    """

    def __init__(self, width: int) -> None:
        self.stride = 1
        self._rows = np.empty((2 * KEPT, width))
        self._filled = 0
        self._waiting = np.empty((0, width))
        #: kept as it is: what was there at the begin tells first calls
        self._first = np.empty((0, width))

    def add(self, rows: Numbers) -> None:
        """Take in rows, in order."""
        if not len(self._first):
            self._first, rows = rows[:1].copy(), rows[1:]
        while len(rows):
            room = (len(self._rows) - self._filled) * self.stride - len(self._waiting)
            fresh, rows = np.concatenate((self._waiting, rows[:room])), rows[room:]
            whole = len(fresh) // self.stride
            self._rows[self._filled : self._filled + whole] = _folded(fresh[: whole * self.stride], self.stride)
            self._waiting = fresh[whole * self.stride :]
            self._filled += whole
            if self._filled == len(self._rows):
                self._rows[:KEPT] = _folded(self._rows, 2)
                self._filled = KEPT
                self.stride *= 2

    def rows(self) -> Numbers:
        """All that is kept."""
        rest = _folded(self._waiting, len(self._waiting)) if len(self._waiting) else self._waiting
        return np.concatenate((self._first, self._rows[: self._filled], rest))


def _folded(rows: Numbers, stride: int) -> Numbers:
    """The last value of each column in each group of `stride` rows."""
    if stride == 1 or not len(rows):
        return rows
    groups = rows.reshape(len(rows) // stride, stride, rows.shape[1])
    last: Numbers = groups[:, -1].copy()
    for place in range(stride - 2, -1, -1):
        absent = np.isnan(last)
        if not absent.any():
            break
        last[absent] = groups[:, place][absent]
    return last
