"""One supervisor a state directory: a lock that the kernel drops with its holder, and that names him while he lives.

The lock is flock(2) on `<state>/lock`: it ends with the process however that ends, is kept through SIGSTOP, and no
program that we start inherits it (close-on-exec). The file itself stays, because removing it would let two processes
lock two files of the same name.
"""

import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from supervisor.clock import Clock, SystemClock, rfc3339
from supervisor.errors import HostTaken, StateDirectoryError
from supervisor.identity import Identity

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["Holder", "StateLock"]

#: Windows locks bytes, and nobody may read them then: one beyond the text.
_LOCKED_BYTE: Final = 1 << 20


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds the lock and since when (RFC 3339); the JSON inside the lock file."""

    identity: Identity
    since: str

    def __str__(self) -> str:
        """A phrase such as `pid 812 of gpu-box since 2026-11-21T12:03:00.000Z`."""
        return f"{self.identity} since {self.since}"


class StateLock:
    """The lock on a state directory; a context manager."""

    def __init__(self, state: Path, identity: Identity, clock: Clock | None = None) -> None:
        """`identity` is ours, and is what a second supervisor will read."""
        self.path = state / "lock"
        self._identity = identity
        self._clock = clock or SystemClock()
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock, making the directory (0700) if need be.

        :raises HostTaken: another process holds it; names the holder.
        :raises StateDirectoryError: the directory cannot be made, written or locked.
        """
        assert self._descriptor is None, "it is taken already"
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as err:
            raise self._unusable(err) from err
        try:
            _lock(descriptor)
            os.truncate(descriptor, 0)
            os.write(descriptor, self._text())
        except BlockingIOError as err:
            try:
                raise self._taken(descriptor) from err
            finally:
                os.close(descriptor)
        except OSError as err:
            os.close(descriptor)
            raise self._unusable(err) from err
        self._descriptor = descriptor

    def release(self) -> None:
        """Give it back; harmless when it is not held."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            try:
                os.truncate(descriptor, 0)
            finally:
                os.close(descriptor)

    def _text(self) -> bytes:
        return msgspec.json.encode(Holder(identity=self._identity, since=rfc3339(self._clock.wall()))) + b"\n"

    def _taken(self, descriptor: int) -> HostTaken:
        """The error that names the holder, as far as he has said who he is."""
        try:
            holder = msgspec.json.decode(os.read(descriptor, 4096), type=Holder)
        except (msgspec.MsgspecError, OSError):
            return HostTaken("a process that has not said its name yet", why=f"it holds {self.path}", hint="Try again.")
        return HostTaken(
            str(holder), why=f"it holds {self.path}",
            hint=f"Look at it with `flyball status`, or stop it with `kill {holder.identity.pid}`.",
        )  # fmt: skip

    def _unusable(self, err: OSError) -> StateDirectoryError:
        return StateDirectoryError(
            f"cannot use the state directory {self.path.parent}", why=err.strerror or str(err),
            hint="Make it writable, or name another one on a local disk in FLYBALL_STATE_DIR.",
        )  # fmt: skip

    def __enter__(self) -> Self:
        """`acquire()`."""
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """`release()`."""
        self.release()


def _lock(descriptor: int) -> None:
    """Lock the open file for this process alone, or raise BlockingIOError at once."""
    if sys.platform == "win32":
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError as err:
            raise BlockingIOError(err.errno, err.strerror) from err
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
