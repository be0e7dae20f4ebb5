"""Looks at processes; changes nothing."""

from supervisor.handler import lives, process_start_s

__all__ = ["lives", "start_time_s"]


def start_time_s(pid: int) -> float | None:
    """When the process started, see `schemas.sample.Process`; None where none lives, or it is hidden from us."""
    try:
        return process_start_s(pid)
    except PermissionError:
        return None
