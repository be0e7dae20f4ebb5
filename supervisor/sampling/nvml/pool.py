"""The reader processes that there are, and the bound on those that cannot be killed."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

from supervisor.sampling.nvml.protocol import Heard
from supervisor.sampling.nvml.reader import Kill, Reader

MAX_ABANDONED: Final = 3

_LOG: Final = logging.getLogger(__name__)


class Pool:
    """Starts readers and gets rid of them; one that cannot be killed is abandoned and counted."""

    def __init__(self, *, slow_interval_s: float, environment: Mapping[str, str] | None, kill: Kill) -> None:
        """`environment` is the readers', ours where it is None."""
        self._slow_interval_s = slow_interval_s
        self._environment = environment
        self._kill = kill
        self._readers: list[Reader] = []

    @property
    def exhausted(self) -> bool:
        """So many readers hang in the kernel that no other may be started."""
        return self._count_abandoned() >= MAX_ABANDONED

    @property
    def blocked(self) -> set[int]:
        """The cards in which abandoned readers hang."""
        self._count_abandoned()
        return {index for reader in self._readers if reader.abandoned for index in reader.stuck}

    def new(self, on_change: Callable[[], None], on_xid: Callable[[int, Heard], None] | None = None) -> Reader:
        """A reader that is not started yet; whoever takes it also disposes of it."""
        reader = Reader(on_change, self._kill, on_xid)
        self._readers.append(reader)
        return reader

    async def open(self, reader: Reader) -> None:
        """Start it and wait until NVML is initialised in it; a failure is in `reader.gone`.

        :raises OSError: no process can be started.
        """
        await reader.open(slow_interval_s=self._slow_interval_s, environment=self._environment)

    async def dispose(self, reader: Reader) -> None:
        """Kill it, or abandon it."""
        if await reader.close():
            self._readers.remove(reader)
        else:
            text = "process %d hangs in the driver and cannot be killed; %d of at most %d"
            _LOG.error(text, reader.pid, self._count_abandoned(), MAX_ABANDONED)

    async def close(self) -> None:
        """Dispose of all at once; those that cannot be killed are left behind."""
        await asyncio.gather(*(reader.close() for reader in self._readers if not reader.abandoned))
        for reader in self._readers:
            reader.release()
        self._readers.clear()

    def _count_abandoned(self) -> int:
        """How many hang in the kernel; those that have ended meanwhile are forgotten."""
        self._readers[:] = [reader for reader in self._readers if reader.alive or not reader.abandoned]
        return sum(reader.abandoned for reader in self._readers)
