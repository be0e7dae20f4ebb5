"""Where Flyball's files lie: the configuration and the state directory, by the XDG rules.

`FLYBALL_CONFIG` and `FLYBALL_STATE_DIR` choose other places. The same rule holds for a user and for root.
"""

import contextlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from supervisor.errors import ConfigurationError, StateDirectoryError

#: A unix socket's path must fit into `sockaddr_un` (108 bytes); servers that fork append to it, so 100 is what works.
SOCKET_PATH_LIMIT: Final = 100
SYSTEM_CONFIGURATION: Final = Path("/etc/flyball/flyball.toml")


def configuration_file(environ: Mapping[str, str]) -> Path | None:
    """The configuration file that is there: the user's own, for root also the system's; None where there is none.

    A file that `FLYBALL_CONFIG` names is returned whether or not it exists: it is missed, not passed over.

    :raises ConfigurationError: nobody can tell whether there is one.
    """
    named = environ.get("FLYBALL_CONFIG")
    if named:
        return Path(named).expanduser()
    candidates = [_xdg(environ, "XDG_CONFIG_HOME", ".config") / "flyball" / "flyball.toml"]
    if os.geteuid() == 0:
        candidates.append(SYSTEM_CONFIGURATION)
    return next((path for path in candidates if _is_there(path)), None)


def state_directory(environ: Mapping[str, str]) -> Path:
    """Where the state directory is or would be; absolute, not created.

    :raises StateDirectoryError: when there is neither a variable nor a home directory to tell.
    """
    named = environ.get("FLYBALL_STATE_DIR")
    if named:
        return Path(named).expanduser().absolute()
    return _xdg(environ, "XDG_STATE_HOME", ".local/state") / "flyball"


def prepared_state_directory(environ: Mapping[str, str]) -> Path:
    """The state directory, created with mode 0700 where it is missing, and known to be writable and ours.

    :raises StateDirectoryError: when it cannot be created or written, or another user could change what is in it.
    """
    path = state_directory(environ)
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_owner(path)
        _check_writable(path)
    except OSError as error:
        raise StateDirectoryError(
            f"the state directory {path} cannot be used",
            why=error.strerror or str(error),
            hint="Give it to this user (chown, chmod u+rwx), or set FLYBALL_STATE_DIR to a directory of its own",
        ) from error
    return path


def demo_path(state: Path) -> Path:
    """Where the state directory of `flyball demo` is or would be."""
    return state / "demo"


def demo_directory(state: Path) -> Path:
    """The state directory of `flyball demo`, made if need be: what is simulated must not mix with what is real.

    :raises StateDirectoryError: it cannot be made.
    """
    demo = demo_path(state)
    try:
        demo.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StateDirectoryError(f"cannot make {demo}", why=error.strerror or str(error)) from error
    return demo


def bus_socket(state: Path) -> Path:
    """The socket of our own bus in the state directory `state`.

    :raises StateDirectoryError: when its path is longer than a socket's may be.
    """
    path = state / "bus.sock"
    length = len(os.fsencode(path))
    if length > SOCKET_PATH_LIMIT:
        raise StateDirectoryError(
            f"the state directory {state} lies too deep for a socket",
            why=f"the path of {path.name} has {length} bytes, a socket's may have {SOCKET_PATH_LIMIT}",
            hint="Set FLYBALL_STATE_DIR to a shorter path",
        )
    return path


def sync_directory(path: Path) -> None:
    """Have what was created or renamed in the directory outlive a loss of power, as far as its file system can."""
    with contextlib.suppress(OSError):  # some refuse it for a directory, and what was written stands all the same
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:  # a directory on the way that this user may not search
        why = error.strerror or str(error)
        what = f"{path}: cannot be looked for: {why}; open its directory to this user, or set FLYBALL_CONFIG to a file"
        raise ConfigurationError([what]) from error


def _xdg(environ: Mapping[str, str], variable: str, default: str) -> Path:
    """An XDG base directory; the specification says that a relative path in the variable is to be ignored."""
    named = environ.get(variable, "")
    if Path(named).is_absolute():
        return Path(named)
    home = environ.get("HOME", "")
    if Path(home).is_absolute():
        return Path(home) / default
    try:
        return Path.home() / default
    except RuntimeError as error:
        raise StateDirectoryError(
            "there is no place for Flyball's files",
            why="neither HOME nor the user database names a home directory",
            hint=f"Set FLYBALL_STATE_DIR (and {variable})",
        ) from error


def _check_owner(path: Path) -> None:
    found = path.stat()
    if found.st_uid not in (os.geteuid(), 0):
        raise StateDirectoryError(
            f"the state directory {path} belongs to another user",
            why=f"its owner is uid {found.st_uid}, this is uid {os.geteuid()}",
            hint="Set FLYBALL_STATE_DIR to a directory of this user",
        )
    if found.st_mode & stat.S_IWOTH:
        raise StateDirectoryError(
            f"every user may write into the state directory {path}",
            why=f"its mode is {stat.S_IMODE(found.st_mode):04o}",
            hint=f"chmod 0700 {path}, or set FLYBALL_STATE_DIR to a directory of its own",
        )


def _check_writable(path: Path) -> None:
    """Write for real: permission bits say nothing to root, and nothing about a read-only or full disk."""
    probe = path / f".writable-{os.getpid()}"
    try:
        probe.write_bytes(b"\n")
    finally:
        probe.unlink(missing_ok=True)
