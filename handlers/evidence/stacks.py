"""The stacks of a Python program's threads, by py-spy, which reads them from outside while the program runs on."""

import atexit
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Final, NamedTuple

from handlers.evidence import grouping
from handlers.evidence.process import Process
from schemas.terminal import printable

MOST_BYTES: Final = 16_384
#: Of what py-spy prints; thousands of threads that stand at the same place are a few lines in the end.
_READ_BYTES: Final = 1 << 20
_MAPS_MOST_BYTES: Final = 4 << 20
#: A program that runs on may move under the reader's eyes.
_ATTEMPTS: Final = 3
_NOT_ALLOWED: Final = ("permission denied", "operation not permitted", "eperm")
#: Ends py-spy's head: the version, an empty line, the first thread. The command line before it may hold any lines, also
#: such ones, so the last one counts.
_HEAD: Final = re.compile(r"(?s:.*)^Python v[^\n]*\n\n(?=Thread )", re.MULTILINE)


class NoStacks(Exception):
    """There are none to be had; the text says why, as a sentence."""


def find_tool() -> Path | None:
    """py-spy, beside our Python or on PATH."""
    beside = Path(sys.executable).with_name("py-spy")
    found = beside if beside.is_file() else shutil.which("py-spy")
    return Path(found) if found else None


def dump(process: Process, until_s: float, tool: Path | None) -> str:
    """What py-spy prints of all threads, those alike as one, the beginning of it; no local variables or command line.

    `until_s` is CLOCK_MONOTONIC.

    :raises NoStacks: it is no Python program, or cannot be read.
    """
    if not _is_python(process):
        raise NoStacks("stacks: it is no Python program")
    if tool is None:
        raise NoStacks("stacks: py-spy is not there; install it beside Flyball: pip install py-spy")
    trouble = ""
    for _ in range(_ATTEMPTS):
        left_s = until_s - time.monotonic()
        if left_s <= 0:
            break
        said = _run([str(tool), "dump", "--nonblocking", "--pid", str(process.pid)], left_s)
        if said.code == 0:
            return _cut(said.text, whole=said.whole)
        late = said.code == -signal.SIGKILL
        trouble = _first_line(said.error) or ("it took too long" if late else f"it ended with {said.code}")
        if any(word in said.error.lower() for word in _NOT_ALLOWED):
            raise NoStacks(
                f"stacks: py-spy may not look into this process ({trouble.partition(':')[0]}); run Flyball as root or "
                "with CAP_SYS_PTRACE, or as the program's user where kernel.yama.ptrace_scope is 0"
            )
    raise NoStacks(f"stacks: py-spy did not get them in the time there was ({trouble or 'none was left'})")


def _is_python(process: Process) -> bool:
    """Whether Python runs in it, as a program of its own or as a library."""
    try:
        if Path(process.link("exe").removesuffix(" (deleted)")).name.startswith("python"):
            return True
        return b"/libpython" in process.read("maps", _MAPS_MOST_BYTES)
    except PermissionError as error:
        raise NoStacks(
            f"stacks: whether it is a Python program may not be seen ({error.strerror}); run Flyball as root, with "
            "CAP_SYS_PTRACE, or as the program's user"
        ) from None


class _Said(NamedTuple):
    """Exit code, and the beginnings of stdout and stderr; whether stdout is whole."""

    code: int
    text: str
    error: str = ""
    whole: bool = True


def _run(words: list[str], within_s: float) -> _Said:
    """Run it; killed when its time is over, or when it says too much."""
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors)
        except OSError as error:
            raise NoStacks(f"stacks: {words[0]} cannot be started ({error.strerror})") from None
        deadline = threading.Timer(within_s, process.kill)
        deadline.daemon = True  # a supervisor that stops waits for no look, and leaves no tool behind
        atexit.register(process.kill)
        deadline.start()
        try:
            with process:
                assert process.stdout is not None
                said = process.stdout.read(_READ_BYTES)
                if process.stdout.read(1):
                    process.kill()
                    return _Said(0, said.decode(errors="backslashreplace"), whole=False)
        finally:
            deadline.cancel()
            atexit.unregister(process.kill)
        errors.seek(0)
        trouble = errors.read(4096).decode(errors="replace")
        return _Said(process.returncode, said.decode(errors="backslashreplace"), trouble)


def _cut(said: str, *, whole: bool) -> str:
    """From the first thread on, since the head holds the command line, which may hold secrets; whole lines.

    What is not whole ends with an ellipsis, and its last thread, of which a part may be missing, is left out.

    :raises NoStacks: where the head ends cannot be told.
    """
    head = _HEAD.match(said)
    if head is None:
        raise NoStacks("stacks: py-spy printed what Flyball does not know; is it another version of it?")
    threads = "\n".join(map(printable, said[head.end() :].split("\n")))
    stacks = grouping.stacks(threads.rstrip("\n") if whole else threads.rpartition("\nThread ")[0])
    if len(stacks.encode()) <= MOST_BYTES:
        return stacks if whole else f"{stacks}\n…"
    kept = stacks.encode()[:MOST_BYTES].decode(errors="ignore")
    return kept.rpartition("\n")[0] + "\n…"


def _first_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[0][:200] if lines else ""
