"""The tick loop: reads every source into one sample a tick, and hands it on."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Literal

from msgspec import Struct

from schemas.sample import GpuBackend, Host, Process, Sample, Source
from supervisor.clock import Clock, rfc3339
from supervisor.config import SamplingSection
from supervisor.handler import Edge
from supervisor.sampling.cadence import Focus, Schedule, Watch
from supervisor.sampling.guarded import Guarded, GuardedGpus
from supervisor.sampling.source import CounterBoard, GpuReadings, GpuSource, HostSource, ProcessSource, Registered
from supervisor.sampling.switch import SwitchedGpus

#: So many intervals without a tick are a gap: time was lost, and rates over it are void.
GAP_INTERVALS: Final = 3
#: A read of all cards may miss its deadline once a reader; what is later than that is a bug, and cut off.
_DEADLINES: Final = 3
#: For a single sample it is worth waiting for the driver.
_START_S: Final = 5.0


def since_boot_s() -> float:
    """Time since boot, suspend included (CLOCK_BOOTTIME) where there is such a clock; elsewhere the monotonic one."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


async def wait_for(event: asyncio.Event, seconds: float) -> None:
    """Return when the event is set, or after so many seconds."""
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            await event.wait()
    except TimeoutError:
        return


class _Stamp(Struct, frozen=True):
    """When a tick began."""

    wall_s: float
    monotonic_s: float
    gap: bool


class Sampler:
    """Samples one host: everything each `interval_s`, and what nears its CRITICAL edge each `fast_interval_s`.

    It reads what the sources say and makes up nothing: what did not answer is blind or absent in the sample.
    """

    def __init__(
        self,
        *,
        host: str,
        boot_id: str,
        sampling: SamplingSection,
        clock: Clock,
        gpus: GpuSource,
        host_source: HostSource,
        processes: ProcessSource,
        edges: Sequence[Edge],
        registered: Callable[[], Registered],
        counters: CounterBoard | None = None,
        simulated: bool = False,
        first_tick: int = 0,
        boottime: Callable[[], float] = since_boot_s,
        wait: Callable[[asyncio.Event, float], Awaitable[None]] = wait_for,
    ) -> None:
        """Takes the sources over: `run` starts them, and stops and closes them at its end.

        `registered` tells the workloads that joined; `first_tick` is the number of the first sample; `boottime` and
        `wait` are for tests.
        """
        #: The latest full sample.
        self.latest: Sample | None = None
        self._host = host
        self._boot_id = boot_id
        self._sampling = sampling
        self._clock = clock
        self._gpus = SwitchedGpus(GuardedGpus(gpus, bound_s=_DEADLINES * sampling.nvml_deadline_s))
        self._host_source = host_source
        self._processes = processes
        self._counters = counters
        self._guarded_host = Guarded[Host]("the host")
        self._guarded_processes = Guarded[tuple[Process, ...]]("the table of processes")
        self._watch = Watch(edges)
        self._registered = registered
        self._simulated = simulated
        self._tick = first_tick
        self._boottime = boottime
        self._wait = wait
        self._last_boot_s: float | None = None
        #: How long after the last tick another one was to come.
        self._promised_s = sampling.interval_s
        #: When the last look began, at everything or closer.
        self._looked_s = clock.monotonic()
        self._stopping = False
        #: Ends the wait for the next tick before its time.
        self._roused = asyncio.Event()

    def stop(self) -> None:
        """Let `run` return after the tick under way."""
        self._stopping = True
        self._roused.set()

    def reconfigure(self, sampling: SamplingSection, edges: Sequence[Edge]) -> None:
        """Follow other intervals, edges and numbers of processes; what else is in `sampling` holds from the next start.

        The next tick comes when the old or the new interval has passed since the last one, whichever is shorter: who
        counts on the old one is told of the new one in time.
        """
        self._sampling = sampling
        self._processes.top = sampling.top_processes
        self._watch.follow(edges)
        self._roused.set()

    def stop_gpus(self, backend: GpuBackend) -> None:
        """Read no card from the next tick on; `backend` stands in the samples, and in the reason of each card."""
        self._gpus.turn_off(backend)

    def start_gpus(self) -> None:
        """Read the cards again from the next tick on."""
        self._gpus.turn_on()

    async def run(self, deliver: Callable[[Sample], None]) -> None:
        """Sample until `stop`; `deliver` is called with each sample, in order, and must be quick.

        :raises Exception: what `deliver` raises.
        """
        try:
            if self._counters is not None:
                self._counters.start()
            await self._loop(deliver)
        finally:
            await self._release()

    async def once(self) -> Sample:
        """One full sample, for which a driver may take seconds to start; `run` cannot follow."""
        try:
            self._guarded_host.read(self._host_source.read)  # the CPU's figures are those since a call before
            self._gpus.begin()
            if self._counters is not None:
                await self._counters.once()
            await self._gpus.end(bound_s=_START_S)
            return await self._full()
        finally:
            await self._release()

    async def _release(self) -> None:
        try:
            await asyncio.gather(self._gpus.stop(), *([self._counters.stop()] if self._counters is not None else []))
        finally:
            self._processes.close()
            self._host_source.close()

    async def _loop(self, deliver: Callable[[Sample], None]) -> None:
        focus = Focus()
        schedule = Schedule(self._clock.monotonic(), self._sampling.interval_s)
        while not self._stopping:
            self._roused.clear()
            schedule.change(self._sampling.interval_s)
            focus = await self._look_closer(deliver, focus, until_s=schedule.due_s)
            if not await self._reached(schedule.due_s):
                continue
            self._looked_s = self._clock.monotonic()
            schedule.begin(self._looked_s)
            sample = await self._full()
            self.latest = sample
            deliver(sample)
            focus = self._watch.full(sample)
            schedule.end(self._clock.monotonic())

    async def _look_closer(self, deliver: Callable[[Sample], None], focus: Focus, *, until_s: float) -> Focus:
        """Fast samples from one full one to the next, as long as something nears its edge; returns what still does."""
        schedule = Schedule(self._looked_s, self._sampling.fast_interval_s)
        schedule.begin(self._looked_s)
        schedule.end(self._clock.monotonic())
        # the last one must leave room for the full one
        until_s -= self._sampling.fast_interval_s / 2
        while focus and schedule.due_s < until_s and await self._reached(schedule.due_s):
            self._looked_s = self._clock.monotonic()
            schedule.begin(self._looked_s)
            sample = await self._fast(focus)
            deliver(sample)
            focus = self._watch.fast(sample)
            schedule.end(self._clock.monotonic())
        return focus

    async def _reached(self, due_s: float) -> bool:
        """Wait for that time; false when we are to stop, or to follow another schedule."""
        while not self._roused.is_set():
            left_s = due_s - self._clock.monotonic()
            if left_s <= 0:
                return True
            await self._wait(self._roused, left_s)
        return False

    async def _full(self) -> Sample:
        stamp = self._stamp()
        self._gpus.begin()
        await asyncio.sleep(0)  # lets the request go out, so that the driver works while we read the host
        host = self._guarded_host.read(self._host_source.read)
        readings = await self._gpus.end()
        on_gpu = {process.pid for gpu in readings.gpus for process in gpu.processes}
        processes = self._guarded_processes.read(lambda: self._processes.read(on_gpu, self._registered()))
        unread: tuple[Source, ...] = (
            *(("host",) if host is None else ()),
            *(("processes",) if processes is None else ()),
        )
        return self._sample(stamp, "full", readings, host, processes or (), unread)

    async def _fast(self, focus: Focus) -> Sample:
        stamp = self._stamp()
        host = self._guarded_host.read(self._host_source.memory) if focus.host else None
        if not focus.gpus:
            backend = GpuBackend("ok") if self.latest is None else self.latest.gpu_backend
            return self._sample(stamp, "fast", GpuReadings(backend), host)
        self._gpus.begin(focus.gpus)
        return self._sample(stamp, "fast", await self._gpus.end(), host)

    def _stamp(self) -> _Stamp:
        boot_s = self._boottime()
        since_s = 0.0 if self._last_boot_s is None else boot_s - self._last_boot_s
        self._last_boot_s = boot_s
        expected_s, self._promised_s = max(self._promised_s, self._sampling.interval_s), self._sampling.interval_s
        return _Stamp(
            wall_s=self._clock.wall(), monotonic_s=self._clock.monotonic(), gap=since_s > GAP_INTERVALS * expected_s
        )

    def _sample(
        self,
        stamp: _Stamp,
        scope: Literal["full", "fast"],
        readings: GpuReadings,
        host: Host | None,
        processes: tuple[Process, ...] = (),
        unread: tuple[Source, ...] = (),
    ) -> Sample:
        tick, self._tick = self._tick, self._tick + 1
        return Sample(
            host=self._host,
            boot_id=self._boot_id,
            tick=tick,
            time=rfc3339(stamp.wall_s),
            monotonic_s=stamp.monotonic_s,
            interval_s=self._sampling.interval_s if scope == "full" else self._sampling.fast_interval_s,
            scope=scope,
            gap=stamp.gap,
            simulated=self._simulated,
            gpu_backend=readings.backend,
            gpus=readings.gpus,
            host_figures=host,
            processes=processes,
            counted=self._counters.counted() if self._counters is not None and scope == "full" else (),
            unread=unread,
        )
