"""Who a supervisor is: the machine, its boot, the process and its PID namespace; and whether another one still lives.

A lock and a lease hold an `Identity`. A process is (pid, start time): a pid alone is used again, and means nothing in
another PID namespace. The machine id is hashed, because machine-id(5) asks that it is not shown to the network.
"""

import hashlib
import hmac
import os
import platform
import re
import uuid
from pathlib import Path
from typing import Final

from msgspec import Struct

from schemas.workload import NAME_PATTERN
from supervisor.errors import StateDirectoryError
from supervisor.process import process_start_s

__all__ = ["Identity", "boot_id", "host_name", "is_alive", "own_identity"]

_PROC: Final = Path("/proc")
_MACHINE_ID: Final = Path("/etc/machine-id")
_HEX_ID: Final = re.compile(r"[0-9a-f]{32}")


class Identity(Struct, frozen=True, kw_only=True):
    """One supervisor's process.

    `start_time_s` counts from boot on Linux (exact, from /proc/PID/stat), from the epoch elsewhere. `pid_namespace` is
    the inode of the PID namespace, 0 where there are none.
    """

    machine_id: str
    boot_id: str
    pid: int
    start_time_s: float
    pid_namespace: int
    host: str

    def __str__(self) -> str:
        """A phrase for people, such as `pid 812 of gpu-box`."""
        return f"pid {self.pid} of {self.host}"


def own_identity(state: Path, host: str = "", *, proc: Path = _PROC, machine_id_file: Path = _MACHINE_ID) -> Identity:
    """The identity of this process.

    `host` is the configured name, empty for the machine's own. Where the machine has no id (a minimal container), one
    is made up and kept in the directory `state`.

    :raises StateDirectoryError: such an id cannot be kept there.
    """
    start_time_s = process_start_s(os.getpid(), proc)
    assert start_time_s is not None, "a process that asks is alive"
    return Identity(
        machine_id=_machine_id(state, machine_id_file),
        boot_id=boot_id(proc),
        pid=os.getpid(),
        start_time_s=start_time_s,
        pid_namespace=_pid_namespace(proc),
        host=host_name(host),
    )


def host_name(configured: str = "") -> str:
    """The configured name, else the machine's with every character that may not stand in a key replaced by `-`."""
    if re.fullmatch(NAME_PATTERN, configured):
        return configured
    return re.sub(r"[^A-Za-z0-9._-]", "-", configured or platform.node())[:64] or "localhost"


def is_alive(other: Identity, own: Identity, *, proc: Path = _PROC) -> bool | None:
    """Whether the process `other` lives, as seen by `own`; None where that cannot be told from here.

    It cannot be told of another machine, another PID namespace, or another boot: images that were cloned share their
    machine id, so a foreign boot id may just as well be a running twin. There the lease's time to live decides, which
    is shorter than a reboot.
    """
    if (other.machine_id, other.boot_id) != (own.machine_id, own.boot_id):
        return None
    if other.pid_namespace != own.pid_namespace:
        return None
    try:
        return process_start_s(other.pid, proc) == other.start_time_s
    except PermissionError:
        return None


def _machine_id(state: Path, machine_id_file: Path) -> str:
    """The machine's id, hashed with our name as key; one of our own where it has none."""
    machine_id = _read_id(machine_id_file) or _kept_id(state / "machine-id")
    return hmac.new(bytes.fromhex(machine_id), b"flyball", hashlib.sha256).hexdigest()[:32]


def _read_id(path: Path) -> str | None:
    try:
        text = path.read_text(errors="replace").strip()
    except OSError:
        return None
    return text if _HEX_ID.fullmatch(text) else None


def _kept_id(path: Path) -> str:
    """The id in the file `path`, made up at first; whole or not there, whenever we are killed."""
    if kept := _read_id(path):
        return kept
    made_up = uuid.uuid4().hex
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft.write_text(made_up + "\n")
        draft.replace(path)
    except OSError as err:
        raise StateDirectoryError(
            f"cannot write {path}", why=err.strerror or str(err),
            hint="Make the directory writable, or name another one in FLYBALL_STATE_DIR.",
        ) from err  # fmt: skip
    return made_up


def boot_id(proc: Path = _PROC) -> str:
    """The kernel's id of this boot; elsewhere one made from the time of boot."""
    try:
        return Path(proc, "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        import psutil

        return str(uuid.uuid5(uuid.NAMESPACE_OID, f"boot at {psutil.boot_time():.0f}"))


def _pid_namespace(proc: Path) -> int:
    try:
        return Path(proc, "self/ns/pid").stat().st_ino
    except OSError:
        return 0
