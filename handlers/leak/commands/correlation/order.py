"""Puts times in order: what does not advance is left out, and what begins anew goes on after what came before."""

from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from handlers.leak.commands.correlation.cells import Numbers

#: A step back by more than so many usual steps is a new begin, if the rows after it go on from there.
_BIG_STEPS: Final = 100
#: A nanosecond: what differs by less is the same time.
_LEAST_S: Final = 1e-9


class Ordered(Struct, frozen=True):
    """What came of one block of times."""

    #: which rows stay
    kept: NDArray[np.bool_]
    #: their times, continuous
    times: Numbers
    #: of each row that stays: whether the recording begins anew there
    begins: NDArray[np.bool_]


class Order:
    """The times of one file, block by block."""

    def __init__(self) -> None:
        self.repeated = 0
        self.backward = 0
        #: the rows before, and after, each new begin, in the file's own time
        self.restarts: list[tuple[float, float]] = []
        self._last: float | None = None
        self._first = 0.0
        self._shift = 0.0
        self._steps = 0

    def of(self, times: Numbers) -> Ordered:
        """Order a block without NaN."""
        before = times[:1] - 1 if self._last is None else np.array([self._last])
        if bool(np.all(np.diff(np.concatenate((before, times))) > _LEAST_S)):
            kept = np.ones(len(times), bool)
            begins = np.zeros(len(times), bool)
            self._advance(times)
            return Ordered(kept, times + self._shift, begins)
        return self._one_by_one(times)

    def _advance(self, times: Numbers) -> None:
        if not len(times):
            return
        if self._last is None:
            self._first = float(times[0])
        self._last = float(times[-1])
        self._steps += len(times)

    def _one_by_one(self, times: Numbers) -> Ordered:
        kept, begins = np.zeros(len(times), bool), np.zeros(len(times), bool)
        shifted = []
        for index, time in enumerate(times.tolist()):
            if self._last is not None and time <= self._last + _LEAST_S:
                following = float(times[index + 1]) if index + 1 < len(times) else time + 1
                if not self._begins_anew(time, following):
                    back = time < self._last - _LEAST_S
                    self.repeated += not back
                    self.backward += back
                    continue
                self.restarts.append((self._last, time))
                usual = (self._last - self._first) / max(self._steps - 1, 1)
                self._shift += self._last + usual - time
                self._first, self._last, self._steps = time, None, 0
                begins[index] = True
            self._advance(times[index : index + 1])
            kept[index] = True
            shifted.append(time + self._shift)
        return Ordered(kept, np.array(shifted), begins)

    def _begins_anew(self, time: float, following: float) -> bool:
        assert self._last is not None
        if self._steps < 3 or not time < following < self._last:
            return False
        usual = (self._last - self._first) / (self._steps - 1)
        return time <= self._first or self._last - time > _BIG_STEPS * usual
