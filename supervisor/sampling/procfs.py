"""What stands in /proc/PID: the fields of `stat` and `statm`, and how to count open descriptors; see proc(5).

Prices of a read through an open descriptor, measured: statm 2.1 µs, stat 4.9 µs, count of descriptors 2.3 µs. RssAnon
is resident − shared of statm, the same counters that `status` prints at four times the price.
"""

import os
import re
from pathlib import Path
from typing import Final

from msgspec import Struct

#: Kernel threads have this flag (PF_KTHREAD, include/linux/sched.h).
_KERNEL_THREAD: Final = 0x0020_0000
STAT_SIZE: Final = 1024
STATM_SIZE: Final = 128


class Stat(Struct, frozen=True):
    """The fields of /proc/PID/stat that are used here; times are in clock ticks."""

    command: bytes
    parent: int
    kernel_thread: bool
    cpu_ticks: int
    threads: int
    start_ticks: int


def parse_stat(content: bytes) -> Stat | None:
    """Read /proc/PID/stat, None where it is not one.

    The command may hold spaces and parentheses: it ends at the last one.
    """
    end = content.rfind(b")")
    fields = content[end + 2 :].split(b" ", 20)
    try:
        return Stat(
            content[content.index(b"(") + 1 : end],
            int(fields[1]),
            bool(int(fields[6]) & _KERNEL_THREAD),
            int(fields[11]) + int(fields[12]),
            int(fields[17]),
            int(fields[19]),
        )
    except (IndexError, ValueError):
        return None


class Statm(Struct, frozen=True):
    """The fields of /proc/PID/statm that are used here, in pages."""

    size: int
    resident: int
    anonymous: int


def parse_statm(content: bytes) -> Statm | None:
    """Read /proc/PID/statm, None where it is not one.

    The kernel's counters are approximate, so what is shared may for a moment exceed what is resident.
    """
    fields = content.split(b" ", 3)
    try:
        resident = int(fields[1])
        return Statm(int(fields[0]), resident, max(0, resident - int(fields[2])))
    except (IndexError, ValueError):
        return None


def read_once(path: str, size: int) -> bytes:
    """Open, read and close.

    :raises OSError: as the three do.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, size)
    finally:
        os.close(descriptor)


def read_if_there(path: str, size: int) -> bytes:
    """The same, but empty where it cannot be read."""
    try:
        return read_once(path, size)
    except OSError:
        return b""


def pids(root: str) -> set[int]:
    """The processes that there are.

    :raises OSError: when the directory cannot be listed.
    """
    return {int(name) for name in os.listdir(root) if name.isdigit()}  # noqa: PTH208 - a Path a process is too dear


def owner(directory: str) -> int:
    """The effective uid of the process whose directory in /proc this is.

    :raises OSError: when it has ended.
    """
    return os.stat(directory).st_uid  # noqa: PTH116 - as above


def own_pid(proc_root: Path) -> int | None:
    """Our own pid as this /proc counts it, None where it is not a real one."""
    try:
        return int((proc_root / "self").readlink().name)
    except (OSError, ValueError):
        return None


def boot_time_s(proc_root: Path) -> float:
    """When the machine was started, in Unix time; 0 where /proc/stat does not say it."""
    try:
        found = re.search(rb"^btime (\d+)$", (proc_root / "stat").read_bytes(), re.MULTILINE)
    except OSError:
        found = None
    return float(found[1]) if found else 0.0


def counts_by_size(proc_root: Path) -> bool:
    """Whether the size of the directory /proc/PID/fd is the number of open descriptors (Linux 6.2 and later)."""
    directory = proc_root / "self/fd"
    try:
        # Listing it takes one descriptor more than asking for its size.
        return sum(1 for _ in directory.iterdir()) - directory.stat().st_size in (0, 1)
    except OSError:
        return False


def open_descriptors(directory: str, *, by_size: bool) -> int | None:
    """The number of open descriptors in /proc/PID/fd, None where we may not know (another user's, without root)."""
    try:
        if by_size:
            return os.stat(directory).st_size  # noqa: PTH116 - as above
        return len(os.listdir(directory))  # noqa: PTH208
    except OSError:
        return None
