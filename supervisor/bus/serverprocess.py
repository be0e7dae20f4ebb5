"""A server process that we started now or in an earlier life: whether it lives, when it ends, and signals to it alone.

It is watched through a pidfd where the kernel has them (Linux 5.3), so its end is known at once even if it is not our
child; elsewhere it is looked at every 0.2 s.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Final, Self

from supervisor.process import process_start_s

__all__ = ["ServerProcess"]

_LOOK_EVERY_S: Final = 0.2


class ServerProcess:
    """One process, identified by (pid, start time); to be made and used inside a running event loop."""

    def __init__(self, pid: int, start_time_s: float, child: "subprocess.Popen[bytes] | None" = None) -> None:
        """Watch the process. `child` is given where we started it ourselves.

        :raises ProcessLookupError: it is gone.
        """
        self.pid = pid
        self.start_time_s = start_time_s
        self._child = child
        self._ended = asyncio.Event()
        self._pidfd = _pidfd(pid)
        if not self.is_alive():
            self.close()
            raise ProcessLookupError(f"process {pid} has ended")
        if self._pidfd is not None:
            asyncio.get_running_loop().add_reader(self._pidfd, self._on_end)

    @classmethod
    def spawn(cls, arguments: Sequence[str | Path], *, directory: Path, log: IO[bytes], keeps_open: int) -> Self:
        """Start a program in a session of its own, so that Ctrl-C at the terminal and our own end do not end it.

        Its output goes to `log`; it inherits the descriptor `keeps_open`.

        :raises OSError: it cannot be started. :raises ProcessLookupError: it ended at once.
        """
        child = subprocess.Popen(
            arguments, cwd=directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True, pass_fds=(keeps_open,),
        )  # fmt: skip
        start_time_s = process_start_s(child.pid)
        if start_time_s is None:
            child.wait()
            raise ProcessLookupError(f"process {child.pid} ended at once")
        return cls(child.pid, start_time_s, child)

    @classmethod
    def find(cls, pid: int, start_time_s: float | None = None) -> Self | None:
        """The living process `pid`; None where there is none, or where it did not start at `start_time_s`."""
        try:
            found_s = process_start_s(pid)
            if found_s is None or start_time_s not in (None, found_s):
                return None
            return cls(pid, found_s)
        except (ProcessLookupError, PermissionError):
            return None

    def is_alive(self) -> bool:
        """Whether it lives; a zombie does not."""
        if self._child is not None:
            return self._child.poll() is None
        return process_start_s(self.pid) == self.start_time_s

    async def ended(self) -> str:
        """Wait for its end; returns how it ended, such as `was killed by SIGKILL`."""
        if self._pidfd is None:
            while self.is_alive():  # noqa: ASYNC110 - without a pidfd nobody tells
                await asyncio.sleep(_LOOK_EVERY_S)
        else:
            await self._ended.wait()
        return self._how()

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal; harmless when it has ended."""
        with contextlib.suppress(ProcessLookupError):
            if self._pidfd is not None and sys.platform == "linux":
                signal.pidfd_send_signal(self._pidfd, number)
            elif self.is_alive():
                os.kill(self.pid, number)

    async def stop(self, within_s: float) -> None:
        """Ask it to end, end it where it has not after `within_s`, and wait until it is gone."""
        self.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(within_s):
                await self.ended()
        except TimeoutError:
            self.send_signal(signal.SIGKILL)
            await self.ended()
        finally:
            self.close()

    def close(self) -> None:
        """Watch it no longer."""
        pidfd, self._pidfd = self._pidfd, None
        if pidfd is not None:
            asyncio.get_running_loop().remove_reader(pidfd)
            os.close(pidfd)

    def _on_end(self) -> None:
        self._ended.set()
        if self._pidfd is not None:
            asyncio.get_running_loop().remove_reader(self._pidfd)

    def _how(self) -> str:
        """How it ended; reaps our child."""
        if self._child is None:
            return "ended"
        code = self._child.wait()
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def _pidfd(pid: int) -> int | None:
    """A descriptor that tells of the end of `pid`; None on an old kernel, or in a sandbox that forbids it.

    :raises ProcessLookupError: it is gone.
    """
    if sys.platform != "linux":
        return None
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        raise
    except OSError:
        return None
