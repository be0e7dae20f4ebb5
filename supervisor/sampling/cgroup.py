"""The memory limit that this process itself lives under, in cgroup v2 or v1.

Use is usage − inactive file pages, as the kubelet counts its working set: what the kernel can drop at once is not use.
Files: memory.max, memory.current, memory.stat (v2); memory.limit_in_bytes, memory.usage_in_bytes, memory.stat (v1).
"""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from msgspec import Struct

from supervisor.sampling.files import KernelFile

_STAT_SIZE: Final = 16384


class MemoryLimit(Struct, frozen=True):
    """A limit in bytes, and how much of it is in use."""

    limit_bytes: int
    used_bytes: int


def memory_path(membership: bytes) -> tuple[str, int] | None:
    """The path of the cgroup that accounts memory, and its version, from the content of /proc/PID/cgroup.

    On a machine with both versions memory is v1's where v1 has a `memory` line. Paths that are not UTF-8 keep their
    bytes as surrogates, as `os.fsdecode` makes them: right for opening files, and not to be published (`printable`).
    """
    unified: str | None = None
    for line in membership.decode(errors="surrogateescape").split("\n"):
        number, _, rest = line.partition(":")
        controllers, separator, path = rest.partition(":")
        if not separator:
            continue
        if "memory" in controllers.split(","):
            return path, 1
        if number == "0" and not controllers:
            unified = path
    return None if unified is None else (unified, 2)


class OwnCgroup:
    """The limits of our own cgroup and its parents."""

    def __init__(self, proc_root: Path, cgroup_root: Path) -> None:
        """Looks up our cgroup once: services and containers are not moved while they run."""
        self._levels = tuple(_levels(proc_root, cgroup_root))

    def read(self, memory_total_bytes: int | None) -> MemoryLimit | None:
        """The fullest of the limits above us, None where there is none below `memory_total_bytes`.

        Fullest, not smallest: a parent's larger limit that its other children have used up is the one that strikes.
        """
        limits = [limit for level in self._levels if (limit := level.read(memory_total_bytes)) is not None]
        return max(limits, key=lambda limit: limit.used_bytes / limit.limit_bytes, default=None)

    def close(self) -> None:
        """Close the descriptors."""
        for level in self._levels:
            level.close()


class _Level:
    """The files of one cgroup."""

    def __init__(self, directory: Path, version: int) -> None:
        names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
        self._limit = KernelFile(directory / names[0], size=64)
        self._usage = KernelFile(directory / names[1], size=64)
        self._stat = KernelFile(directory / "memory.stat", size=_STAT_SIZE)
        # v1 counts a cgroup without its children but for the total_ figures; v2 always counts them in.
        self._inactive = re.compile(rb"^%binactive_file (\d+)$" % (b"" if version == 2 else b"total_"), re.MULTILINE)

    def read(self, memory_total_bytes: int | None) -> MemoryLimit | None:
        limit = _number(self._limit.read())
        # No limit is `max` in v2, and 2^63 rounded down to a page in v1; one above the machine's memory never strikes.
        if not limit or limit >= (memory_total_bytes or 1 << 62):
            return None
        usage = _number(self._usage.read())
        inactive = self._inactive.search(self._stat.read() or b"")
        if usage is None or inactive is None:
            return None
        return MemoryLimit(limit_bytes=limit, used_bytes=max(0, usage - int(inactive[1])))

    def close(self) -> None:
        for file in (self._limit, self._usage, self._stat):
            file.close()


def _levels(proc_root: Path, cgroup_root: Path) -> Iterator[_Level]:
    with KernelFile(proc_root / "self/cgroup") as file:
        found = memory_path(file.read() or b"")
    if found is None:
        return
    path, version = found
    root = cgroup_root if version == 2 else cgroup_root / "memory"
    if version == 2 and not (root / "cgroup.controllers").exists():
        root = cgroup_root / "unified"  # where systemd mounts v2 beside v1
    relative = PurePosixPath(path.lstrip("/"))
    # Inside a container the path may be the host's, of which only the root is mounted here: missing levels are skipped.
    for level in (relative, *relative.parents):
        if ".." not in level.parts and (directory := root / level).is_dir():
            yield _Level(directory, version)


def _number(content: bytes | None) -> int | None:
    text = (content or b"").strip()
    return int(text) if text.isdigit() else None
