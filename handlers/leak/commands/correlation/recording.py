"""A recording of a program, as numbers."""

import numpy as np
from msgspec import Struct

from handlers.leak.commands.correlation.cells import Numbers
from handlers.leak.commands.correlation.columns import Column


class Recording(Struct, frozen=True, kw_only=True):
    """What a file holds, as numbers."""

    name: str
    #: seconds from the begin, growing
    times: Numbers
    #: by `rss`, `threads` …, `calls.NAME`, `gauge.NAME`; memory in bytes, NaN where nothing was measured
    series: dict[str, Numbers]
    columns: tuple[Column, ...]
    encoding: str
    separator: str
    #: rows with a time that advances
    rows: int
    #: how many of them one kept row stands for
    folded: int
    #: where the recording begins anew, in seconds of `times`
    restarts: tuple[float, ...]
    #: sentences on what was left out, or understood in a way that may be wrong
    notes: tuple[str, ...]

    @property
    def step_s(self) -> float:
        """The usual time between kept rows."""
        return float(np.median(np.diff(self.times)))
