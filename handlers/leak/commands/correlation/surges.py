"""When resources changed all at once: the surge points, and what each counter's first call brought."""

from itertools import pairwise
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from handlers.leak.commands.correlation import wording
from handlers.leak.commands.correlation.cells import Numbers
from handlers.leak.commands.correlation.recording import Recording
from schemas.leak import MEMORY, RESOURCES

#: More than so many tell nobody anything.
MOST_SURGES: Final = 12
#: A change is a surge from so many robust standard deviations on, and from this share of the column's range.
_UNUSUAL: Final = 5.0
_SHARE: Final = 0.03
#: What noise is at least: a thread, a handle, a MB.
_LEAST: Final[dict[str, float]] = {**dict.fromkeys(MEMORY, 2.0**20), "threads": 1.0, "handles": 1.0}
#: What is new is what still is after so many rows, by their median against that of as many before.
_LASTING: Final = 3
#: Address space grows in steps by itself.
SURGING: Final[tuple[str, ...]] = tuple(key for key in RESOURCES if key != "vms")
#: Steps longer than so many usual ones are holes; what changed in them did not do so at once.
_HOLE: Final = 5.0


class Surge(Struct, frozen=True):
    """A time in which a resource changed far more than it usually does; memory is in bytes."""

    from_s: float
    to_s: float
    #: by resource, `calls.NAME` and `gauge.NAME`: before and after
    changes: dict[str, tuple[float, float]]
    #: what surged, the most first
    surged: tuple[str, ...]
    #: what else happened then, such as `first call of add_sections`
    event: str


class FirstCall(Struct, frozen=True):
    """What a counter's first call brought, against what came with the later ones."""

    #: `calls.NAME`
    counter: str
    #: seconds; None: it had been called before the recording
    at_s: float | None
    #: in the recording, restarts included
    calls: float
    #: by resource, where it is unusual: the change from the row before the first call to the row after it, memory in
    #: bytes
    jumps: dict[str, float]
    #: by resource: the slope over the counter after the first call, as if it alone drove the resource
    per_call: dict[str, float]


def surges(recording: Recording) -> tuple[Surge, ...]:
    """The largest changes against the median absolute deviation, in order of time."""
    found = {key: unusual(recording, key) for key in SURGING if key in recording.series}
    if not found:
        return ()
    together = np.any([sizes > 0 for sizes in found.values()], axis=0)
    ranges: list[tuple[float, int, int]] = []
    begin = None
    for step, surging in enumerate([*together.tolist(), False]):
        if surging and begin is None:
            begin = step
        elif not surging and begin is not None:
            ranges.append((max(float(sizes[begin:step].sum()) for sizes in found.values()), begin, step))
            begin = None
    largest = sorted(ranges, key=lambda item: (-round(item[0], 9), item[1]))[:MOST_SURGES]
    return tuple(_surge(recording, found, begin, end) for _, begin, end in sorted(largest, key=lambda item: item[1]))


def unusual(recording: Recording, key: str) -> Numbers:
    """Of each step between rows: the size of an unusual change as a share of the column's range; 0: it is usual."""
    values = _filled(recording.series[key])
    steps, lengths = np.diff(values), np.diff(recording.times) / recording.step_s
    sizes = np.zeros(len(steps))
    measured = ~np.isnan(steps) & (lengths <= _HOLE)
    if measured.sum() < 3:
        return sizes
    expected = float(np.median(steps[measured] / lengths[measured])) * lengths
    excess = np.abs(steps - expected)
    noise = 1.4826 * float(np.median(excess[measured]))
    spread = float(np.nanmax(values) - np.nanmin(values))
    limit = np.maximum(_UNUSUAL * max(noise, _LEAST[key]) * np.sqrt(lengths), _SHARE * spread)
    surging = measured & (excess > limit) & _lasting(values, steps)
    sizes[surging] = np.abs(steps[surging]) / (spread or 1.0)
    return sizes


def _lasting(values: Numbers, steps: Numbers) -> NDArray[np.bool_]:
    """Whether at least half of each step is still there in the rows after it."""
    padded = np.concatenate((np.full(_LASTING - 1, values[0]), values, np.full(_LASTING - 1, values[-1])))
    medians = np.median(np.lib.stride_tricks.sliding_window_view(padded, _LASTING), axis=1)
    before, after = medians[: len(steps)], medians[_LASTING : _LASTING + len(steps)]
    lasting: NDArray[np.bool_] = (after - before) * np.sign(steps) >= 0.5 * np.abs(steps)
    return lasting


def first_calls(recording: Recording) -> tuple[FirstCall, ...]:
    """Every counter that was called, in the order of first calls."""
    sizes = {key: unusual(recording, key) for key in SURGING if key in recording.series}
    found = []
    for key, values in recording.series.items():
        if key.startswith("calls."):
            counts = _filled(values)
            rises = np.nan_to_num(np.diff(counts)).clip(min=0)
            if rises.any():
                found.append(_first_call(recording, sizes, key, counts, float(rises.sum())))
    return tuple(sorted(found, key=lambda one: (one.at_s if one.at_s is not None else -1.0, one.counter)))


def first_row(counts: Numbers) -> int | None:
    """The row after a counter's first call; None: it was called before the first row, or never."""
    measured = np.flatnonzero(~np.isnan(counts))
    if not len(measured) or counts[measured[0]] != 0:
        return None
    called = np.flatnonzero(np.nan_to_num(counts) > 0)
    return int(called[0]) if len(called) else None


def _first_call(recording: Recording, found: dict[str, Numbers], key: str, counts: Numbers, calls: float) -> FirstCall:
    first = first_row(counts)
    jumps, per_call = {}, {}
    for resource in found:
        levels = _filled(recording.series[resource])
        if first is not None and found[resource][first - 1] > 0:
            jumps[resource] = float(levels[first] - levels[first - 1])
        slope = _slope(counts[first or 0 :], levels[first or 0 :])
        if slope is not None:
            per_call[resource] = slope
    at_s = None if first is None else float(recording.times[first])
    return FirstCall(key, at_s, calls, jumps, per_call)


def _slope(counts: Numbers, levels: Numbers) -> float | None:
    """Over the longest run in which the counter does not fall."""
    both = ~(np.isnan(counts) | np.isnan(levels))
    x, y = counts[both], levels[both]
    edges = [0, *(np.flatnonzero(np.diff(x) < 0) + 1).tolist(), len(x)]
    begin, end = max(pairwise(edges), key=lambda run: run[1] - run[0])
    x, y = x[begin:end], y[begin:end]
    if len(x) < 3 or x[-1] - x[0] < 2:
        return None
    x = x - x.mean()
    slope = float(x @ (y - y.mean()) / (x @ x))
    return slope if np.isfinite(slope) else None


def _surge(recording: Recording, found: dict[str, Numbers], begin: int, end: int) -> Surge:
    changes = {}
    for key, values in recording.series.items():
        filled = _filled(values)
        if not (np.isnan(filled[begin]) or np.isnan(filled[end])):
            changes[key] = (float(filled[begin]), float(filled[end]))
    sizes = {key: float(steps[begin:end].sum()) for key, steps in found.items()}
    surged = tuple(sorted((key for key in sizes if sizes[key] > 0), key=lambda key: (-sizes[key], key)))
    return Surge(
        float(recording.times[begin]), float(recording.times[end]), changes, surged, _event(recording, begin, end)
    )


def _event(recording: Recording, begin: int, end: int) -> str:
    """A restart, first calls, or which counters moved most against their own total."""
    counters = {key: _filled(values) for key, values in recording.series.items() if key.startswith("calls.")}
    if any(recording.times[begin] < at <= recording.times[end] for at in recording.restarts) or any(
        bool((np.diff(counts[begin : end + 1]) < 0).any()) for counts in counters.values()
    ):
        return "restart"
    first = [
        key.removeprefix("calls.")
        for key, counts in counters.items()
        if (row := first_row(counts)) is not None and begin < row <= end
    ]
    if first:
        return "first call of " + ", ".join(first)
    moved = []
    for key, counts in counters.items():
        calls, total = counts[end] - counts[begin], np.nanmax(counts) - np.nanmin(counts)
        if calls > 0:
            moved.append((-calls / total, f"{key.removeprefix('calls.')} +{wording.count(float(calls))}"))
    return ", ".join(text for _, text in sorted(moved)[:2])


def _filled(values: Numbers) -> Numbers:
    """What was not measured is as it was before."""
    known: NDArray[np.intp] = np.where(np.isnan(values), 0, np.arange(len(values)))
    filled: Numbers = values[np.maximum.accumulate(known)]
    return filled
