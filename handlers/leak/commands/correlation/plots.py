"""The smaller plots: memory against threads, threads against calls, and how much every pair moves together."""

from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from handlers.leak.commands.correlation import wording
from handlers.leak.commands.correlation.cells import Numbers
from handlers.leak.commands.correlation.recording import Recording
from handlers.leak.commands.correlation.report import Report
from handlers.leak.commands.correlation.tables import counters_that_tell, scale
from handlers.leak.commands.correlation.timeline import COLOURS
from schemas.leak import MEMORY

_POINTS: Final = 1500
#: Points that correlate less have no line.
_IN_LINE: Final = 0.7
_MOST_COLUMNS: Final = 14
_INCHES: Final = 11.5


def scatter_pairs(recording: Recording, report: Report) -> list[tuple[str, str]]:
    """What is drawn against what: x, y."""
    resources = [key for key in ("rss", "vram", "threads", "handles") if key in recording.series]
    leaking = [one.resource for one in report.verdicts if wording.leaks(one) and one.resource in resources]
    memory: list[str] = [key for key in resources if key in MEMORY and "threads" in resources]
    found = [("threads", key) for key in memory[:1]]
    counters = counters_that_tell(report, 1)
    if counters and resources:
        target = "threads" if "threads" in [*leaking, *([] if leaking else resources)] else (leaking or resources)[0]
        found.append((counters[0], target))
    return found


def scatters(recording: Recording, report: Report) -> Figure:
    """The figure, with a fitted line each."""
    chosen = scatter_pairs(recording, report)
    figure = Figure(figsize=(_INCHES, 4.2), layout="constrained")
    axes = figure.subplots(1, max(len(chosen), 1), squeeze=False)[0]
    points = None
    for axis, (x, y) in zip(axes, chosen, strict=True):
        points = _scatter(axis, x, y, recording, report)
    if points is not None:
        figure.colorbar(points, ax=list(axes), label="time (s)", pad=0.01, aspect=28)
    return figure


def heat_map(report: Report) -> Figure:
    """The figure: correlations of levels below the diagonal, of changes above it."""
    names = list(dict.fromkeys(key for pair in report.pairs for key in (pair.a, pair.b)))
    order = {key: index for index, key in enumerate(("rss", "vms", "vram", "threads", "handles"))}
    names = sorted(names, key=lambda key: (order.get(key, 9), key))[:_MOST_COLUMNS]
    values = np.full((len(names), len(names)), np.nan)
    for pair in report.pairs:
        if pair.a in names and pair.b in names:
            high, low = sorted((names.index(pair.a), names.index(pair.b)))
            values[low, high] = np.nan if pair.levels is None else pair.levels
            values[high, low] = np.nan if pair.changes is None else pair.changes
    side = 0.62 * len(names)
    figure = Figure(figsize=(min(side + 3.6, _INCHES), side + 1.8), layout="constrained")
    axis = figure.subplots()
    mesh = axis.pcolormesh(values, cmap="RdBu_r", vmin=-1, vmax=1, edgecolors="#8a8a8a", linewidth=0.4)
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            ink = "white" if abs(value) > 0.65 else "black"
            shown = f"{value + 0.0:.2f}".replace("-0.00", "0.00")
            axis.text(column + 0.5, row + 0.5, shown, ha="center", va="center", color=ink, fontsize=9)
    ticks = np.arange(len(names)) + 0.5
    labels = [wording.name(name, 24) for name in names]
    axis.set_xticks(ticks, labels, rotation=35, ha="right", rotation_mode="anchor")
    axis.set_yticks(ticks, labels)
    axis.invert_yaxis()
    axis.grid(visible=False)
    axis.set_aspect("equal")
    axis.set_title("changes above the diagonal, levels below it", fontsize=10)
    figure.colorbar(mesh, ax=axis, label="correlation (Pearson)", shrink=0.8, pad=0.02)
    return figure


def _scatter(axis: Axes, x: str, y: str, recording: Recording, report: Report) -> PathCollection:
    xs, ys = recording.series[x] / scale(x), recording.series[y] / scale(y)
    every = -(-len(xs) // _POINTS)
    points = axis.scatter(xs[::every], ys[::every], c=recording.times[::every], cmap="cool", s=16, linewidths=0)
    since = _since(x, y, recording, report)
    fitted = (recording.times >= since) & ~np.isnan(xs) & ~np.isnan(ys)
    if _in_line(xs[fitted], ys[fitted]):
        slope, intercept = np.polyfit(xs[fitted], ys[fitted], 1)
        ends = np.array([xs[fitted].min(), xs[fitted].max()])
        unit = " MB" if y in MEMORY else f" {y}"
        each = "thread" if x == "threads" else f"call of {wording.name(x, 24)}"
        axis.plot(
            ends, slope * ends + intercept, color=COLOURS[y], linewidth=2,
            label=f"{wording.digits(float(slope))}{unit} a {each}, from {wording.seconds(since)} on",
        )  # fmt: skip
        axis.legend(loc="upper left")
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axis.margins(y=0.18)
    axis.set_xlabel("threads" if x == "threads" else f"calls of {wording.name(x, 40)}")
    axis.set_ylabel(f"{wording.title(y)} (MB)" if y in MEMORY else wording.title(y))
    return points


def _in_line(xs: Numbers, ys: Numbers) -> bool:
    """Whether a line says anything."""
    if len(xs) < 3 or not np.ptp(xs) or not np.ptp(ys):
        return False
    return abs(float(np.corrcoef(xs, ys)[0, 1])) >= _IN_LINE


def _since(x: str, y: str, recording: Recording, report: Report) -> float:
    """From when on the line is fitted: since the leak, else the first call, else the begin."""
    for one in report.verdicts:
        if one.resource == y and wording.leaks(one) and one.since_s is not None:
            return one.since_s
    at = next((one.at_s for one in report.first_calls if one.counter == x), None)
    return float(recording.times[0]) if at is None else at
