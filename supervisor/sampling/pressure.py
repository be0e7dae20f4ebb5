"""Pressure stall information: the share of the last 10 s in which tasks waited for CPU, memory or I/O.

Source: /proc/pressure/{cpu,memory,io} (Linux 4.20 and later, `psi=1` where the distribution turned it off), as the
kernel's Documentation/accounting/psi.rst says. `some` means at least one task waited, `full` all of them at once.
"""

import re
from pathlib import Path
from typing import Final, Literal

from schemas.sample import Pressure
from supervisor.sampling.files import KernelFile

Kind = Literal["some", "full"]

_AVERAGE: Final = re.compile(rb"^(some|full) avg10=(\d+\.\d+) ", re.MULTILINE)


def averages(content: bytes) -> dict[Kind, float]:
    """The 10 s averages in one file of /proc/pressure as ratios; what does not stand there is absent."""
    return {
        "some" if kind == b"some" else "full": round(float(percent) / 100, 6)
        for kind, percent in _AVERAGE.findall(content)
    }


class PressureFiles:
    """The three files of /proc/pressure."""

    def __init__(self, proc_root: Path) -> None:
        """Under `proc_root`; nothing is opened yet."""
        self._cpu = KernelFile(proc_root / "pressure/cpu", size=512)
        self._memory = KernelFile(proc_root / "pressure/memory", size=512)
        self._io = KernelFile(proc_root / "pressure/io", size=512)

    def read(self) -> Pressure | None:
        """All figures, or None where the kernel keeps none of them.

        `cpu_full` is left out: for the whole machine it is undefined, and always 0.
        """
        cpu = averages(self._cpu.read() or b"")
        memory = averages(self._memory.read() or b"")
        io = averages(self._io.read() or b"")
        if not (cpu or memory or io):
            return None
        return Pressure(
            cpu_some_ratio=cpu.get("some"),
            memory_some_ratio=memory.get("some"),
            memory_full_ratio=memory.get("full"),
            io_some_ratio=io.get("some"),
            io_full_ratio=io.get("full"),
        )

    def close(self) -> None:
        """Close the descriptors."""
        for file in (self._cpu, self._memory, self._io):
            file.close()
