"""How a card's memory grows with the work on it, pure."""

from math import sqrt
from typing import Final

from msgspec import Struct

#: Growth is looked at over so long; less says little of programs that allocate now and then.
_WINDOW_S: Final = 10.0
#: Less work than this, in seconds at full speed, is no measure of what work needs.
_LEAST_WORK_S: Final = 1.0
#: The part that one window has in the estimate, once there have been some.
_PART: Final = 0.3
#: Where memory falls by more points than this, it was given back, and the window begins anew.
_GIVEN_BACK: Final = 1.0
#: Shares beyond this, in percent, are no use of a card's memory.
_MOST_PERCENT: Final = 1000.0


class Growth(Struct, kw_only=True):
    """What was learned; a rate is in points of the total a second at full speed."""

    since_percent: float
    percent: float
    seconds: float = 0.0
    worked_s: float = 0.0
    windows: int = 0
    rate: float = 0.0
    variance: float = 0.0

    def learn(self, percent: float, speed: float, seconds: float) -> None:
        """Take in a reading, `seconds` after the last one; in between the card worked at `speed`."""
        percent = min(percent, _MOST_PERCENT)
        self.percent = percent
        self.seconds += seconds
        self.worked_s += speed * seconds
        grown = percent - self.since_percent
        if grown < -_GIVEN_BACK:
            self._begin(percent)
        elif self.seconds >= _WINDOW_S:
            if self.worked_s > _LEAST_WORK_S:
                self._take(grown / self.worked_s)
            self._begin(percent)

    @property
    def deviation(self) -> float:
        """How far windows are from the rate."""
        return sqrt(self.variance)

    @property
    def fastest(self) -> float:
        """The rate to be prepared for."""
        return max(self.rate, 0.0) + self.deviation

    @property
    def certain(self) -> bool:
        """Whether it grows, and does not merely waver."""
        return self.windows > 1 and self.rate > self.deviation

    def _begin(self, percent: float) -> None:
        self.since_percent, self.seconds, self.worked_s = percent, 0.0, 0.0

    def _take(self, rate: float) -> None:
        self.windows += 1
        off = rate - self.rate
        self.rate += max(_PART, 1.0 / self.windows) * off
        if self.windows > 1:
            self.variance += _PART * (off * off - self.variance)


def unlearned(percent: float) -> Growth:
    """A card of which one reading is known."""
    percent = min(percent, _MOST_PERCENT)
    return Growth(since_percent=percent, percent=percent)
