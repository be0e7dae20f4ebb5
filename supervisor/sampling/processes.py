"""The processes of a tick, from Linux's /proc: those on a GPU, the workloads' own, and the largest.

A tick reads one line (`statm`, resident pages) of every process through a descriptor that stays open, and all figures
only of those that are published. A read through the descriptor of a process that has ended answers ESRCH, whoever has
its pid by then, so no figure can slip from one process to another.
"""

import logging
import os
import resource
from collections.abc import Collection, Iterable, Sequence
from heapq import nlargest
from pathlib import Path
from typing import Final

from schemas.sample import Process
from supervisor.config import WorkloadSection
from supervisor.sampling.cgroup import memory_path
from supervisor.sampling.files import printable
from supervisor.sampling.matching import Kin, Pidfile, Traits, belong, declarations, read_pidfile, register
from supervisor.sampling.procfs import (
    STAT_SIZE,
    STATM_SIZE,
    Stat,
    boot_time_s,
    counts_by_size,
    open_descriptors,
    own_pid,
    owner,
    parse_stat,
    parse_statm,
    pids,
    read_if_there,
    read_once,
)
from supervisor.sampling.source import Registered
from supervisor.sampling.users import UserNames

log = logging.getLogger(__name__)

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_TICKS: Final = os.sysconf("SC_CLK_TCK")
#: Kernel threads are recognised once and passed over; after so many ticks they are looked at again.
_FORGET_KERNEL_THREADS: Final = 64
#: Names, cgroups and command lines settle after exec, setproctitle and a move into a container: they are read again
#: after 1, 2, 4 … ticks, and then each time that so many have passed.
_SETTLED: Final = 64
#: A pidfile is written after its process has started; wall clocks are not better than this.
_PIDFILE_SLACK_S: Final = 2.0
#: Of a command line or a membership in cgroups no more is looked at.
_TEXT_SIZE: Final = 8192


class _Tracked(Kin):
    """A process between two ticks."""

    #: descriptors, −1 where none is open
    statm: int = -1
    stat: int = -1
    #: content of `statm` at this tick
    memory: bytes = b""
    command: bytes = b""
    cgroup: str = ""
    user: str = ""
    #: the workload whose declaration it fulfils by itself
    declared: str = ""
    met_tick: int = 0
    settle_tick: int = 0


class ProcProcesses:
    """Implements `ProcessSource` on /proc."""

    def __init__(
        self,
        workloads: Sequence[WorkloadSection] = (),
        *,
        top: int = 20,
        proc_root: str = "/proc",
        descriptors: int | None = None,
    ) -> None:
        """`descriptors` is how many may stay open; by default half of what this process may have.

        Beyond that number files are opened at each read, which takes about twice the time; the log says so once.
        """
        self._root = proc_root
        every = declarations(workloads)
        self._by_pidfile = tuple(each for each in every if each.match.pidfile)
        self._by_traits = tuple(each for each in every if not each.match.pidfile)
        self._asks_cmdline = any(each.match.cmdline for each in every)
        self._declared_names = frozenset(each.name for each in every)
        self.top = top
        self._free = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2 if descriptors is None else descriptors
        self._said_full = False
        self._by_size = counts_by_size(Path(proc_root))
        self._users = UserNames()
        self._tracked: dict[int, _Tracked] = {}
        self._kernel_threads: set[int] = set()
        self._published: set[int] = set()
        self._roots: dict[int, str] = {}
        self._names: frozenset[str] = frozenset()
        self._boot_s = boot_time_s(Path(proc_root))
        self._own_pid = own_pid(Path(proc_root))
        self._tick = 0

    def read(self, on_gpu: Collection[int], registered: Registered) -> tuple[Process, ...]:
        """Those on a GPU, those registered or declared as workloads with their children, and the largest by RSS.

        Never raises: a process that ends, or that we may not look at, is absent. In the order of their pids.
        """
        self._tick += 1
        new = self._follow()
        resident = self._scan()
        self._assign(new, registered)
        chosen = set(nlargest(self.top, resident, key=resident.__getitem__))
        chosen.update(pid for pid in on_gpu if pid in self._tracked)
        if self._names:
            chosen.update(pid for pid, tracked in self._tracked.items() if tracked.workload)
        for pid in self._published - chosen:
            if (left := self._tracked.get(pid)) is not None:
                left.stat = self._closed(left.stat)
        self._published = chosen
        return tuple(process for pid in sorted(chosen) if (process := self._process(self._tracked[pid])) is not None)

    def close(self) -> None:
        """Close every cached descriptor."""
        for pid in list(self._tracked):
            self._forget(pid)

    def _follow(self) -> list[_Tracked]:
        """Bring the table up to the pids that there are; returns the new ones."""
        try:
            present = pids(self._root)
        except OSError:
            return []  # out of descriptors for a moment: those that we know can still be read
        if self._tick % _FORGET_KERNEL_THREADS == 0:
            self._kernel_threads.clear()
        for pid in self._tracked.keys() - present:
            self._forget(pid)
        self._kernel_threads &= present
        unknown = present - self._tracked.keys() - self._kernel_threads
        return [tracked for pid in unknown if (tracked := self._meet(pid)) is not None]

    def _meet(self, pid: int) -> _Tracked | None:
        try:
            stat = parse_stat(read_once(f"{self._root}/{pid}/stat", STAT_SIZE))
        except OSError:
            return None
        if stat is None:
            return None
        if stat.kernel_thread:
            self._kernel_threads.add(pid)
            return None
        tracked = _Tracked(pid, stat.start_ticks, stat.parent, met_tick=self._tick, settle_tick=self._tick)
        self._tracked[pid] = tracked
        return tracked

    def _scan(self) -> dict[int, int]:
        """Resident pages of every process that is still there, by pid; zombies hold none and are left out."""
        resident: dict[int, int] = {}
        gone: list[int] = []
        pread = os.pread
        for pid, tracked in self._tracked.items():
            try:
                if tracked.statm < 0:
                    tracked.statm = self._open(f"{self._root}/{pid}/statm")
                if tracked.statm >= 0:
                    content = pread(tracked.statm, STATM_SIZE, 0)
                else:
                    content = read_once(f"{self._root}/{pid}/statm", STATM_SIZE)
            except (ProcessLookupError, FileNotFoundError):
                gone.append(pid)
                continue
            except OSError:
                tracked.memory = b""
                continue
            tracked.memory = content
            pages = content.split(b" ", 2)[1:2]
            if pages and pages[0] != b"0" and pages[0].isdigit():
                resident[pid] = int(pages[0])
        for pid in gone:
            self._forget(pid)
        return resident

    def _assign(self, new: Iterable[_Tracked], registered: Registered) -> None:
        """Give each process the name of its workload, as far as something has changed since the last tick."""
        names = self._declared_names.union(name for _, name in registered.values())
        roots = self._declared_roots()
        for pid, (start_time_s, name) in registered.items():
            tracked = self._tracked.get(pid)
            # what a program says may be any number, which only a comparison survives
            if tracked is not None and abs(tracked.start_ticks - start_time_s * _TICKS) < 0.5:
                register(roots, pid, name, self._declared_names)
        if roots != self._roots or names != self._names:
            belong(self._tracked.values(), roots, self._tracked, names)
        elif names:
            belong(new, roots, self._tracked, names)
        self._roots, self._names = roots, names

    def _declared_roots(self) -> dict[int, str]:
        """The processes that fulfil a declaration, by pid; a pidfile wins over the other conditions."""
        if self._by_traits:
            for tracked in self._tracked.values():
                if tracked.settle_tick <= self._tick:
                    self._settle(tracked)
        roots = {pid: tracked.declared for pid, tracked in self._tracked.items() if tracked.declared}
        for declaration in self._by_pidfile:
            pidfile = read_pidfile(Path(declaration.match.pidfile))
            named = None if pidfile is None else self._tracked.get(pidfile.pid)
            if pidfile is None or named is None or not self._wrote(named, pidfile):
                continue
            if declaration.holds(self._settle(named), in_pidfile=True):
                roots[named.pid] = declaration.name
        if self._own_pid is not None:
            roots[self._own_pid] = ""  # a loose declaration must not make us act on ourselves
        return roots

    def _wrote(self, tracked: _Tracked, pidfile: Pidfile) -> bool:
        """Whether the process was there when the pidfile was written; one that came later only got its pid."""
        started_s = tracked.start_ticks / _TICKS + self._boot_s
        return started_s <= pidfile.written_s + _PIDFILE_SLACK_S

    def _settle(self, tracked: _Tracked) -> Traits:
        """Read again what may change in a process's life, and hold it against the declarations."""
        age = self._tick - tracked.met_tick
        tracked.settle_tick = self._tick + max(1, min(_SETTLED, age))
        directory = f"{self._root}/{tracked.pid}"
        try:
            tracked.user = self._users[owner(directory)]
        except OSError:
            return Traits()  # it has just ended; the next tick knows
        found = memory_path(read_if_there(f"{directory}/cgroup", _TEXT_SIZE))
        tracked.cgroup = "" if found is None else printable(found[0])
        cmdline = read_if_there(f"{directory}/cmdline", _TEXT_SIZE) if self._asks_cmdline else b""
        traits = Traits(
            tracked.user, tracked.cgroup, cmdline.rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
        )
        tracked.declared = next((each.name for each in self._by_traits if each.holds(traits, in_pidfile=False)), "")
        return traits

    def _process(self, tracked: _Tracked) -> Process | None:
        directory = f"{self._root}/{tracked.pid}"
        # Counted by path, so before `stat` says that the process was still the same.
        handles = open_descriptors(f"{directory}/fd", by_size=self._by_size)
        stat = self._stat(tracked, directory)
        if stat is None or stat.start_ticks != tracked.start_ticks:
            self._forget(tracked.pid)
            return None
        if stat.command != tracked.command or tracked.settle_tick <= self._tick:
            tracked.command = stat.command
            self._settle(tracked)
        memory = parse_statm(tracked.memory)
        return Process(
            pid=tracked.pid,
            start_time_s=tracked.start_ticks / _TICKS,
            name=printable(stat.command),
            user=tracked.user,
            cgroup=tracked.cgroup,
            workload=tracked.workload,
            rss_bytes=None if memory is None else memory.resident * _PAGE,
            rss_anon_bytes=None if memory is None else memory.anonymous * _PAGE,
            vms_bytes=None if memory is None else memory.size * _PAGE,
            threads=stat.threads,
            open_handles=handles,
            cpu_seconds=stat.cpu_ticks / _TICKS,
        )

    def _stat(self, tracked: _Tracked, directory: str) -> Stat | None:
        try:
            if tracked.stat < 0:
                tracked.stat = self._open(f"{directory}/stat")
            if tracked.stat >= 0:
                return parse_stat(os.pread(tracked.stat, STAT_SIZE, 0))
            return parse_stat(read_once(f"{directory}/stat", STAT_SIZE))
        except OSError:
            return None

    def _open(self, path: str) -> int:
        """A descriptor to keep, or −1 where there is no room for one more.

        :raises OSError: when there is no such process any more.
        """
        if self._free <= 0:
            if not self._said_full:
                self._said_full = True
                log.warning(
                    "more processes than descriptors may stay open, so some are opened at each tick, "
                    "which costs more CPU. Raise the limit of open files (ulimit -n, LimitNOFILE=) to avoid that"
                )
            return -1
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._free -= 1
        return descriptor

    def _closed(self, descriptor: int) -> int:
        if descriptor >= 0:
            os.close(descriptor)
            self._free += 1
        return -1

    def _forget(self, pid: int) -> None:
        tracked = self._tracked.pop(pid)
        self._closed(tracked.statm)
        self._closed(tracked.stat)
