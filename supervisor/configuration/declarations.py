"""What must hold across the `[[workload]]` tables of the configuration, beyond the types of their fields."""

import re
import warnings
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final

from supervisor.configuration.conversion import Path, Report, dotted, nearest
from supervisor.configuration.wording import shown

Entries = list[tuple[Path, Mapping[str, Any]]]
_FINDS_PROCESSES: Final = ("pidfile", "cgroup", "cmdline")


def check(raw: object, report: Report) -> None:
    """Report names that are taken, dependencies that cannot be met, and conditions that would match anything.

    `raw` may be anything: whatever has the wrong type is reported by the conversion, not here.
    """
    if not isinstance(raw, list):
        return
    entries: Entries = [(("workload", index), entry) for index, entry in enumerate(raw) if isinstance(entry, Mapping)]
    names = _check_names(entries, report)
    _check_dependencies(entries, names, report)
    for path, entry in entries:
        if isinstance(entry.get("match"), Mapping):
            _check_match(entry["match"], (*path, "match"), report)


def _check_names(entries: Entries, report: Report) -> dict[str, Path]:
    """The declared names and where each was declared first."""
    names: dict[str, Path] = {}
    for path, entry in entries:
        name = entry.get("name")
        if not isinstance(name, str):
            continue
        if name in names:
            first = dotted(names[name])
            report.add((*path, "name"), f"{shown(name)} is the name of {first} already; choose another")
        names.setdefault(name, path)
    return names


def _check_dependencies(entries: Entries, names: Mapping[str, Path], report: Report) -> None:
    needs: dict[str, set[str]] = {name: set() for name in names}
    for path, entry in entries:
        wanted, name = entry.get("depends_on"), entry.get("name")
        for index, other in enumerate(wanted if isinstance(wanted, list) else []):
            if not isinstance(other, str):
                continue
            if other not in names:
                near = nearest(other, names)
                right = f"did you mean {near}?" if near else "declared are: " + ", ".join(sorted(names))
                report.add((*path, "depends_on", index), f"{shown(other)} is not a declared workload; {right}")
            elif isinstance(name, str):
                needs[name].add(other)
    while cycle := _cycle(needs):
        first, second = cycle[0], cycle[1]
        needs[second].discard(first)  # graphlib lists a cycle from what is needed to what needs it
        start = names[cycle[-1]]
        report.add((*start, "depends_on"), "goes in a circle: " + " → ".join(reversed(cycle)) + "; remove one of these")


def _cycle(needs: Mapping[str, set[str]]) -> list[str]:
    """A circle in `needs`, its first member repeated at the end; empty where there is none."""
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


def _check_match(match: Mapping[str, Any], path: Path, report: Report) -> None:
    if not any(match.get(condition) for condition in _FINDS_PROCESSES):
        report.add(path, "names no process; expected at least one of " + ", ".join(_FINDS_PROCESSES))
    pattern = match.get("cmdline")
    if isinstance(pattern, str):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what will mean something else one day is still valid today
                re.compile(pattern)
        except (re.error, OverflowError, RecursionError) as error:
            report.add((*path, "cmdline"), f"{shown(pattern)} is not a regular expression: {error}")
