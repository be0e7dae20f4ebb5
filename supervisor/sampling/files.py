"""Reads the kernel's small files again and again through one open descriptor each (about half the price of opening).

And what stands in them as text that can be published: names of processes, cgroups and users may be any bytes.
"""

import os
from pathlib import Path
from types import TracebackType
from typing import Self


def printable(name: str | bytes) -> str:
    r"""A name as UTF-8 can say it: bytes that are none stand as `\xff`.

    A `str` may hold such bytes as surrogates, as `os.fsdecode` and `pwd` make them.
    """
    raw = name if isinstance(name, bytes) else name.encode("utf-8", "surrogateescape")
    return raw.decode("utf-8", "backslashreplace")


class KernelFile:
    """A file under /proc or /sys whose content is made anew at every read; opened at the first one.

    A file that is missing or refuses to be read is None, and is looked for again the next time: cgroup files and
    /proc/pressure come and go with the kernel's configuration.
    """

    __slots__ = ("_descriptor", "_path", "_size")

    def __init__(self, path: Path, *, size: int = 4096) -> None:
        """`size` is the most that is read, in bytes; the kernel makes no more than is asked for."""
        self._path = path
        self._size = size
        self._descriptor = -1

    def read(self) -> bytes | None:
        """The content as it is now, or None."""
        try:
            if self._descriptor < 0:
                self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            return os.pread(self._descriptor, self._size, 0)
        except OSError:
            self.close()
            return None

    def close(self) -> None:
        """Close the descriptor; a later read opens it again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
