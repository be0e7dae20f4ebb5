"""One trace from its start to its end: who is traced, what runs beside it, and how the process ended."""

import asyncio
import errno
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from handlers.leak.commands.tracing.child import Child
from handlers.leak.commands.tracing.csvfile import TraceFile
from handlers.leak.commands.tracing.ending import Ending, ending, exit_of_stranger, unknown_ending
from handlers.leak.commands.tracing.orders import Orders, end, signals
from handlers.leak.commands.tracing.progress import Progress
from handlers.leak.commands.tracing.tallies import Tallies, Teller
from handlers.leak.commands.tracing.tracer import Traced, Tracer
from handlers.leak.commands.tracing.vram import Vram
from handlers.leak.policy import Subject
from handlers.leak.settings import Settings
from schemas.leak import Resource, Verdict
from supervisor.command import CounterSource, FlyballError, ProcessTree, SystemClock

#: How often, and with what time between, we ask how a process ended whose parent may not have asked yet.
_TRIES: Final = 20
_TRY_S: Final = 0.05


class Plan(Struct, frozen=True, kw_only=True):
    """What is to be traced: the process `pid`, or `command`."""

    pid: int | None
    command: tuple[str, ...]
    interval_s: float
    duration_s: float | None
    sources: tuple[CounterSource, ...]


class Result(Struct, frozen=True, kw_only=True):
    """What a trace found."""

    pid: int
    start_time_s: float
    name: str
    ending: Ending
    #: what a shell would say of the command: its exit code, 128 + N for signal N; 0 for a process that is not ours
    exit_code: int
    seen: Traced
    verdicts: dict[Resource, Verdict]


async def trace(plan: Plan, file: TraceFile, progress: Progress) -> Result:
    """Trace until the process ends, the time is over, or somebody says stop.

    :raises FlyballError: there is no such process, or the command cannot be started.
    """
    stop = asyncio.Event()
    if plan.pid is not None:
        with signals(dict.fromkeys((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), stop.set)):
            return await _trace(plan, plan.pid, None, file, progress, stop)
    orders = Orders()
    with signals(orders.handlers()):
        child = orders.child = Child(plan.command, progress.aside)
        try:
            return await _trace(plan, child.pid, child, file, progress, stop)
        finally:
            await asyncio.to_thread(end, child)


async def _trace(
    plan: Plan, pid: int, child: Child | None, file: TraceFile, progress: Progress, stop: asyncio.Event
) -> Result:
    clock = SystemClock()
    began_s = clock.monotonic()
    with _end_of(pid, stop) as pidfd:
        try:
            tree = ProcessTree(pid)
        except FlyballError:
            if child is None:
                raise
            # so short a life is not an error of the command's
            code = await asyncio.to_thread(end, child)
            return _result(pid, None, ending(pid, code, began_s), code, Traced(ended=True), {})
        subject = Subject(Settings())
        tellers: Sequence[Teller] = plan.sources if child is None else (child, *plan.sources)
        tallies, vram = Tallies(tellers, progress.say), Vram(plan.interval_s)
        tracer = Tracer(tree, subject, file, tallies, vram, progress, clock)
        async with _background(progress.say, vram.run, *(source.run for source in plan.sources)):
            await tracer.run(plan.interval_s, plan.duration_s, stop, unread=plan.pid is not None)
        progress.clear()
        if child is None:
            found, code = await _parting(tree, pidfd, began_s), 0
        else:
            over = not tracer.seen.ended and not stop.is_set()
            code = await asyncio.to_thread(end, child, at_once=over)
            found = ending(pid, code, began_s)
            if over and found.signal:
                found = replace(found, text=f"{found.text} at the end of --duration")
    return _result(pid, tree, found, code, tracer.seen, subject.verdicts)


async def _parting(tree: ProcessTree, pidfd: int, began_s: float) -> Ending:
    """How a process that is no child of ours ended, if it did."""
    if tree.look() is not None:
        return Ending(text="still runs")
    tries = 0
    while (code := exit_of_stranger(pidfd)) is None and tries < _TRIES:
        tries += 1
        await asyncio.sleep(_TRY_S)  # its parent has not asked yet
    found = unknown_ending(tree.pid, began_s) if code is None else ending(tree.pid, code, began_s)
    successor = tree.successor()
    if not successor:
        return found
    return replace(found, text=f"{found.text}; its pid belongs to another process now ({successor}), not traced")


def _result(
    pid: int, tree: ProcessTree | None, ending: Ending, code: int, seen: Traced, verdicts: dict[Resource, Verdict]
) -> Result:
    return Result(
        pid=pid,
        start_time_s=0.0 if tree is None else tree.start_time_s,
        name="" if tree is None else tree.name,
        ending=ending,
        exit_code=code if code >= 0 else 128 - code,
        seen=seen,
        verdicts=verdicts,
    )


@contextmanager
def _end_of(pid: int, stop: asyncio.Event) -> Iterator[int]:
    """Set `stop` when the process ends; gives a pidfd.

    Where the kernel has none (-1), or there is no such process, the next look finds it gone.
    """
    try:
        descriptor = os.pidfd_open(pid)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT):
            why = "it is one of its other threads"
            raise FlyballError(f"{pid} is no process", why=why, hint=f"See Tgid in /proc/{pid}/status") from error
        yield -1
        return
    loop = asyncio.get_running_loop()

    def ended() -> None:
        loop.remove_reader(descriptor)
        stop.set()

    loop.add_reader(descriptor, ended)
    try:
        yield descriptor
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


@asynccontextmanager
async def _background(
    say: Callable[[str], None], *jobs: Callable[[], Coroutine[Any, Any, None]]
) -> AsyncIterator[None]:
    """Run them meanwhile; one that fails takes neither the others nor the trace down, and is told at the end."""
    tasks = [asyncio.create_task(job()) for job in jobs]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                say(f"something that was to be read besides failed: {result!r}")
