"""The loop around a reader: one poll at a time, each at its time, and what is wrong said once."""

import asyncio
import logging
import zlib
from typing import Final, Protocol

from supervisor.clock import Clock
from supervisor.sampling.cadence import Schedule
from supervisor.sampling.counters.source import Tally, Told, Untold

log = logging.getLogger(__name__)

#: The first poll comes within this time; sources differ in when, so that they do not all ask at one instant.
_SPREAD_S: Final = 1.0


class Reader(Protocol):
    """Reads a source once, within bounds of its own in time and size."""

    #: kind and address, secrets masked
    name: str

    async def open(self) -> None:
        """Get ready; each `open` has its `close`."""
        ...

    async def read(self) -> Told | None:
        """What it tells now; None where it has told nothing since the last time, and nothing is wrong.

        :raises Untold: what was told cannot be used, or nothing could be asked.
        """
        ...

    async def close(self) -> None:
        """Release what is open."""
        ...


class Poll:
    """A `CounterSource`: polls a reader each `every_s`, at an offset that follows from its name."""

    def __init__(self, reader: Reader, *, every_s: float, clock: Clock) -> None:
        """Reads nothing yet."""
        self.name = reader.name
        self.latest: tuple[float, Tally] | None = None
        self.trouble = ""
        self.missing = ""
        self._reader = reader
        self._every_s = every_s
        self._clock = clock

    async def run(self) -> None:
        """Poll until cancelled; a poll that takes longer than `every_s` delays the next one, and none overlaps it."""
        share = zlib.crc32(self.name.encode("utf-8", "backslashreplace")) / 2**32
        schedule = Schedule(self._clock.monotonic() + share * min(self._every_s, _SPREAD_S), self._every_s)
        await self._reader.open()
        try:
            while True:
                await asyncio.sleep(schedule.due_s - self._clock.monotonic())
                schedule.begin(self._clock.monotonic())
                await self._poll()
        finally:
            await self._reader.close()

    async def once(self) -> None:
        """Poll once."""
        await self._reader.open()
        try:
            await self._poll()
        finally:
            await self._reader.close()

    async def _poll(self) -> None:
        try:
            told = await self._reader.read()
        except Untold as error:
            self._say(str(error))
        except Exception:
            # whatever is wrong with our reading of one source must not take the others down
            if not self.trouble:
                log.exception("%s cannot be read", self.name)
            self.trouble = f"{self.name} cannot be read because of an error in Flyball; see the supervisor's log"
            self.missing = ""
        else:
            if told is not None:
                self.latest = (self._clock.monotonic() - told.age_s, told.tally)
            self._say(self.missing if told is None else told.missing, some=True)

    def _say(self, trouble: str, *, some: bool = False) -> None:
        """Log what is wrong when it begins and when it is over; in between the sample says it.

        `some`: it costs only some of the figures.
        """
        if trouble and not self.trouble:
            log.warning("counters: %s", trouble)
        elif self.trouble and not trouble:
            log.info("counters: %s can be read again", self.name)
        self.trouble = trouble
        self.missing = trouble if some else ""
