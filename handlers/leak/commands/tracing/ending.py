"""How a process ended: its parent is told, and by a recent kernel others, too; else they only see that it is gone."""

import fcntl
import os
import re
import signal
import struct
from typing import Final

from msgspec import Struct

#: The ioctl PIDFD_GET_INFO with PIDFD_INFO_EXIT (Linux 6.15, include/uapi/linux/pidfd.h): the first version of struct
#: pidfd_info, a mask in front and the wait status at the end.
_GET_INFO: Final = 0xC040_FF0B
_INFO_BYTES: Final = 64
_INFO_EXIT: Final = 1 << 3
#: The kernel refuses (EINVAL) to give a record of its log to a smaller buffer than it needs.
_RECORD_BYTES: Final = 8192
_MOST_RECORDS: Final = 100_000
#: `PRIORITY,SEQUENCE,MICROSECONDS,FLAGS;TEXT`; its clock is not ours to the millisecond.
_RECORD: Final = re.compile(rb"\d+,\d+,(?P<us>\d+),")
_CLOCK_SLACK_S: Final = 5.0


class Ending(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`text` continues the sentence "the process …"; what is not known is left out."""

    text: str
    exit_code: int | None = None
    signal: str = ""


def ending(pid: int, returncode: int, since_s: float, kernel_log: str = "/dev/kmsg") -> Ending:
    """How a process ended that was there at `since_s` (CLOCK_MONOTONIC): an exit code, or minus a signal's number."""
    if returncode >= 0:
        return Ending(text=f"ended with exit code {returncode}", exit_code=returncode)
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = f"signal {-returncode}"
    text = f"was killed by {name}"
    if -returncode == signal.SIGKILL and out_of_memory(pid, since_s, kernel_log):
        text += ": the kernel ran out of memory and chose it"
    return Ending(text=text, signal=name)


def unknown_ending(pid: int, since_s: float, kernel_log: str = "/dev/kmsg") -> Ending:
    """The same where nobody told us."""
    if out_of_memory(pid, since_s, kernel_log):
        return ending(pid, -signal.SIGKILL, since_s, kernel_log)
    return Ending(text="ended; how, only its parent is told")


def exit_of_stranger(pidfd: int) -> int | None:
    """What `ending` takes, once its parent was told; None: not yet, or never by this kernel."""
    info = bytearray(_INFO_BYTES)
    struct.pack_into("=Q", info, 0, _INFO_EXIT)
    try:
        fcntl.ioctl(pidfd, _GET_INFO, info)
    except OSError:
        return None
    if not struct.unpack_from("=Q", info)[0] & _INFO_EXIT:
        return None
    return os.waitstatus_to_exitcode(struct.unpack_from("=i", info, _INFO_BYTES - 4)[0])


def out_of_memory(pid: int, since_s: float, kernel_log: str) -> bool:
    """Whether the kernel's log says that it killed this process for memory; False where it may not be read.

    What it said before `since_s` was of another process with that pid.
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
            said = _RECORD.match(record)
            if said and int(said["us"]) / 1e6 >= since_s - _CLOCK_SLACK_S and killed.search(record):
                return True
    except OSError:
        return False  # EAGAIN: its end
    finally:
        os.close(descriptor)
    return False
