"""Looks at a process from outside, in a thread and within a time; changes nothing and stops nothing."""

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from msgspec import Struct

from handlers.evidence import sockets, stacks
from handlers.evidence.grouping import handle_kinds, thread_names
from handlers.evidence.process import Process, Stat
from schemas.sample import SAME_START_S

MOST_THREADS: Final = 20_000
MOST_HANDLES: Final = 65_536
#: How much longer than its time a look may be waited for before it counts as hanging.
GRACE_S: Final = 0.5


class Found(Struct, kw_only=True):
    """What a look found; where `there` is false, it was not the process that was meant."""

    there: bool = False
    name: str = ""
    threads: dict[str, int] = {}
    handles: dict[str, int] = {}
    memory: dict[str, int] = {}
    stacks: str = ""
    missing: list[str] = []
    took_s: float = 0.0


class Onlooker:
    """Looks at one process at a time. A look that hangs is left behind, and until it ends there is no other."""

    def __init__(self) -> None:
        self._back = threading.Event()  # the last look is; its thread lives on for a moment after it has answered
        self._back.set()

    async def look(self, pid: int, start_time_s: float, within_s: float, *, tool: Path | None, wanted: bool) -> Found:
        """What there is to be seen of a process; `tool` is py-spy, and `wanted` whether stacks are."""
        if not self._back.is_set():
            return Found(missing=["nothing was looked at: the look before this one hangs in the kernel"])
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Found] = loop.create_future()
        back = threading.Event()

        def work() -> None:
            try:
                found = gather(pid, start_time_s, within_s, tool=tool, wanted=wanted)
            finally:
                back.set()
            try:
                loop.call_soon_threadsafe(lambda: None if done.done() else done.set_result(found))
            except RuntimeError:
                return  # the loop is closed: nobody waits any more

        threading.Thread(target=work, name="evidence", daemon=True).start()
        self._back = back
        try:
            return await asyncio.wait_for(done, within_s + GRACE_S)
        except TimeoutError:
            hangs = f"nothing was seen: the look did not come back within {within_s:g} s"
            return Found(missing=[hangs], took_s=within_s)


def gather(pid: int, start_time_s: float, within_s: float, *, tool: Path | None, wanted: bool) -> Found:
    """The look itself; never raises: what could not be seen stands in `missing`, with why."""
    began_s = time.monotonic()
    found = Found()
    try:
        with Process(pid) as process:
            stat = process.stat()
            found.name, found.there = stat.name, abs(stat.start_time_s - start_time_s) <= SAME_START_S
            if trouble := _no_use(pid, stat, there=found.there):
                found.missing.append(trouble)
                found.there = False
            else:
                _look(found, process, began_s + within_s, tool=tool, wanted=wanted)
                _still_there(found, process)
    except PermissionError:
        found.missing.append(f"nothing was looked at: pid {pid} is hidden from this user (hidepid)")
    except (FileNotFoundError, ProcessLookupError):
        gone = f"nothing was looked at: there is no pid {pid}"
        found.missing.append(f"pid {pid} ended while it was looked at" if found.there else gone)
        found.there = False
    except (OSError, ValueError, IndexError) as error:
        found.missing.append(f"pid {pid} cannot be looked at: {error}")
    found.took_s = time.monotonic() - began_s
    return found


def _no_use(pid: int, stat: Stat, *, there: bool) -> str:
    """Why there is nothing to look at; empty where there is."""
    if not there:
        return (
            f"nothing was looked at: pid {pid} is now {stat.name}, which began {stat.start_time_s:.2f} s after boot: "
            "another process has the pid"
        )
    if stat.is_kernels:
        return f"nothing was looked at: pid {pid} ({stat.name}) is a thread of the kernel"
    if stat.state in "ZX":
        return f"nothing was looked at: pid {pid} ({stat.name}) has ended, and its parent has not asked for it yet"
    return ""


def _look(found: Found, process: Process, until_s: float, *, tool: Path | None, wanted: bool) -> None:
    def in_time() -> bool:
        return time.monotonic() < until_s

    for look in (_memory, _threads, _handles):
        look(found, process, in_time)
    if not wanted:
        return
    try:
        found.stacks = stacks.dump(process, until_s, tool)
    except stacks.NoStacks as error:
        found.missing.append(str(error))


def _memory(found: Found, process: Process, in_time: Callable[[], bool]) -> None:
    found.memory = process.memory()
    if "anonymous" not in found.memory:
        found.missing.append("memory: this kernel does not tell anonymous memory from that of files")


def _threads(found: Found, process: Process, in_time: Callable[[], bool]) -> None:
    names = process.thread_names(MOST_THREADS, in_time)
    found.threads = thread_names(names.values)
    if not names.complete:
        found.missing.append(_cut_short("threads", len(names.values), in_time()))


def _handles(found: Found, process: Process, in_time: Callable[[], bool]) -> None:
    try:
        links = process.handles(MOST_HANDLES, in_time)
    except PermissionError:
        count = process.handle_count()
        open_ = f"{count} are open, and what they are" if count else "what is open"
        found.missing.append(
            f"handles: {open_} may not be seen by this user; run Flyball as root, with CAP_SYS_PTRACE, or as the "
            "program's user"
        )
        return
    kinds: dict[str, str] = {}
    if inodes := {link[8:-1] for link in links.values if link.startswith("socket:[")}:
        kinds, unread = sockets.kinds(process, inodes, in_time)
        if unread:
            found.missing.append(f"handles: the states of its sockets ({', '.join(unread)}) could not be read")
    found.handles = handle_kinds(links.values, kinds)
    if not links.complete:
        found.missing.append(_cut_short("handles", len(links.values), in_time()))


def _cut_short(what: str, count: int, had_time: bool) -> str:
    why = "" if had_time else " in the time there was"
    return f"{what}: there are more than the {count:,} that were looked at{why}"


def _still_there(found: Found, process: Process) -> None:
    """A process that has ended meanwhile shows less than it had."""
    try:
        ended = process.stat().state in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        ended = True
    if ended:
        found.missing.append(f"pid {process.pid} ended while it was looked at: what was seen is not all")
