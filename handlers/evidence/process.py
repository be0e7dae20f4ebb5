"""One process in /proc, held by a descriptor of its directory: one that has ended is never taken for another one."""

import os
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, Self

from schemas.terminal import printable

_KERNEL_THREAD: Final = 0x00200000  # PF_KTHREAD of the kernel's sched.h
_MEMORY: Final = {b"RssAnon": "anonymous", b"RssFile": "file", b"RssShmem": "shared", b"VmSwap": "swapped"}
_TICKS_A_SECOND: Final = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
#: Entries of a directory between two looks at the clock.
_STRIDE: Final = 256
_PART: Final = 1 << 16


class Stat(NamedTuple):
    """Of proc_pid_stat(5): the name, its state as one letter, when it began, and whether it is the kernel's own."""

    name: str
    state: str
    start_time_s: float
    is_kernels: bool


class Entries(NamedTuple):
    """Entries of a directory: how many there were, and whether all were read."""

    values: list[str]
    complete: bool


class Process:
    """A directory of /proc; a context manager. Its methods raise OSError, ProcessLookupError once it has ended."""

    def __init__(self, pid: int) -> None:
        """Open it.

        :raises OSError: there is none, or it is hidden from us.
        """
        self.pid = pid
        self._directory = os.open(f"/proc/{pid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def stat(self) -> Stat:
        """What it is."""
        before, _, after = self.read("stat", 4096).rpartition(b")")  # the name may hold spaces and brackets
        fields = after.split()
        name = printable(before.partition(b"(")[2].decode(errors="backslashreplace"))
        flags, started = int(fields[6]), int(fields[19])
        return Stat(name, fields[0].decode(), started / _TICKS_A_SECOND, bool(flags & _KERNEL_THREAD))

    def memory(self) -> dict[str, int]:
        """Bytes by kind, `anonymous`, `file`, `shared` and `swapped`; without those that the kernel does not tell."""
        lines = (line.partition(b":") for line in self.read("status", 65_536).splitlines())
        return {_MEMORY[name]: int(value.split()[0]) * 1024 for name, _, value in lines if name in _MEMORY}

    def thread_names(self, most: int, in_time: Callable[[], bool]) -> Entries:
        """The names of its threads."""
        return self._entries("task", most, in_time, lambda at, name: _text(at, f"{name}/comm", 64).rstrip("\n"))

    def handles(self, most: int, in_time: Callable[[], bool]) -> Entries:
        """What its descriptors lead to."""
        return self._entries("fd", most, in_time, lambda at, name: _shown(os.readlink(name, dir_fd=at)))

    def handle_count(self) -> int:
        """How many descriptors it has; 0 where the kernel is too old to tell (before 6.2)."""
        return os.stat("fd", dir_fd=self._directory).st_size

    def read(self, name: str, most: int) -> bytes:
        """The beginning of one of its files."""
        return _bytes(self._directory, name, most)

    def rows(self, name: str, most: int, in_time: Callable[[], bool]) -> Iterator[list[bytes]]:
        """The words of each line of one of its tables, without the head.

        :raises TimeoutError: there are more than `most` bytes of it, or there was no time for all.
        """
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._directory)
        try:
            rest, head = b"", 1
            while part := os.read(descriptor, _PART):
                most -= len(part)
                if most < 0 or not in_time():
                    raise TimeoutError(f"{name} is too long")
                *lines, rest = (rest + part).split(b"\n")
                yield from (line.split() for line in lines[head:])
                head = 0
        finally:
            os.close(descriptor)

    def link(self, name: str) -> str:
        """Where one of its links leads."""
        return _shown(os.readlink(name, dir_fd=self._directory))

    def _entries(
        self, directory: str, most: int, in_time: Callable[[], bool], value: Callable[[int, str], str]
    ) -> Entries:
        values: list[str] = []
        at = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._directory)
        try:
            with os.scandir(at) as entries:
                for number, entry in enumerate(entries):
                    if number >= most or (number % _STRIDE == 0 and not in_time()):
                        return Entries(values, complete=False)
                    try:
                        values.append(value(at, entry.name))
                    except (FileNotFoundError, ProcessLookupError):
                        continue  # it ended or was closed meanwhile
        finally:
            os.close(at)
        return Entries(values, complete=True)

    def __enter__(self) -> Self:
        """It is open."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        os.close(self._directory)


def _bytes(at: int, name: str, most: int) -> bytes:
    descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=at)
    try:
        parts = []
        while most > 0 and (part := os.read(descriptor, min(most, _PART))):
            parts.append(part)
            most -= len(part)
        return b"".join(parts)
    finally:
        os.close(descriptor)


def _text(at: int, name: str, most: int) -> str:
    return _bytes(at, name, most).decode(errors="backslashreplace")


def _shown(path: str) -> str:
    """A path that may hold any bytes, as text."""
    return path.encode(errors="surrogateescape").decode(errors="backslashreplace")
