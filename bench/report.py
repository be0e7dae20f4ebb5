"""The rows that every benchmark writes: our figure beside its floor or peer from the same run, as a table and as JSON.

    options = report.options("what a tick costs")
    rows = Report("sampling", options)
    rows.add("1,000 processes", "p50", "ms", ours=3.9, floor=7.4, goal=at_most(1.3, "floor"))
    rows.finish()

A row in JSON is `{bench, case, figure, unit, ours, floor, peer, ratio, goal, met}`; what was not measured is null.
A missed goal is printed, and does not fail the run: the figures of a busy machine are not verdicts.
"""

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

Of = Literal["floor", "peer", "itself"]


class Goal(Struct, frozen=True):
    """What our figure should be: `limit` times the floor or the peer, or `limit` in the row's own unit."""

    direction: Literal["≤", "≥"]
    limit: float
    of: Of

    def text(self, unit: str) -> str:
        """As people read it: `≤ 1.3 × floor`, `≤ 90 MB`."""
        return f"{self.direction} {self.limit:g} {unit if self.of == 'itself' else f'× {self.of}'}"

    def met_by(self, figure: float) -> bool:
        """Whether a ratio, or a figure in its own unit, keeps to it."""
        return figure <= self.limit if self.direction == "≤" else figure >= self.limit


def at_most(limit: float, of: Of = "itself") -> Goal:
    """Smaller is better: time, memory, CPU."""
    return Goal("≤", limit, of)


def at_least(limit: float, of: Of = "itself") -> Goal:
    """Larger is better: events a second."""
    return Goal("≥", limit, of)


class Row(Struct, frozen=True, kw_only=True):
    """One figure. `ratio` is ours to the floor, or to the peer where the goal says so or there is no floor."""

    bench: str
    case: str
    figure: str
    unit: str
    ours: float | None = None
    floor: float | None = None
    peer: float | None = None
    ratio: float | None = None
    goal: str | None = None
    met: bool | None = None


class Options(Struct, frozen=True):
    """What every benchmark can be told."""

    quick: bool
    json: Path | None


def options(description: str, arguments: Sequence[str] | None = None) -> Options:
    """Read `--quick` and `--json FILE` from the command line, or from `arguments`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="fewer rounds: seconds, with more noise")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows as JSON to FILE")
    parsed = parser.parse_args(arguments)
    return Options(quick=parsed.quick, json=parsed.json)


class Report:
    """Collects the rows of one benchmark; `finish` prints them and writes the JSON."""

    def __init__(self, bench: str, options: Options) -> None:
        """`bench` is the name of the file without its ending."""
        self.bench = bench
        self.rows: list[Row] = []
        self._options = options

    def add(
        self,
        case: str,
        figure: str,
        unit: str,
        *,
        ours: float | None = None,
        floor: float | None = None,
        peer: float | None = None,
        goal: Goal | None = None,
    ) -> Row:
        """Add one figure; `case` says what was done (and names the peer), `figure` what was measured.

        A goal whose figures were not measured is neither met nor missed.
        """
        reference = peer if floor is None or (goal is not None and goal.of == "peer") else floor
        ratio = ours / reference if ours is not None and reference else None
        judged = ours if goal is not None and goal.of == "itself" else ratio
        row = Row(
            bench=self.bench,
            case=case,
            figure=figure,
            unit=unit,
            ours=ours,
            floor=floor,
            peer=peer,
            ratio=ratio,
            goal=None if goal is None else goal.text(unit),
            met=None if goal is None or judged is None else goal.met_by(judged),
        )
        self.rows.append(row)
        return row

    def table(self) -> str:
        """The rows as an aligned table."""
        lines = [("case", "figure", "unit", "ours", "floor", "peer", "ratio", "goal", "met")]
        lines += [
            (
                row.case, row.figure, row.unit, _number(row.ours), _number(row.floor), _number(row.peer),
                _number(row.ratio), row.goal or "", {True: "yes", False: "NO", None: ""}[row.met],
            )
            for row in self.rows
        ]  # fmt: skip
        widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
        return "\n".join(
            "  ".join(
                cell.rjust(width) if 3 <= column <= 6 else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        )

    def finish(self) -> None:
        """Print the table, with the machine it was measured on, and write the JSON file where one was asked for."""
        python = f"Python {platform.python_version()}"
        print(f"bench/{self.bench}.py on {platform.system()} {platform.release()}, {os.cpu_count()} CPUs, {python}")
        print(self.table(), flush=True)
        if self._options.json is not None:
            self._options.json.write_bytes(msgspec.json.format(msgspec.json.encode(self.rows)) + b"\n")
            print(f"rows written to {self._options.json}", file=sys.stderr)


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of measured values, `share` in 0..1.

    :raises ValueError: when nothing was measured.
    """
    if not values:
        raise ValueError("nothing was measured")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _number(value: float | None) -> str:
    """Three significant digits, and thousands apart."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
