"""Opens a file that somebody named, and only a file: a pipe or a device would keep us waiting for ever."""

import os
import stat
from typing import Final

_NO_WAIT: Final = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_CLOEXEC", 0)
_BYTES: Final = getattr(os, "O_BINARY", 0)


def open_regular(path: str) -> int:
    """A descriptor to read a regular file through.

    :raises OSError: it cannot be opened, or is no regular file; `strerror` says why.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | _NO_WAIT | _BYTES)
    except ValueError as error:  # a NUL in the path
        raise OSError(0, str(error)) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(0, "it is no regular file")
    return descriptor
