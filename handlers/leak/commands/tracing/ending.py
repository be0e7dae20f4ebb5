"""How a process ended, as far as it can be known: its parent is told, others only see that it is gone."""

import os
import re
import signal
from typing import Final

from msgspec import Struct

#: The kernel refuses (EINVAL) to give a record of its log to a smaller buffer than it needs.
_RECORD_BYTES: Final = 8192
_MOST_RECORDS: Final = 100_000


class Ending(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`text` continues the sentence "the process …"; what is not known is left out."""

    text: str
    exit_code: int | None = None
    signal: str = ""


def of_child(pid: int, returncode: int, kernel_log: str = "/dev/kmsg") -> Ending:
    """How a child ended, by what its parent is told: an exit code, or minus the number of a signal."""
    if returncode >= 0:
        return Ending(text=f"ended with exit code {returncode}", exit_code=returncode)
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = f"signal {-returncode}"
    text = f"was killed by {name}"
    if -returncode == signal.SIGKILL and out_of_memory(pid, kernel_log):
        text += ": the kernel ran out of memory and chose it"
    return Ending(text=text, signal=name)


def of_stranger(pid: int, successor: str, kernel_log: str = "/dev/kmsg") -> Ending:
    """How a process ended that is no child of ours; `successor` is the name of whoever has its pid now, or empty."""
    if out_of_memory(pid, kernel_log):
        return Ending(text="was killed: the kernel ran out of memory and chose it", signal="SIGKILL")
    reused = f"; its pid belongs to another process now ({successor}), which is not traced" if successor else ""
    return Ending(text=f"ended; how, only its parent is told{reused}")


def out_of_memory(pid: int, kernel_log: str) -> bool:
    """Whether the kernel's log says that it killed this process for memory; False where it may not be read.

    The last death of that pid counts.
    """
    killed = re.compile(rb"Killed process %d[ ,]" % pid)
    try:
        descriptor = os.open(kernel_log, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        for _ in range(_MOST_RECORDS):
            try:
                record = os.read(descriptor, _RECORD_BYTES)
            except BrokenPipeError:
                continue  # a record was overwritten before we came to it; the next one is there
            if not record:
                break
            if killed.search(record):
                return True
    except OSError:
        return False  # EAGAIN: its end
    finally:
        os.close(descriptor)
    return False
