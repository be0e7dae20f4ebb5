"""One process and its descendants, summed: what a look at a single program costs, without a table of all processes.

A look costs some 20 µs a process, and 1 µs more for each process of the machine where a new one has started since.
"""

import os
from pathlib import Path
from typing import Final

from msgspec import Struct

from supervisor.errors import FlyballError
from supervisor.sampling.files import printable
from supervisor.sampling.procfs import (
    STAT_SIZE,
    STATM_SIZE,
    Stat,
    Statm,
    counts_by_size,
    open_descriptors,
    parse_stat,
    parse_statm,
    pids,
    read_if_there,
)

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class Look(Struct, frozen=True, kw_only=True):
    """What a process and its descendants used at one moment, summed; pages that they share are counted in each."""

    #: the process itself comes first
    pids: tuple[int, ...]
    threads: int
    rss_bytes: int
    rss_anon_bytes: int
    vms_bytes: int
    #: None where one of them may not be looked into: another user's
    handles: int | None
    #: since the process began to be looked at, with that of the descendants that have ended
    cpu_s: float


class ProcessTree:
    """A process, known by pid and start time, and what it and they start; ourselves are never counted."""

    def __init__(self, pid: int, proc_root: str = "/proc") -> None:
        """Look for it.

        :raises FlyballError: there is no such process, or it is none that has memory of its own.
        """
        self.pid = pid
        self._root = proc_root
        stat = self._stat(pid)
        if stat is None:
            raise FlyballError(f"there is no process {pid}", hint="Look for it with `pgrep -af NAME`")
        if stat.kernel_thread:
            raise FlyballError(f"process {pid} is a thread of the kernel", why="it has no memory of its own")
        if self._statm(pid) is None:
            raise FlyballError(f"process {pid} has ended", why="its parent has not asked yet how")
        self._command = stat.command
        #: as `Process.start_time_s`
        self.start_time_s = stat.start_ticks / _TICKS
        self._by_size = counts_by_size(Path(proc_root))
        #: pid → start, in clock ticks
        self._members = {pid: stat.start_ticks}
        self._cpu_ticks: dict[int, int] = {}
        self._past_ticks = 0
        self._seen: set[int] = {pid, os.getpid()}
        self._newest = b""

    @property
    def name(self) -> str:
        """What it was called when it was last looked at: a launcher (a shell, pyenv) becomes what it launches."""
        return printable(self._command)

    def look(self) -> Look | None:
        """What they use now; None: the process has ended, whoever has its pid by then."""
        self._follow()
        threads = rss = anonymous = vms = 0
        handles: int | None = 0
        for pid in tuple(self._members):
            opened = open_descriptors(f"{self._root}/{pid}/fd", by_size=self._by_size)
            memory = self._statm(pid)
            # `stat` comes last: where the start is still the same, so was all that was read before it
            stat = self._stat(pid)
            if memory is None or stat is None or stat.start_ticks != self._members[pid]:
                if pid == self.pid:
                    return None
                self._forget(pid)
                continue
            if pid == self.pid:
                self._command = stat.command
            threads += stat.threads
            rss += memory.resident
            anonymous += memory.anonymous
            vms += memory.size
            handles = None if handles is None or opened is None else handles + opened
            self._cpu_ticks[pid] = stat.cpu_ticks
        return Look(
            pids=tuple(self._members),
            threads=threads,
            rss_bytes=rss * _PAGE,
            rss_anon_bytes=anonymous * _PAGE,
            vms_bytes=vms * _PAGE,
            handles=handles,
            cpu_s=(self._past_ticks + sum(self._cpu_ticks.values())) / _TICKS,
        )

    def successor(self) -> str:
        """The name of the process that has its pid now, once it has ended; empty: none has."""
        stat = self._stat(self.pid)
        return "" if stat is None or stat.start_ticks == self._members[self.pid] else printable(stat.command)

    def _follow(self) -> None:
        """Take in the children that have started since the look before."""
        # its last field is the newest pid: where that is the same, nothing has started
        newest = read_if_there(f"{self._root}/loadavg", 128).rpartition(b" ")[2]
        if newest and newest == self._newest:
            return
        self._newest = newest
        try:
            present = pids(self._root)
        except OSError:
            return
        started = {pid: stat for pid in present - self._seen if (stat := self._stat(pid)) is not None}
        self._seen = present | {os.getpid()}
        while found := [pid for pid, stat in started.items() if stat.parent in self._members]:
            for pid in found:
                self._members[pid] = started.pop(pid).start_ticks

    def _forget(self, pid: int) -> None:
        del self._members[pid]
        self._past_ticks += self._cpu_ticks.pop(pid, 0)
        self._seen.discard(pid)

    def _stat(self, pid: int) -> Stat | None:
        return parse_stat(read_if_there(f"{self._root}/{pid}/stat", STAT_SIZE))

    def _statm(self, pid: int) -> Statm | None:
        """Its memory; None where it has none (any more)."""
        memory = parse_statm(read_if_there(f"{self._root}/{pid}/statm", STATM_SIZE))
        return memory if memory is not None and memory.size else None
