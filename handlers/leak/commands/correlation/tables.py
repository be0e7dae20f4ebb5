"""The report's tables, as rows of words: the same for the terminal and for HTML."""

from collections.abc import Iterator
from typing import Final

import numpy as np
from msgspec import Struct

from handlers.leak.commands.correlation import wording
from handlers.leak.commands.correlation.recording import Recording
from handlers.leak.commands.correlation.report import Report
from schemas.leak import MEMORY, RESOURCES, Verdict

_ORDER: Final = ("threads", "rss", "vram", "handles", "vms")
#: Counters that have a column of their own among the surges.
_COUNTERS: Final = 2
_LAG: Final = "together"


class Table(Struct, frozen=True):
    """Words in rows, under heads; `left` columns are prose, the others amounts."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: frozenset[int] = frozenset({0})
    #: one sentence on how to read it
    reading: str = ""


def resources(recording: Recording, report: Report) -> Table:
    """What came of each resource."""
    rows = []
    verdicts = {verdict.resource: verdict for verdict in report.verdicts}
    for key in RESOURCES:
        if key in recording.series:
            rows.append((_with_unit(key), *_ends(recording, key), *_judged(verdicts.get(key))))
    return Table("Resources", ("RESOURCE", "FROM", "TO", "VERDICT", "GROWS BY"), tuple(rows), frozenset({0, 3, 4}))


def surges(recording: Recording, report: Report) -> Table:
    """When resources changed all at once; what tells most comes first."""
    first = _telling(recording, report)
    more = [key for key in _ORDER if key not in first and any(key in surge.surged for surge in report.surges)]
    keys = [*first, *counters_that_tell(report, _COUNTERS), *more]
    rows = []
    for surge in report.surges:
        ends = ((key, surge.changes.get(key)) for key in keys)
        told = (_change(key, pair) if key in RESOURCES else _counted(pair) for key, pair in ends)
        rows.append(
            (
                f"{wording.seconds(surge.from_s).removesuffix(' s')}–{wording.seconds(surge.to_s)}",
                *told,
                surge.event or "–",
            )
        )
    heads = ("SURGE", *(_with_unit(key) for key in keys), "EVENT")
    return Table("Surge points", heads, tuple(rows), frozenset({0, len(heads) - 1}))


def first_calls(recording: Recording, report: Report) -> Table:
    """What first calls brought at once, and what came with every later call."""
    keys = _telling(recording, report)
    rows = []
    for one in report.first_calls:
        at = "before" if one.at_s is None else wording.seconds(one.at_s)
        cells = [wording.name(one.counter, 40), at, wording.count(one.calls)]
        for key in keys:
            jump = f"{one.jumps[key] / scale(key):+,.0f}, " if key in one.jumps else ""
            each = wording.amount(key, one.per_call[key]) if key in one.per_call else "–"
            cells.append(f"{jump}then {each}")
        rows.append(tuple(cells))
    heads = ["FIRST CALL OF", "AT", "CALLS", *(f"{_with_unit(key)}: AT ONCE, THEN EACH" for key in keys)]
    return Table(
        "First calls against later ones", tuple(heads), tuple(rows),
        reading="THEN EACH: the slope after the first call, as if it alone drove it.",
    )  # fmt: skip


def _telling(recording: Recording, report: Report) -> list[str]:
    """The two resources that tell most: what leaks, what surged, then threads and memory, as in the thread study."""
    present = [key for key in _ORDER[:4] if key in recording.series]
    leaking = [verdict.resource for verdict in report.verdicts if wording.leaks(verdict)]
    surged = [key for key in present if any(key in surge.surged for surge in report.surges)]
    every = [*(key for key in present if key in leaking), *surged, *present]
    return sorted(list(dict.fromkeys(every))[:2], key=_ORDER.index)


def pairs(report: Report, most: int | None = None) -> Table:
    """What moves with what; pairs with a resource in them first."""
    ordered = sorted(report.pairs, key=lambda pair: _remote(pair.a, pair.b))
    rows = [
        (
            f"{wording.name(pair.a, 26)} ~ {wording.name(pair.b, 26)}",
            _correlation(pair.levels), _correlation(pair.changes), lag(pair.a, pair.b, pair.lag_s),
            _correlation(pair.changes_at_lag), f"{pair.n:,}",
        )
        for pair in ordered[:most]
    ]  # fmt: skip
    return Table(
        "What moves together", ("PAIR", "LEVELS", "CHANGES", "BEST LAG", "THERE", "ROWS"), tuple(rows),
        frozenset({0, 3}),
        reading="Levels that all grow correlate by that alone; changes tell more.",
    )  # fmt: skip


def columns(report: Report) -> Table:
    """What each column was read as, and why."""
    because = {"name": "its name", "--map": "--map", "numbers": "its numbers", "twice": "that is another column"}
    rows = []
    for column in report.columns:
        named = f" {column.name}" if column.name not in column.header else ""
        role = f"{column.role}{named}" + (f" in {column.unit}" if column.unit else "")
        rows.append((column.header or f"({column.number})", role, because[column.because]))
    return Table("Columns", ("COLUMN", "READ AS", "BECAUSE OF"), tuple(rows), frozenset({0, 1, 2}))


def lag(a: str, b: str, lag_s: float | None) -> str:
    """Which comes first, and by how much."""
    if lag_s is None:
        return "none is clear"
    if lag_s == 0:
        return _LAG
    first, second = (a, b) if lag_s > 0 else (b, a)
    return f"{wording.name(first, 20)} leads {wording.name(second, 20)} by {wording.seconds(abs(lag_s))}"


def _remote(a: str, b: str) -> int:
    """Order of interest: with a resource, then with address space, then the rest."""
    return 1 if "vms" in (a, b) else 0 if a in RESOURCES or b in RESOURCES else 2


def _judged(verdict: Verdict | None) -> Iterator[str]:
    if verdict is None:
        yield from ("unknown", "–")
        return
    yield verdict.stage
    cause, speed = verdict.cause, verdict.rate_per_s
    if verdict.stage in ("steady", "unknown"):
        yield "–"
    elif cause is not None and cause.per_call is not None:
        yield wording.per_driver(verdict.resource, cause)
    else:
        yield wording.rate(verdict.resource, speed) if speed is not None else "–"


def _ends(recording: Recording, key: str) -> tuple[str, str]:
    measured = recording.series[key][~np.isnan(recording.series[key])]
    return wording.amount(key, float(measured[0])), wording.amount(key, float(measured[-1]))


def counters_that_tell(report: Report, most: int) -> list[str]:
    """Those of the causes, then those that were first called in a surge, then the others."""
    told: list[str] = []
    for verdict in report.verdicts:
        if verdict.cause is not None and verdict.resource != "vms":
            told += [verdict.cause.driver, verdict.cause.through, *verdict.cause.alike]
    surging = {one.at_s for one in report.first_calls for s in report.surges if s.from_s < (one.at_s or -1.0) <= s.to_s}
    in_surges = [one.counter for one in report.first_calls if one.at_s in surging]
    every = [*told, *in_surges, *(one.counter for one in report.first_calls)]
    return [key for key in dict.fromkeys(every) if key.startswith("calls.")][:most]


def _change(key: str, ends: tuple[float, float] | None) -> str:
    if ends is None:
        return "–"
    before, after = (end / scale(key) for end in ends)
    if round(before) == round(after):
        return f"{after:,.0f}"
    return f"{before:,.0f} → {after:,.0f} ({round(after) - round(before):+,.0f})"


def _counted(ends: tuple[float, float] | None) -> str:
    if ends is None:
        return "–"
    before, after = map(wording.count, ends)
    return after if ends[0] == ends[1] else f"{before} → {after}"


def _correlation(value: float | None) -> str:
    return "–" if value is None else f"{value + 0.0:.2f}".replace("-0.00", "0.00")


def scale(key: str) -> float:
    """What a value is divided by for people: bytes to MB."""
    return wording.MB if key in MEMORY else 1.0


def _with_unit(key: str) -> str:
    return f"{wording.title(key)} MB" if key in MEMORY else wording.name(key, 26)
