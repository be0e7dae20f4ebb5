"""Who this program is on the bus: its host's name, its process and what it listens for."""

import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from flyball.wire import OnSilence

_UNUSABLE = re.compile(r"[^A-Za-z0-9._-]")


class Identity(Struct, frozen=True, kw_only=True):
    """A workload as it introduces itself; (`pid`, `start_time_s`) is the process."""

    name: str
    host: str
    shard: int
    pid: int
    start_time_s: float
    targets: tuple[str, ...]
    priority: int
    on_silence: OnSilence


def host_name(environ: Mapping[str, str] = os.environ) -> str:
    """The supervisor's name of this machine: FLYBALL_HOST, or the machine's own; what may not stand in a key is `-`."""
    return _UNUSABLE.sub("-", environ.get("FLYBALL_HOST") or socket.gethostname())[:64] or "localhost"


def shard(environ: Mapping[str, str] = os.environ) -> int:
    """The slice of a fleet that this host is in: FLYBALL_SHARD, which must be the supervisor's `[bus] shard`; or 0.

    :raises ValueError: it is no whole number.
    """
    given = environ.get("FLYBALL_SHARD") or "0"
    if not (given.isascii() and given.isdecimal()):
        raise ValueError(f"FLYBALL_SHARD is {given!r}; it must be a whole number, the supervisor's `[bus] shard`")
    return int(given)


def start_time_s() -> float:
    """When this process started: seconds since boot on Linux (exact, /proc/self/stat), since the epoch elsewhere."""
    stat = Path("/proc/self/stat")
    if stat.exists():
        # the name, in brackets, may hold spaces; starttime is field 22 of proc(5), the 20th after the brackets
        fields = stat.read_bytes().rpartition(b")")[2].split()
        return int(fields[19]) / os.sysconf("SC_CLK_TCK")
    import psutil

    return psutil.Process().create_time()
