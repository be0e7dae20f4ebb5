"""How much every pair of columns moves together: their levels, their changes, and which of the two comes first."""

from itertools import combinations
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from handlers.leak.commands.correlation.cells import Numbers
from handlers.leak.commands.correlation.recording import Recording
from schemas.leak import RESOURCES

#: Columns beyond these are not paired: resources first, then what grew most evenly.
MOST_SERIES: Final = 24
#: Changes are taken on an even grid of at most so many points.
_GRID: Final = 4096
#: A lag must beat no lag by this much.
_BETTER: Final = 0.1


class Pair(Struct, frozen=True):
    """How two columns move together; correlations are Pearson's, None where a column stands still."""

    a: str
    b: str
    #: of the levels; whatever grows correlates with whatever else grows
    levels: float | None
    #: of the changes from step to step, at the same time
    changes: float | None
    #: by how many seconds a leads b (b leads a: negative), where that fits the changes best; None: no lag is clear
    lag_s: float | None
    #: of the changes at that lag
    changes_at_lag: float | None
    #: rows in which both were measured
    n: int

    @property
    def strength(self) -> float:
        """For order: changes tell more than levels."""
        return max(abs(self.changes or 0.0), abs(self.changes_at_lag or 0.0))


def pairs(recording: Recording, max_lag_s: float) -> tuple[Pair, ...]:
    """Every pair of the columns that move, the strongest first."""
    chosen = moving(recording)
    grid_s, transformed = _transformed(recording, chosen)
    found = []
    for a, b in combinations(chosen, 2):
        x, y = recording.series[a], recording.series[b]
        both = ~(np.isnan(x) | np.isnan(y))
        together = _pearson(x[both], y[both])
        changes, lag_s, at_lag = _lag(transformed[a], transformed[b], grid_s, max_lag_s)
        found.append(Pair(a, b, together, changes, lag_s, at_lag, int(both.sum())))
    return tuple(sorted(found, key=lambda pair: (-round(pair.strength, 1), -abs(pair.levels or 0.0), pair.a, pair.b)))


def moving(recording: Recording) -> list[str]:
    """The columns that are not constant, resources first, `MOST_SERIES` at most."""
    found = []
    for key, values in recording.series.items():
        measured = values[~np.isnan(values)]
        if len(measured) >= 3 and measured.min() < measured.max():
            found.append(key)
    resources = [key for key in RESOURCES if key in found]
    return [*resources, *(key for key in found if key not in resources)][:MOST_SERIES]


def _pearson(x: Numbers, y: Numbers) -> float | None:
    if len(x) < 3:
        return None
    x, y = _scaled(x), _scaled(y)
    size = float(np.sqrt((x @ x) * (y @ y)))
    return float(np.clip((x @ y) / size, -1, 1)) if size > 0 else None


def _scaled(values: Numbers) -> Numbers:
    """Around 0 and below 1, so that no product overflows."""
    largest = float(np.abs(values).max())
    if not largest:
        return values
    values = values / largest
    centred: Numbers = values - values.mean()
    return centred


class _Changes(Struct, frozen=True):
    """The changes of one column on the even grid, as such and in the frequency domain; 0 where unknown, else `n`."""

    changes: Numbers
    spectrum: NDArray[np.complex128]
    norm: float
    n: int
    padded: int


def _transformed(recording: Recording, chosen: list[str]) -> tuple[float, dict[str, _Changes]]:
    times = recording.times
    span = float(times[-1] - times[0])
    steps = int(min(max(round(span / recording.step_s), 2), _GRID))
    grid = np.linspace(float(times[0]), float(times[-1]), steps + 1)
    grid_s = span / steps
    padded = 1 << (2 * steps).bit_length()
    found = {}
    for key in chosen:
        measured = ~np.isnan(recording.series[key])
        values = np.interp(grid, times[measured], _scaled(recording.series[key][measured]))
        changes = np.diff(values)
        changes[_across_a_hole(grid, times[measured], 5 * max(grid_s, recording.step_s))] = np.nan
        known = ~np.isnan(changes)
        changes = np.where(known, changes - (changes[known].mean() if known.any() else 0.0), 0.0)
        found[key] = _Changes(
            changes, np.fft.rfft(changes, padded), float(np.sqrt(changes @ changes)), int(known.sum()), padded
        )
    return grid_s, found


def _across_a_hole(grid: Numbers, times: Numbers, hole_s: float) -> Numbers:
    """Which steps of the grid lie where nothing was measured for long."""
    after = np.searchsorted(times, grid[1:]).clip(1, len(times) - 1)
    outside = (grid[:-1] < times[0]) | (grid[1:] > times[-1])
    hole: Numbers = ((times[after] - times[after - 1]) > hole_s) | outside
    return hole


def _lag(a: _Changes, b: _Changes, grid_s: float, max_lag_s: float) -> tuple[float | None, float | None, float | None]:
    """The correlation of changes at no lag, the best lag, and the correlation there."""
    n = min(a.n, b.n)
    if n < 3 or not a.norm or not b.norm or not np.isfinite(a.norm * b.norm):
        return None, None, None
    crossed = np.fft.irfft(np.conj(a.spectrum) * b.spectrum, a.padded) / (a.norm * b.norm)
    now = float(np.clip(crossed[0], -1, 1))
    most = int(min(max_lag_s / grid_s + 1e-9, n / 4))
    lags = np.arange(-most, most + 1)
    at = crossed[lags]
    best = int(np.argmax(np.abs(at) - 1e-9 * np.abs(lags)))
    strongest = float(np.clip(at[best], -1, 1))
    # the best of many lags is high by chance: a bound for all of them together, at 1 %
    bound = float(2 * np.log(len(lags) / 0.01))
    lag = int(lags[best])
    if lag and abs(strongest) >= abs(now) + _BETTER and _coincidences(a.changes, b.changes, lag) >= bound:
        return now, lag * grid_s, strongest
    return (now, 0.0, now) if now * now * n >= bound else (now, None, None)


def _coincidences(a: Numbers, b: Numbers, lag: int) -> float:
    """How many equal coincidences the likeness at a lag is worth: that of one large step of each is worth one."""
    products = a[: len(a) - lag] * b[lag:] if lag > 0 else a[-lag:] * b[: len(b) + lag]
    size = float(products @ products)
    return float(products.sum()) ** 2 / size if size > 0 else 0.0
