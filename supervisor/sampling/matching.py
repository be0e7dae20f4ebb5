"""Which workload a process belongs to: matched by its declaration or registered by itself, or descended from one.

Pure but for `read_pidfile`. Membership stays with a process for life: a worker whose parent died, or that wiped its
command line (setproctitle does), still belongs to the workload that started it.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from supervisor.config import Match, WorkloadSection


class Traits(Struct, frozen=True):
    """What a declaration can ask of a process; `cmdline` has its arguments joined by a space."""

    user: str = ""
    cgroup: str = ""
    cmdline: str = ""


class Pidfile(Struct, frozen=True):
    """A pidfile as it was read: the pid, and when it was written (Unix time)."""

    pid: int
    written_s: float


def read_pidfile(path: Path) -> Pidfile | None:
    """The pid in the first line, None where the file is missing or holds none."""
    try:
        first, _, _ = path.read_bytes()[:64].partition(b"\n")
        written_s = path.stat().st_mtime
    except OSError:
        return None
    return Pidfile(int(first), written_s) if first.strip().isdigit() else None


class Declaration:
    """One `[[workload]]`, ready to be held against processes."""

    def __init__(self, section: WorkloadSection) -> None:
        self.name = section.name
        self.match: Match = section.match
        self._cmdline = re.compile(section.match.cmdline)
        self._cgroup = "/" + section.match.cgroup.strip("/")
        #: Without any condition it matches nothing, rather than everything.
        self.matches_something = bool(
            section.match.pidfile or section.match.cgroup or section.match.cmdline or section.match.user
        )

    def holds(self, traits: Traits, *, in_pidfile: bool) -> bool:
        """Whether all of the given conditions hold."""
        match = self.match
        return (
            self.matches_something
            and (not match.pidfile or in_pidfile)
            and (not match.user or match.user == traits.user)
            and (not match.cgroup or traits.cgroup == self._cgroup or traits.cgroup.startswith(self._cgroup + "/"))
            and (not match.cmdline or self._cmdline.search(traits.cmdline) is not None)
        )


def declarations(sections: Sequence[WorkloadSection]) -> tuple[Declaration, ...]:
    """In the order of the configuration: the first one that holds names the process."""
    return tuple(declaration for section in sections if (declaration := Declaration(section)).matches_something)


class Kin(Struct):
    """A process in its family: identity, the parent that started it, and the workload it belongs to ("" for none).

    Start times are in clock ticks since boot.
    """

    pid: int
    start_ticks: int
    parent: int
    workload: str = ""


#: Begins a name that is no workload's; see `supervisor.sampling.source.Registered`.
MARK: Final = "@"


def register(roots: dict[int, str], pid: int, name: str, declared: Collection[str]) -> None:
    """Let a process that registered be a root under its own word; with a `MARK` only where it is none yet.

    The name of a declaration with conditions is not to be had by a word: what is done about that workload, up to its
    restart, must not follow from what a stranger does. Who fulfils it, or descends from who does, bears it anyway.
    """
    if name.startswith(MARK):
        roots.setdefault(pid, name)
    elif name not in declared:
        roots[pid] = name


def belong(family: Iterable[Kin], roots: Mapping[int, str], known: Mapping[int, Kin], names: Collection[str]) -> None:
    """Write `workload` into each of `family`: `roots` (pid → workload) win, the others inherit from their parent.

    A root with a `MARK` gives way to any workload. `names` are the workloads that there are; what belonged to another
    one is free again. Parents are looked up in `known`; one that started after its child is another process with the
    parent's pid.
    """
    for process in sorted(family, key=lambda kin: (kin.start_ticks, kin.pid)):
        if process.workload not in names:
            process.workload = ""
        root = roots.get(process.pid)
        if root is not None and not root.startswith(MARK):
            process.workload = root
            continue
        if process.workload and not process.workload.startswith(MARK):
            continue
        parent = known.get(process.parent)
        if parent is not None and parent.start_ticks <= process.start_ticks:
            process.workload = parent.workload or process.workload
        if root is not None and (not process.workload or process.workload.startswith(MARK)):
            process.workload = root
