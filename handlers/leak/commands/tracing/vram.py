"""The memory of the cards that the traced processes use, where there is an NVIDIA driver."""

import asyncio
from collections.abc import Iterable
from typing import Final

from supervisor.command import NvmlSource

#: Asking a driver more often costs more than it tells.
_LEAST_INTERVAL_S: Final = 1.0


class Vram:
    """Asks the driver in the background; without one it is never asked again."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = max(interval_s, _LEAST_INTERVAL_S)
        self._used: dict[int, int] | None = None

    async def run(self) -> None:
        """Ask until cancelled, or until it is clear that there is no driver."""
        source = NvmlSource()
        try:
            await source.start()
            while (readings := await source.read()).backend.state == "ok":
                used: dict[int, int] = {}
                known = all(gpu.reading == "fresh" for gpu in readings.gpus)
                # a process that draws is in a list of its own, with the same memory
                largest: dict[tuple[int, int], int] = {}
                for gpu in readings.gpus:
                    for process in gpu.processes:
                        known = known and process.memory_used_bytes is not None
                        key = gpu.index, process.pid
                        largest[key] = max(largest.get(key, 0), process.memory_used_bytes or 0)
                for (_, pid), size in largest.items():
                    used[pid] = used.get(pid, 0) + size
                self._used = used if known and readings.gpus else None
                await asyncio.sleep(self._interval_s)
        finally:
            self._used = None
            await source.stop()

    def of(self, pids: Iterable[int]) -> int | None:
        """Bytes that these processes use on all cards, None where the driver does not tell."""
        used = self._used
        return None if used is None else sum(used.get(pid, 0) for pid in pids)
