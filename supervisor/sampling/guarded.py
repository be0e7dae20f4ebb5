"""Holds sources to their word: a read that raises or is late costs its figures, and never stops the sampler."""

import asyncio
import logging
from collections.abc import Callable, Collection
from typing import Final, Generic, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from schemas.sample import Gpu, GpuBackend, Xid
from supervisor.sampling.source import GpuReadings, GpuSource

log = logging.getLogger(__name__)

_STOP_S: Final = 2.0
T = TypeVar("T")


class _Read(Struct, frozen=True):
    task: asyncio.Task[GpuReadings]
    #: the cards asked for, None for all
    only: Collection[int] | None


class Guarded(Generic[T]):
    """A source that is read on the event loop. What it raises is logged when it begins and when it is over."""

    def __init__(self, what: str) -> None:
        """`what` stands in the log."""
        self._what = what
        self._failure = ""

    def read(self, read: Callable[[], T]) -> T | None:
        """What `read` returns, None where it raises."""
        try:
            figures = read()
        except Exception as error:
            failure = f"{type(error).__name__}: {error}"
            if failure != self._failure:
                self._failure = failure
                log.exception("%s cannot be read and is absent from the samples", self._what)
            return None
        if self._failure:
            log.info("%s can be read again", self._what)
            self._failure = ""
        return figures


class GuardedGpus:
    """One read at a time, begun and ended apart, so that the host is read while the driver answers.

    A read that is late goes on, so that the source stays in one piece, and its result is thrown away: it is of another
    tick. Until then, and after a failure, every card that was ever seen is blind. Only the XIDs of a late read are kept
    for the next one: they are facts, not figures, and are told once.
    """

    def __init__(self, source: GpuSource, *, bound_s: float) -> None:
        """`bound_s` is how long `end` waits at most."""
        self._source = source
        self._bound_s = bound_s
        self._started = False
        self._late: asyncio.Task[GpuReadings] | None = None
        self._read: _Read | None = None
        self._known: dict[int, Gpu] = {}
        self._late_xids: dict[str, tuple[Xid, ...]] = {}
        self._failure = ""

    def begin(self, only: Collection[int] | None = None) -> None:
        """Begin to read all cards, or those whose index is in `only`; the first time the source is started, too."""
        if self._late is not None and self._late.done():
            if not self._late.cancelled() and (error := self._late.exception()) is not None:
                log.error("the GPU source failed, too late to be heard: %s", error, exc_info=error)
            elif not self._late.cancelled():
                for gpu in self._late.result().gpus:
                    if gpu.xids:
                        self._late_xids[gpu.uuid] = (*self._late_xids.get(gpu.uuid, ()), *gpu.xids)
            self._late = None
        if self._late is None:
            self._read = _Read(asyncio.create_task(self._start_and_read(only), name="gpu-read"), only)

    async def end(self, *, bound_s: float | None = None) -> GpuReadings:
        """What the read that `begin` began brought; `bound_s` as in the constructor where it is None."""
        read = self._read
        if read is None:
            return self._absent("gpu_source_late" if self._started else "gpu_source_starting", None)
        done, _ = await asyncio.wait({read.task}, timeout=self._bound_s if bound_s is None else bound_s)
        self._read = None
        if not done:
            self._late = read.task
            return self._absent("gpu_source_late" if self._started else "gpu_source_starting", read.only)
        error = asyncio.CancelledError() if read.task.cancelled() else read.task.exception()
        if error is not None:
            return self._failed(error, read.only)
        if self._failure:
            log.info("the GPU source works again")
            self._failure = ""
        readings = read.task.result()
        self._known.update((gpu.index, gpu) for gpu in readings.gpus)
        return readings if read.only is not None or not self._late_xids else self._with_late_xids(readings)

    async def stop(self) -> None:
        """End what is under way and stop the source, within seconds."""
        reading = None if self._read is None else self._read.task
        pending = [task for task in (self._late, reading) if task is not None]
        for task in pending:
            task.cancel()
        stopping = asyncio.create_task(self._source.stop(), name="gpu-stop")
        await asyncio.wait([stopping, *pending], timeout=_STOP_S)
        if not stopping.done():
            stopping.cancel()
            log.error("the GPU source did not stop within %g s", _STOP_S)
        elif not stopping.cancelled() and (error := stopping.exception()) is not None:
            log.error("the GPU source failed to stop", exc_info=error)

    async def _start_and_read(self, only: Collection[int] | None) -> GpuReadings:
        if not self._started:
            await self._source.start()
            self._started = True
        return await self._source.read(only)

    def _with_late_xids(self, readings: GpuReadings) -> GpuReadings:
        late = self._late_xids
        gpus = tuple(replace(gpu, xids=(*late.pop(gpu.uuid, ()), *gpu.xids)) for gpu in readings.gpus)
        return replace(readings, gpus=gpus)

    def _failed(self, error: BaseException, only: Collection[int] | None) -> GpuReadings:
        what = f"{type(error).__name__}: {error}"
        if what != self._failure:
            self._failure = what
            log.error("the GPU source failed: %s", what, exc_info=error)
        return self._absent(f"gpu_source_failed: {what}", only)

    def _absent(self, reason: str, only: Collection[int] | None) -> GpuReadings:
        blind = tuple(
            Gpu(
                index=gpu.index, uuid=gpu.uuid, name=gpu.name, pci_bus_id=gpu.pci_bus_id, reading="blind", reason=reason
            )
            for index, gpu in sorted(self._known.items())
            if only is None or index in only
        )
        hint = "" if reason == "gpu_source_starting" else "See the supervisor's log, then run `flyball check`."
        return GpuReadings(GpuBackend("unavailable", reason, hint), blind)
