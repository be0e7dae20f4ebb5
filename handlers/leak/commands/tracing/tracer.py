"""The loop of a trace: looks at the process each interval, writes the row, and asks the daemon's detector."""

import asyncio
import math
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from handlers.leak.commands.tracing.csvfile import MOST_COLUMNS, TraceFile, counted_column, gauge_column
from handlers.leak.commands.tracing.progress import Progress
from handlers.leak.commands.tracing.tallies import Tallies
from handlers.leak.commands.tracing.vram import Vram
from handlers.leak.commands.tracing.wording import MB
from handlers.leak.policy import Subject
from schemas.leak import Resource
from supervisor.command import Clock, Look, ProcessTree

#: What cannot be written anew waits so long for the names of the first counters.
_NAMES_WITHIN_S: Final = 2.0
#: Beyond so many intervals time was lost (suspend, SIGSTOP), and no rate is taken across; a busy machine is late, too.
_GAP_INTERVALS: Final = 3
_LEAST_GAP_S: Final = 1.0


class Traced(Struct, kw_only=True):
    """What a trace has seen so far; times are seconds since its start."""

    looks: int = 0
    lasted_s: float = 0.0
    last: Look | None = None
    most_children: int = 0
    #: whether the process ended, rather than the trace
    ended: bool = False


class Tracer:
    """Traces one process until it ends, or is told to stop."""

    def __init__(
        self, tree: ProcessTree, subject: Subject, file: TraceFile, tallies: Tallies, vram: Vram, progress: Progress,
        clock: Clock,
    ) -> None:  # fmt: skip
        """Nothing is looked at yet."""
        self.seen = Traced()
        self._tree = tree
        self._subject = subject
        self._file = file
        self._tallies = tallies
        self._vram = vram
        self._progress = progress
        self._clock = clock
        self._said: set[str] = set()

    async def run(
        self, interval_s: float, duration_s: float | None, stop: asyncio.Event, *, unread: bool = False
    ) -> None:
        """Look each `interval_s` seconds, for `duration_s` at most; `stop` is set when the process ends, too.

        With `unread` it also ends once nobody reads the rows any more.
        """
        began_s = self._clock.monotonic()
        tick, before_s = 0, 0.0
        while True:
            elapsed_s = self._clock.monotonic() - began_s
            if elapsed_s - before_s > max(_GAP_INTERVALS * interval_s, _LEAST_GAP_S):
                self._subject.interrupt()
            before_s = elapsed_s
            look = self._tree.look()
            if look is None:
                self.seen.ended = True
                return
            self._take(elapsed_s, look)
            if unread and self._file.deserted:
                return
            # a tick that is late is not made up for
            tick = max(tick + 1, math.ceil((self._clock.monotonic() - began_s) / interval_s))
            due_s = tick * interval_s
            if duration_s is not None and due_s > duration_s:
                await _happens(stop, duration_s - (self._clock.monotonic() - began_s))
                self.seen.lasted_s = self._clock.monotonic() - began_s
                return
            if await _happens(stop, due_s - (self._clock.monotonic() - began_s)):
                self.seen.lasted_s = self._clock.monotonic() - began_s
                return

    def _take(self, elapsed_s: float, look: Look) -> None:
        counts, gauges = self._tallies.read()
        vram = self._vram.of(look.pids)
        children = len(look.pids) - 1
        seen = self.seen
        seen.looks, seen.lasted_s, seen.last = seen.looks + 1, elapsed_s, look
        seen.most_children = max(seen.most_children, children)
        early = self._tallies.expected and elapsed_s < _NAMES_WITHIN_S
        self._file.add(_row(elapsed_s, look, vram, counts, gauges), more_to_come=early)
        # what children hold is in the sums, so their number explains a growth as a level of the program's own does
        levels = {"children": float(children)} | gauges if seen.most_children else gauges
        self._subject.observe(elapsed_s, _levels(look, vram), counts, levels)
        self._remark(look)
        self._progress.show(elapsed_s, look, counts, self._subject.verdicts)

    def _remark(self, look: Look) -> None:
        if look.handles is None:
            self._once("open handles are unknown: the process is another user's. Run it as root to see them")
        if self._file.trouble and not self._file.deserted:
            self._once(f"{self._file.trouble}. The trace goes on for its verdict")
        if self._file.crowded:
            self._once(
                f"there are more counters than {self._file.shown} has columns ({MOST_COLUMNS}); the last are left out"
            )
        for column in self._file.left_out:
            self._once(f"{column} appeared after the first line of {self._file.shown} and has no column there")

    def _once(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            self._progress.say(sentence)


def _row(
    elapsed_s: float, look: Look, vram: int | None, counts: Mapping[str, float], gauges: Mapping[str, float]
) -> dict[str, str]:
    row = {
        "Time(s)": f"{elapsed_s:.3f}",
        "Threads": str(look.threads),
        "RSS(MB)": f"{look.rss_bytes / MB:.3f}",
        "VMS(MB)": f"{look.vms_bytes / MB:.3f}",
        "Handles": "" if look.handles is None else str(look.handles),
        "RSSAnon(MB)": f"{look.rss_anon_bytes / MB:.3f}",
        "CPU(s)": f"{look.cpu_s:.2f}",
        "Children": str(len(look.pids) - 1),
    }
    if vram is not None:
        row["VRAM(MB)"] = f"{vram / MB:.3f}"
    row |= {counted_column(name): _number(value) for name, value in counts.items()}
    return row | {gauge_column(name): _number(value) for name, value in gauges.items()}


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def _levels(look: Look, vram: int | None) -> dict[Resource, float]:
    levels: dict[Resource, float] = {
        "rss": float(look.rss_bytes), "vms": float(look.vms_bytes), "threads": float(look.threads)
    }  # fmt: skip
    if look.handles is not None:
        levels["handles"] = float(look.handles)
    if vram is not None:
        levels["vram"] = float(vram)
    return levels


async def _happens(event: asyncio.Event, within_s: float) -> bool:
    """Whether it does, in this time."""
    try:
        async with asyncio.timeout(max(within_s, 0)):
            await event.wait()
    except TimeoutError:
        return False
    return True
