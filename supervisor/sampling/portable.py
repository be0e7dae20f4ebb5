"""The host and its processes by psutil, where there is no /proc (macOS, Windows): fewer figures, at a higher price."""

import os
import sys
from collections.abc import Collection, Sequence
from heapq import nlargest
from pathlib import Path
from typing import Final

import psutil

from schemas.sample import Host, Process
from supervisor.config import WorkloadSection
from supervisor.sampling.files import printable
from supervisor.sampling.matching import Kin, Traits, belong, declarations, read_pidfile, register
from supervisor.sampling.source import Registered

#: Start times are compared in these: two clocks tell them, and they agree to about that.
_TICK_S: Final = 0.01
_SAME_START_S: Final = 0.05
_PIDFILE_SLACK_S: Final = 2.0


class PsutilHost:
    """Implements `HostSource` on psutil; there is no pressure and no cgroup."""

    def read(self) -> Host:
        """All figures. `cpu_busy_ratio` is that since the previous call."""
        load = psutil.getloadavg()
        memory = psutil.virtual_memory()
        swap = psutil.swap_memory()
        return Host(
            cpu_count=psutil.cpu_count(),
            cpu_busy_ratio=psutil.cpu_percent() / 100,
            load_1m=load[0],
            load_5m=load[1],
            load_15m=load[2],
            memory_total_bytes=memory.total,
            memory_available_bytes=memory.available,
            swap_total_bytes=swap.total,
            swap_used_bytes=swap.used,
        )

    def memory(self) -> Host:
        """Only the figures of RAM."""
        memory = psutil.virtual_memory()
        return Host(memory_total_bytes=memory.total, memory_available_bytes=memory.available)

    def close(self) -> None:
        """Nothing is kept open."""


class PsutilProcesses:
    """Implements `ProcessSource` on psutil; start times count from the epoch, and there are no cgroups."""

    def __init__(self, workloads: Sequence[WorkloadSection] = (), *, top: int = 20) -> None:
        self._declared = declarations(workloads)
        self._declared_names = frozenset(declaration.name for declaration in self._declared)
        self.top = top
        self._kin: dict[psutil.Process, Kin] = {}

    def read(self, on_gpu: Collection[int], registered: Registered) -> tuple[Process, ...]:
        """As `ProcessSource` says; a process that ends, or that we may not look at, is absent."""
        there = {process.pid: process for process in psutil.process_iter()}
        self._kin = {process: self._kin.get(process) or _kin(process) for process in there.values()}
        known = {kin.pid: kin for kin in self._kin.values()}
        names = self._declared_names.union(name for _, name in registered.values())
        belong(known.values(), self._roots(there, registered), known, names)
        resident = {pid: size for pid, process in there.items() if (size := _resident(process)) is not None}
        chosen = set(nlargest(self.top, resident, key=resident.__getitem__))
        chosen.update(pid for pid in on_gpu if pid in there)
        chosen.update(kin.pid for kin in known.values() if kin.workload)
        read = (_process(there[pid], known[pid].workload) for pid in sorted(chosen))
        return tuple(process for process in read if process is not None)

    def close(self) -> None:
        """Nothing is kept open."""
        self._kin = {}

    def _roots(self, there: dict[int, psutil.Process], registered: Registered) -> dict[int, str]:
        roots = {os.getpid(): ""}  # a loose declaration must not make us act on ourselves
        for declaration in self._declared:
            pidfile = read_pidfile(Path(declaration.match.pidfile)) if declaration.match.pidfile else None
            if declaration.match.pidfile and pidfile is None:
                continue
            for pid in there.keys() if pidfile is None else {pidfile.pid} & there.keys():
                late = pidfile is not None and there[pid].create_time() > pidfile.written_s + _PIDFILE_SLACK_S
                if not late and declaration.holds(_traits(there[pid]), in_pidfile=pidfile is not None):
                    roots.setdefault(pid, declaration.name)
        for pid, (start_time_s, name) in registered.items():
            if pid in there and abs(there[pid].create_time() - start_time_s) < _SAME_START_S:
                register(roots, pid, name, self._declared_names)
        return roots


def _kin(process: psutil.Process) -> Kin:
    try:
        parent = process.ppid()
    except psutil.Error:
        parent = 0
    return Kin(process.pid, int(process.create_time() / _TICK_S), parent)


def _traits(process: psutil.Process) -> Traits:
    try:
        return Traits(user=printable(process.username()), cmdline=" ".join(process.cmdline()))
    except psutil.Error:
        return Traits()


def _resident(process: psutil.Process) -> int | None:
    try:
        return process.memory_info().rss
    except psutil.Error:
        return None


def _process(process: psutil.Process, workload: str) -> Process | None:
    try:
        with process.oneshot():
            memory, cpu = process.memory_info(), process.cpu_times()
            return Process(
                pid=process.pid,
                start_time_s=process.create_time(),
                name=printable(process.name()),
                user=printable(process.username()),
                workload=workload,
                rss_bytes=memory.rss,
                vms_bytes=memory.vms,
                threads=process.num_threads(),
                open_handles=_handles(process),
                cpu_seconds=cpu.user + cpu.system,
            )
    except psutil.Error:
        return None


def _handles(process: psutil.Process) -> int | None:
    try:
        if sys.platform == "win32":
            return process.num_handles()
        return process.num_fds()
    except psutil.Error:
        return None
