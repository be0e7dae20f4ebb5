"""The main plot: resources over time, with surges, first calls and leaks marked, and the counters below."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from handlers.leak.commands.correlation import wording
from handlers.leak.commands.correlation.cells import Numbers
from handlers.leak.commands.correlation.dialect import shortened
from handlers.leak.commands.correlation.recording import Recording
from handlers.leak.commands.correlation.report import Report
from handlers.leak.commands.correlation.tables import counters_that_tell, scale
from handlers.leak.wording import a_driver
from schemas.leak import MEMORY

#: Readable on white and on black, and told apart by those who see fewer colours.
COLOURS: Final = {"threads": "#3f88c5", "rss": "#d1495b", "vram": "#8a63b8", "handles": "#3a9a5c", "vms": "#7d8597"}
CYCLE: Final = ("#e08e2b", "#3f88c5", "#3a9a5c", "#8a63b8", "#d1495b", "#7d8597")
_SURGE: Final = "#e0a82b"
_RESTART: Final = "#d1495b"
_INCHES: Final = 11.5
_HEIGHTS: Final = {"threads": 2.1, "rss": 2.1, "vram": 2.1, "handles": 1.2, "vms": 1.2}
_MOST_LINES: Final = 6
#: A line of so many points looks as one of all.
_POINTS: Final = 2000
#: Labels nearer to each other than this share of the width stand in different rows.
_APART: Final = 0.17
_LABEL_ROWS: Final = 4
_LEGEND_COLUMNS: Final = 3
_ROOM_FOR_TEXT: Final = 0.16
_AMOUNTS_APART: Final = 0.035
_NEAR_THE_EDGE: Final = 0.08


def timeline(recording: Recording, report: Report, *, titled: bool = False) -> Figure:
    """The figure; `titled` where it stands alone."""
    resources = [key for key in _HEIGHTS if key in recording.series]
    counters = [key for key in counters_that_tell(report, _MOST_LINES) if key in recording.series]
    gauges = [key for key in recording.series if key.startswith("gauge.")][:_MOST_LINES]
    shares = [("calls,\n% of highest", counters), ("gauges,\n% of highest", gauges)]
    panels = [keys for keys in shares if keys[1]]
    heights = [*(_HEIGHTS[key] for key in resources), *(1.7 for _ in panels)]
    figure = Figure(figsize=(_INCHES, sum(heights) + 1.2), layout="constrained")
    figure.get_layout_engine().set(hspace=0.03, h_pad=0.05)  # type: ignore[union-attr, call-arg]
    axes = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0].tolist()
    for axis, key in zip(axes, resources, strict=False):
        _resource(axis, key, recording, report)
    for axis, (label, keys) in zip(axes[len(resources) :], panels, strict=True):
        _shares(axis, keys, recording)
        axis.set_ylabel(label)
    if titled:
        figure.suptitle(f"{shortened(report.file)}: {report.headline}", fontsize=12, weight="bold")
    _marks(axes, recording, report, counters)
    axes[-1].xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axes[-1].set_xlabel("time (s)")
    axes[-1].set_xlim(float(recording.times[0]), _end(recording))
    figure.align_ylabels(axes)
    return figure


def thinned(times: Numbers, values: Numbers) -> tuple[Numbers, Numbers]:
    """The lowest and highest of every stretch, in order, where there are more points than can be seen."""
    measured = ~np.isnan(values)
    times, values = times[measured], values[measured]
    if len(values) <= _POINTS:
        return times, values
    edges = np.linspace(0, len(values), _POINTS // 2 + 1).astype(int)
    chosen = set[int]()
    for begin, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        chosen.update((begin + int(values[begin:end].argmin()), begin + int(values[begin:end].argmax())))
    order = np.array(sorted({0, *chosen, len(values) - 1}))
    return times[order], values[order]


def _end(recording: Recording) -> float:
    """A little after the last row, so that what happens there can be seen."""
    return float(recording.times[-1] + 0.01 * (recording.times[-1] - recording.times[0]))


def _resource(axis: Axes, key: str, recording: Recording, report: Report) -> None:
    size = scale(key)
    axis.plot(*thinned(recording.times, recording.series[key] / size), color=COLOURS[key], linewidth=1.6)
    axis.set_ylabel(f"{wording.title(key)} (MB)" if key in MEMORY else wording.title(key))
    axis.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axis.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=key not in MEMORY))
    axis.margins(y=0.12)
    low, high = float(np.nanmin(recording.series[key])), float(np.nanmax(recording.series[key]))
    if key not in MEMORY and high - low < 1:
        axis.set_ylim(low - 1, high + 1)
    verdict = next((one for one in report.verdicts if one.resource == key), None)
    if verdict is not None and wording.leaks(verdict):
        low, high = axis.get_ylim()
        axis.set_ylim(low, high + _ROOM_FOR_TEXT * (high - low))
        since = verdict.since_s if verdict.since_s is not None else float(recording.times[0])
        axis.axvspan(since, _end(recording), color=COLOURS[key], alpha=0.09, linewidth=0)
        cause = verdict.cause
        if cause is not None and cause.per_call is not None:
            by = f"{wording.estimate(verdict.resource, cause.per_call)[0]} {a_driver(cause.driver)}"
        else:
            by = wording.rate(verdict.resource, verdict.rate_per_s) if verdict.rate_per_s else "rate not known"
        text = f"{verdict.stage} leak: {by}"
        axis.text(0.008, 0.94, text, transform=axis.transAxes, ha="left", va="top", color=COLOURS[key], weight="bold")
    _amounts(axis, key, recording, report)


def _amounts(axis: Axes, key: str, recording: Recording, report: Report) -> None:
    """How much each surge brought; of those that stand close to each other the largest."""
    width = _end(recording) - float(recording.times[0])
    placed: list[float] = []
    surged = [surge for surge in report.surges if key in surge.surged]
    for surge in sorted(surged, key=lambda one: -abs(one.changes[key][1] - one.changes[key][0])):
        before, after = (end / scale(key) for end in surge.changes[key])
        at = (surge.to_s - float(recording.times[0])) / width
        if any(abs(at - other) < _AMOUNTS_APART for other in placed):
            continue
        placed.append(at)
        left = at > _NEAR_THE_EDGE
        axis.annotate(
            f"{after - before:+,.0f}", (surge.from_s if left else surge.to_s, after), xytext=(-3 if left else 5, 2),
            textcoords="offset points", ha="right" if left else "left", va="bottom" if left else "top", fontsize=8.5,
        )  # fmt: skip


def _shares(axis: Axes, keys: Sequence[str], recording: Recording) -> None:
    """Each as a share of its own highest, for what counts is when each of them moves."""
    for key, colour in zip(keys, CYCLE, strict=False):
        values = recording.series[key]
        highest = float(np.nanmax(np.abs(values))) or 1.0
        label = f"{wording.name(key, 32)} ({wording.count(float(np.nanmax(values)))})"
        axis.plot(*thinned(recording.times, values / highest * 100), color=colour, label=label, linewidth=1.4)
    axis.margins(y=0.08)
    axis.legend(
        loc="lower left", bbox_to_anchor=(0, 0.98), ncols=_LEGEND_COLUMNS, handlelength=1.2, borderaxespad=0,
        columnspacing=1.4, labelspacing=0.25,
    )  # fmt: skip


def _marks(axes: Sequence[Axes], recording: Recording, report: Report, counters: Sequence[str]) -> None:
    for axis in axes:
        for surge in report.surges:
            axis.axvspan(surge.from_s, surge.to_s, color=_SURGE, alpha=0.3, linewidth=0)
        for at in recording.restarts:
            axis.axvline(at, color=_RESTART, linewidth=1.2)
    labels = dict.fromkeys(recording.restarts, "restart")
    for one in report.first_calls:
        if one.at_s is None or one.counter not in counters:
            continue
        colour = CYCLE[counters.index(one.counter)]
        for axis in axes:
            axis.axvline(one.at_s, color=colour, linewidth=1.1, linestyle=(0, (4, 2)))
        name = wording.name(one.counter, 26)
        labels[one.at_s] = f"{labels[one.at_s]}, {name}" if one.at_s in labels else f"first {name}"
    ends = [-np.inf] * _LABEL_ROWS
    width = _end(recording) - float(recording.times[0])
    for at, label in sorted(labels.items()):
        place = (at - float(recording.times[0])) / width
        length = max(_APART, len(label) * 0.0085)
        row = next((row for row, end in enumerate(ends) if place >= end), None)
        if row is None:
            continue
        ends[row] = place + length
        right = place + length > 1
        axes[0].annotate(
            shortened(label, 60), (at, 1), xycoords=("data", "axes fraction"),
            xytext=(-2 if right else 0, 4 + 13 * row), textcoords="offset points",
            ha="right" if right else "left", va="bottom", fontsize=9,
        )  # fmt: skip
