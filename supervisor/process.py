"""Whether a process lives, and since when: a pid alone is used again, so it is known by its pid and start time."""

import os
import sys
from pathlib import Path
from typing import Final

from schemas.sample import SAME_START_S

__all__ = ["lives", "process_start_s"]

_PROC: Final = Path("/proc")


def process_start_s(pid: int, proc: Path = _PROC) -> float | None:
    """When the process started, in seconds since boot, elsewhere than on Linux since the epoch; None where none lives.

    A process that has ended, and whose parent has not asked for it yet, does not live.

    :raises PermissionError: there may be one, but it is hidden from us.
    """
    if pid < 1:
        return None  # to signals it is a group of processes
    if sys.platform != "linux":
        return _by_psutil(pid)
    try:
        # the name may hold spaces and brackets, so what follows is counted from its last bracket; proc_pid_stat(5)
        fields = Path(proc, str(pid), "stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        _refuse_if_hidden(pid)
        return None
    state, start_ticks = fields[0], int(fields[19])
    return None if state in "ZX" else start_ticks / os.sysconf("SC_CLK_TCK")


def lives(pid: int, started_s: float | None = None) -> bool:
    """Whether it does, as far as we may know: a process that is hidden from us (hidepid) does.

    With `started_s` only the one that began then; see `process_start_s`.
    """
    try:
        found_s = process_start_s(pid)
    except PermissionError:
        return True
    return found_s is not None and (started_s is None or abs(found_s - started_s) <= SAME_START_S)


def _refuse_if_hidden(pid: int) -> None:
    """Come back if no process has this pid.

    :raises PermissionError: one has; /proc is mounted with hidepid.
    """
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return
    raise PermissionError(f"process {pid} is not shown in /proc")


def _by_psutil(pid: int) -> float | None:
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except (psutil.NoSuchProcess, OverflowError):
        return None
    except psutil.AccessDenied as err:
        raise PermissionError(f"process {pid} may not be looked at") from err
