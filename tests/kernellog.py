"""A kernel log of our own: a pipe that gives one record a read, as /dev/kmsg does."""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

KERNEL_ERROR = 3
USER_ERROR = (1 << 3) | 3


class FakeKernelLog:
    """Holds the pipe open from both ends, so that a reader finds nothing rather than the end."""

    def __init__(self, path: Path) -> None:
        """Make the pipe at `path`."""
        self.path = path
        os.mkfifo(path, 0o600)
        self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        fcntl.fcntl(self._descriptor, fcntl.F_SETFL, os.O_NONBLOCK | os.O_DIRECT)  # a packet a write
        fcntl.fcntl(self._descriptor, fcntl.F_SETPIPE_SZ, 1 << 20)  # room for 256 of them
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def write(self, text: str, *, priority: int = KERNEL_ERROR) -> None:
        """Log a line, as the kernel unless the priority says otherwise."""
        self.write_bytes(record(text, priority=priority, sequence=self._sequence))
        self._sequence += 1

    def write_bytes(self, packet: bytes) -> None:
        """Log a record as it is."""
        os.write(self._descriptor, packet)


def record(text: str, *, priority: int = KERNEL_ERROR, sequence: int = 7) -> bytes:
    """A record of /dev/kmsg."""
    return f"{priority},{sequence},123456789,-;{text}\n SUBSYSTEM=pci\n DEVICE=+pci:0000:3b:00.0\n".encode()
