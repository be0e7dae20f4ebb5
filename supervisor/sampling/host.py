"""The machine around the cards, from Linux's own files: CPU, load, RAM, swap, pressure, and our cgroup's limit."""

import re
from pathlib import Path
from typing import Final

import msgspec

from schemas.sample import Host
from supervisor.sampling.cgroup import OwnCgroup
from supervisor.sampling.files import KernelFile
from supervisor.sampling.pressure import PressureFiles

_CPU: Final = re.compile(rb"^cpu ((?: +\d+)+)", re.MULTILINE)
_CPUS: Final = re.compile(rb"^cpu\d+ ", re.MULTILINE)
_LOAD: Final = re.compile(rb"^(\d+\.\d+) (\d+\.\d+) (\d+\.\d+) ")
_MEMORY: Final = re.compile(rb"^(MemTotal|MemAvailable|SwapTotal|SwapFree): +(\d+) kB$", re.MULTILINE)
#: /proc/stat has a line of about 60 bytes a CPU, before the ones that nobody needs here.
_STAT_SIZE: Final = 65536


class ProcHost:
    """Implements `HostSource` on /proc; a file that is missing or unreadable leaves its figures absent."""

    def __init__(self, proc_root: str = "/proc", cgroup_root: str = "/sys/fs/cgroup") -> None:
        """The roots are passed in so that tests read recorded trees."""
        proc = Path(proc_root)
        self._stat = KernelFile(proc / "stat", size=_STAT_SIZE)
        self._loadavg = KernelFile(proc / "loadavg", size=128)
        self._meminfo = KernelFile(proc / "meminfo")
        self._pressure = PressureFiles(proc)
        self._cgroup = OwnCgroup(proc, Path(cgroup_root))
        self._previous: tuple[int, int] | None = None

    def read(self) -> Host:
        """All figures. `cpu_busy_ratio` is that since the previous call, so the first call has none."""
        stat = self._stat.read() or b""
        load = _LOAD.match(self._loadavg.read() or b"")
        return msgspec.structs.replace(
            self.memory(),
            cpu_count=len(_CPUS.findall(stat)) or None,
            cpu_busy_ratio=self._busy(stat),
            load_1m=float(load[1]) if load else None,
            load_5m=float(load[2]) if load else None,
            load_15m=float(load[3]) if load else None,
            pressure=self._pressure.read(),
        )

    def memory(self) -> Host:
        """Only the figures of RAM, swap and our cgroup."""
        figures = {key: int(kibibytes) * 1024 for key, kibibytes in _MEMORY.findall(self._meminfo.read() or b"")}
        total = figures.get(b"MemTotal")
        swap_total, swap_free = figures.get(b"SwapTotal"), figures.get(b"SwapFree")
        limit = self._cgroup.read(total)
        return Host(
            memory_total_bytes=total,
            memory_available_bytes=figures.get(b"MemAvailable"),
            swap_total_bytes=swap_total,
            swap_used_bytes=None if swap_total is None or swap_free is None else max(0, swap_total - swap_free),
            cgroup_memory_limit_bytes=None if limit is None else limit.limit_bytes,
            cgroup_memory_used_bytes=None if limit is None else limit.used_bytes,
        )

    def close(self) -> None:
        """Close every cached descriptor."""
        for file in (self._stat, self._loadavg, self._meminfo, self._pressure, self._cgroup):
            file.close()

    def _busy(self, stat: bytes) -> float | None:
        """Share of all CPUs' time that was neither idle nor waiting for I/O; guest time is already in user time."""
        line = _CPU.search(stat)
        times = [int(ticks) for ticks in line[1].split()][:8] if line else []
        if len(times) < 5:
            self._previous = None
            return None
        total, idle = sum(times), times[3] + times[4]
        previous, self._previous = self._previous, (total, idle)
        if previous is None or total <= previous[0]:
            return None
        # iowait may run backwards (proc(5)), so the quotient is held inside its range
        return min(1.0, max(0.0, 1 - (idle - previous[1]) / (total - previous[0])))
