"""Looks at processes and what limits them, in /proc and the cgroups; changes nothing."""

import os
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Final

from handlers.leak.forecast import Limit
from schemas.leak import Resource
from supervisor.handler import lives

__all__ = ["is_own_child", "limits", "lives"]

_PROC: Final = Path("/proc")
_CGROUPS: Final = Path("/sys/fs/cgroup")
_PAGE: Final = 4096 if sys.platform == "win32" else os.sysconf("SC_PAGE_SIZE")
_LIMITS: Final[dict[Resource, bytes]] = {
    "rss": b"Max address space", "vms": b"Max address space", "handles": b"Max open files", "threads": b"Max processes",
}  # fmt: skip
_UID: Final = re.compile(rb"^Uid:\t(\d+)", re.MULTILINE)
_THREADS: Final = re.compile(rb"^Threads:\t(\d+)", re.MULTILINE)
#: How long the threads of all users stand as they were read.
_TABLE_S: Final = 5.0
#: Of a file of the kernel's no more is read.
_SIZE: Final = 65_536
#: A limit above it is none: cgroup v1 writes 2^63 rounded down to a page.
_NONE: Final = 1 << 62


def is_own_child(pid: int) -> bool:
    """Whether we started the process ourselves, such as our bus and the readers of the cards."""
    fields = (_read(_PROC / str(pid) / "stat") or b"").rpartition(b")")[2].split()
    return len(fields) > 1 and fields[1].isdigit() and int(fields[1]) == os.getpid()


def limits(pid: int, resource: Resource, *, proc: Path = _PROC, cgroups: Path = _CGROUPS) -> list[Limit]:
    """What limits a process's memory, address space, threads or handles, apart from the host's memory and the cards.

    What cannot be read limits nothing here: a forecast is then against what is known.
    """
    found: list[Limit] = []
    if resource == "rss":
        found += (limit for level in _levels(pid, b"memory", proc, cgroups) if (limit := _memory(*level)))
    elif resource == "threads":
        found += (limit for level in _levels(pid, b"pids", proc, cgroups) if (limit := _pids(level[0])))
        found += _kernel_threads(proc)
    if (own := _own(pid, resource, proc)) is not None:
        found.append(own)
    return found


def _own(pid: int, resource: Resource, proc: Path) -> Limit | None:
    """The soft limit of the process itself (getrlimit(2)); that of threads is its user's, and root has none."""
    row = _LIMITS.get(resource)
    text = _read(proc / str(pid) / "limits") if row else None
    found = re.search(rb"^%b +(\d+) " % row, text, re.MULTILINE) if row and text else None
    if found is None:
        return None
    if resource == "handles":
        used = _descriptors(pid, proc)
    elif resource == "threads":
        used = _threads_of_user(pid, proc)
    else:
        statm = (_read(proc / str(pid) / "statm") or b"").split(b" ", 1)[0]
        used = int(statm) * _PAGE if statm.isdigit() else None
    return None if used is None else Limit(kind="process", value=float(found[1]), used=float(used))


def _memory(directory: Path, version: int) -> Limit | None:
    """Use is usage − inactive file pages, as the sampler counts its own cgroup's."""
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    limit, usage = _number(directory / names[0]), _number(directory / names[1])
    if limit is None or usage is None:
        return None
    pattern = rb"^inactive_file (\d+)$" if version == 2 else rb"^total_inactive_file (\d+)$"
    inactive = re.search(pattern, _read(directory / "memory.stat") or b"", re.MULTILINE)
    used = max(0, usage - (int(inactive[1]) if inactive else 0))
    return Limit(kind="cgroup", value=float(limit), used=float(used))


def _pids(directory: Path) -> Limit | None:
    limit, used = _number(directory / "pids.max"), _number(directory / "pids.current")
    return None if limit is None or used is None else Limit(kind="cgroup", value=float(limit), used=float(used))


def _kernel_threads(proc: Path) -> list[Limit]:
    """How many threads the kernel has, and may have: kernel.threads-max and kernel.pid_max."""
    running = re.search(rb"/(\d+) ", _read(proc / "loadavg") or b"")
    most = [_number(proc / "sys/kernel" / name) for name in ("threads-max", "pid_max")]
    known = [limit for limit in most if limit is not None]
    return [Limit(kind="host", value=float(min(known)), used=float(running[1]))] if running and known else []


def _levels(pid: int, controller: bytes, proc: Path, cgroups: Path) -> Iterator[tuple[Path, int]]:
    """The directory of the process's cgroup for a controller, and those of its parents, with the version."""
    place = _place(_read(proc / str(pid) / "cgroup") or b"", controller)
    if place is None:
        return
    path, version = place
    root = cgroups if version == 2 else cgroups / controller.decode()
    if version == 2 and not (root / "cgroup.controllers").exists():
        root = cgroups / "unified"
    relative = PurePosixPath(path.lstrip("/"))
    for level in (relative, *relative.parents):
        if ".." not in level.parts and (directory := root / level).is_dir():
            yield directory, version


def _place(membership: bytes, controller: bytes) -> tuple[str, int] | None:
    unified: str | None = None
    for line in membership.split(b"\n"):
        number, _, rest = line.partition(b":")
        controllers, separator, path = rest.partition(b":")
        if separator and controller in controllers.split(b","):
            return os.fsdecode(path), 1
        if separator and number == b"0" and not controllers:
            unified = os.fsdecode(path)
    return None if unified is None else (unified, 2)


def _descriptors(pid: int, proc: Path) -> int | None:
    try:
        return sum(1 for _ in (proc / str(pid) / "fd").iterdir())
    except OSError:
        return None


def _threads_of_user(pid: int, proc: Path) -> int | None:
    """The threads of all processes of its user, which its limit counts together; None where root is not limited."""
    uid = _UID.search(_read(proc / str(pid) / "status") or b"")
    if uid is None or uid[1] == b"0":
        return None
    return _threads_by_user(proc, int(time.monotonic() / _TABLE_S)).get(uid[1], 0)


@lru_cache(maxsize=1)
def _threads_by_user(proc: Path, period: int) -> dict[bytes, int]:
    """The threads of each user. All of /proc is read for it, so one reading serves all that ask in a `period`."""
    threads: Counter[bytes] = Counter()
    for directory in proc.iterdir():
        status = (_read(directory / "status") or b"") if directory.name.isdigit() else b""
        uid, count = _UID.search(status), _THREADS.search(status)
        if uid and count:
            threads[uid[1]] += int(count[1])
    return threads


def _number(path: Path) -> int | None:
    """The number in a file, None where it says that there is no limit, or cannot be read."""
    text = (_read(path) or b"").strip()
    return int(text) if text.isdigit() and int(text) < _NONE else None


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(_SIZE)
    except OSError:
        return None
