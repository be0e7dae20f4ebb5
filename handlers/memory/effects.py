"""Looks at processes; changes nothing."""

import os
import sys
from pathlib import Path

from schemas.sample import SAME_START_S


def start_time_s(pid: int) -> float | None:
    """When the process started, as `schemas.sample.Process` counts it; None where none lives, or it is hidden from us.

    A process that has ended, and whose parent has not asked for it yet, does not live.
    """
    if sys.platform != "linux":
        return _by_psutil(pid)
    try:
        # the name, in brackets, may hold spaces and brackets: proc_pid_stat(5)
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError, PermissionError):  # the last under hidepid=1
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19]) / os.sysconf("SC_CLK_TCK")


def lives(pid: int, started_s: float | None = None) -> bool:
    """Whether the process lives, as far as we may know: one that is hidden from us (hidepid) does."""
    found_s = start_time_s(pid)
    if found_s is None:
        return _is_hidden(pid)
    return started_s is None or abs(found_s - started_s) <= SAME_START_S


def _is_hidden(pid: int) -> bool:
    """Whether there is a process that may not be looked at; one of ours that is not shown has ended."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return not os.access(f"/proc/{pid}/stat", os.R_OK)
    except (ProcessLookupError, OverflowError):
        return False
    return False


def _by_psutil(pid: int) -> float | None:
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except (psutil.NoSuchProcess, psutil.AccessDenied, OverflowError):
        return None
