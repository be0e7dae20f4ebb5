"""Runs the argument list that starts a workload anew: without a shell, in a session of its own, bounded in all.

What it prints is kept in memory that cannot grow, so that neither it nor a program that it leaves in the background
fills anything, or is hit by a pipe that nobody reads any more.
"""

import asyncio
import contextlib
import fcntl
import os
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Final

#: What a workload may need to be found and started; everything else may be a secret of ours.
_PASSED: Final = frozenset(
    {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"}
)
#: What it prints is kept up to so much, and the end of it told.
OUTPUT_BYTES: Final = 65_536
_TOLD: Final = 300
#: Passwords in addresses, and after `password=` and its like, are not repeated.
_SECRET: Final = re.compile(
    r"(?<=://)[^/@\s]*(?=@)|(?i:(?<=password=)|(?<=passphrase=)|(?<=secret=)|(?<=token=)|(?<=key=))[^&\s]+"
)


async def run(arguments: Sequence[str], timeout_s: float) -> str:
    """Run it to its end; returns what went wrong in a sentence, empty where it ended with 0.

    One that takes longer is killed with its whole process group.
    """
    with _Output() as output:
        try:
            process = await asyncio.create_subprocess_exec(
                *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, cwd="/",
                env=environment(os.environ), start_new_session=True,
            )  # fmt: skip
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            return f"{arguments[0]!r} cannot be run: {reason}"
        try:
            async with asyncio.timeout(timeout_s):
                code = await process.wait()
        except TimeoutError:
            _kill(process)
            await process.wait()
            return (
                f"{arguments[0]!r} was killed because it took longer than {timeout_s:g} s; it must come back once the "
                f"workload is started{_end_of(output)}"
            )
        except asyncio.CancelledError:
            _kill(process)
            raise
        if code == 0:
            return ""
        how = f"ended with code {code}" if code > 0 else f"was ended by {_signal_name(-code)}"
        return f"{arguments[0]!r} {how}{_end_of(output)}"


def environment(ours: Mapping[str, str]) -> dict[str, str]:
    """What of our environment is passed on."""
    return {name: value for name, value in ours.items() if name in _PASSED or name.startswith("LC_")}


class _Output(contextlib.AbstractContextManager[int]):
    """A file in memory of a fixed size; what is written beyond it fails without a signal."""

    def __enter__(self) -> int:
        if sys.platform != "linux":
            self._descriptor = os.open(os.devnull, os.O_RDWR)
            return self._descriptor
        self._descriptor = os.memfd_create("restart", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self._descriptor, OUTPUT_BYTES)
        fcntl.fcntl(self._descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
        return self._descriptor

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def _end_of(output: int) -> str:
    """The last words in it; the offset is shared with who wrote them."""
    written = os.lseek(output, 0, os.SEEK_CUR)
    start = max(0, written - 4 * _TOLD)
    text = os.pread(output, written - start, start).decode(errors="replace")
    words = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return f": {_SECRET.sub('***', words)[-_TOLD:]}" if words else ""


def _kill(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
