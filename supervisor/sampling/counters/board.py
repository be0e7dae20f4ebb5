"""All sources of one host: started and ended together, and what they told last as a sample holds it."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from schemas.sample import Counted
from supervisor.clock import Clock
from supervisor.sampling.counters.source import CounterSource

log = logging.getLogger(__name__)

#: Older figures are passed on no more: so many polls, and never less than so many seconds.
STALE_POLLS: Final = 3
STALE_S: Final = 10.0
#: What a sample says of a source is never longer.
_LONGEST_REASON: Final = 300
_STOP_S: Final = 1.0


class Entry(Struct, frozen=True, kw_only=True):
    """A source and whose it is."""

    workload: str
    source: CounterSource
    every_s: float


class Board:
    """Owns a task for each source between `start` and `stop`; reading the board costs no I/O and never waits."""

    def __init__(self, entries: Sequence[Entry], clock: Clock) -> None:
        """Starts nothing yet."""
        self._entries = tuple(entries)
        self._clock = clock
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to poll."""
        self._tasks = [
            asyncio.create_task(entry.source.run(), name=f"counters {entry.source.name}") for entry in self._entries
        ]

    async def once(self) -> None:
        """Poll each once, all at a time."""
        await asyncio.gather(*(entry.source.once() for entry in self._entries))

    async def stop(self) -> None:
        """End every poll, within a second."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if not tasks:
            return
        ended, stuck = await asyncio.wait(tasks, timeout=_STOP_S)
        for task in stuck:
            log.error("%s did not end", task.get_name())
        for task in ended:
            if not task.cancelled() and (error := task.exception()) is not None:
                log.error("%s failed", task.get_name(), exc_info=error)

    def counted(self) -> tuple[Counted, ...]:
        """What each source told last, or why there is nothing."""
        now_s = self._clock.monotonic()
        return tuple(_counted(entry, now_s) for entry in self._entries)


def _counted(entry: Entry, now_s: float) -> Counted:
    source = entry.source
    if source.latest is None:
        reason = source.trouble or f"{source.name}: not read yet"
        return Counted(workload=entry.workload, source=source.name, reason=_cut(reason))
    true_s, tally = source.latest
    age_s = round(max(0.0, now_s - true_s), 3)
    stale_s = max(STALE_POLLS * entry.every_s, STALE_S)
    if age_s > stale_s:
        stale = f"{source.name}: nothing new for more than {stale_s:g} s; raise every_s if that is the program's pace"
        return Counted(workload=entry.workload, source=source.name, age_s=age_s, reason=_cut(source.trouble or stale))
    return Counted(
        workload=entry.workload, source=source.name, age_s=age_s, counts=tally.counts, gauges=tally.gauges,
        reason="" if source.missing else _cut(source.trouble), missing=_cut(source.missing),
    )  # fmt: skip


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_REASON else text[: _LONGEST_REASON - 1] + "…"
