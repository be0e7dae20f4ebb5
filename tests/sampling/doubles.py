"""Sources and a clock that do as a test says."""

import asyncio
from collections.abc import Callable, Collection

from schemas.sample import Gpu, GpuBackend, Host, Process
from supervisor.clock import SystemClock
from supervisor.config import SamplingSection
from supervisor.handler import Edge
from supervisor.sampling.sampler import Sampler
from supervisor.sampling.source import GpuReadings, Registered

GIB = 1 << 30


def gpu(
    index: int = 0, *, celsius: float = 50, memory_used_percent: float = 10, margin_celsius: float | None = None
) -> Gpu:
    """A card that was read."""
    return Gpu(
        index=index,
        uuid=f"GPU-{index}",
        name="Card",
        pci_bus_id=f"00000000:0{index}:00.0",
        temperature_celsius=celsius,
        temperature_margin_celsius=margin_celsius,
        memory_total_bytes=100 * GIB,
        memory_used_bytes=int(memory_used_percent * GIB),
    )


class FakeTime:
    """Wall time, monotonic time and time since boot, which pass only while somebody waits."""

    def __init__(self) -> None:
        self.monotonic_s = 1000.0
        self.asleep_s = 0.0
        #: What happens while somebody waits, and after how long; once.
        self.meanwhile: tuple[float, Callable[[], None]] | None = None

    def wall(self) -> float:
        return 1_700_000_000 + self.monotonic_s + self.asleep_s

    def monotonic(self) -> float:
        return self.monotonic_s

    def boottime(self) -> float:
        return self.monotonic_s + self.asleep_s

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        await asyncio.sleep(0)
        if event.is_set():
            return
        if self.meanwhile is None:
            self.monotonic_s += seconds
        else:
            (after_s, happen), self.meanwhile = self.meanwhile, None
            self.monotonic_s += after_s
            happen()


class FakeGpus:
    """Answers with what `respond` returns or raises; `asked` is what was asked for."""

    def __init__(self, respond: Callable[[], tuple[Gpu, ...]] = lambda: (gpu(),)) -> None:
        self.respond = respond
        self.asked: list[frozenset[int] | None] = []
        self.running = False
        self.blocked: asyncio.Event | None = None

    async def start(self) -> None:
        self.running = True

    async def read(self, only: Collection[int] | None = None) -> GpuReadings:
        assert self.running
        self.asked.append(None if only is None else frozenset(only))
        if self.blocked is not None:
            await self.blocked.wait()
        gpus = self.respond()
        return GpuReadings(GpuBackend("ok"), tuple(each for each in gpus if only is None or each.index in only))

    async def stop(self) -> None:
        self.running = False


class FakeHost:
    """RAM in use as `used_percent` says."""

    def __init__(self) -> None:
        self.used_percent = 20.0
        self.closed = False
        self.error: Exception | None = None

    def read(self) -> Host:
        if self.error is not None:
            raise self.error
        return Host(
            cpu_count=8,
            memory_total_bytes=100 * GIB,
            memory_available_bytes=int((100 - self.used_percent) * GIB),
        )

    def memory(self) -> Host:
        return Host(memory_total_bytes=100 * GIB, memory_available_bytes=int((100 - self.used_percent) * GIB))

    def close(self) -> None:
        self.closed = True


class FakeProcesses:
    """One process for each pid that is asked for."""

    def __init__(self) -> None:
        self.top = 20
        self.closed = False
        self.error: Exception | None = None

    def read(self, on_gpu: Collection[int], registered: Registered) -> tuple[Process, ...]:
        if self.error is not None:
            raise self.error
        return tuple(Process(pid=pid, start_time_s=1.0) for pid in sorted({*on_gpu, *registered}))

    def close(self) -> None:
        self.closed = True


EDGES = (
    Edge("temperature_celsius", 85),
    Edge("memory_used_percent", 95),
    Edge("host_memory_used_percent", 95),
)


class Bench:
    """A sampler on fakes."""

    def __init__(self, *, interval_s: float = 1.0, fast_interval_s: float = 0.1, first_tick: int = 0) -> None:
        self.time = FakeTime()
        self.gpus = FakeGpus()
        self.host = FakeHost()
        self.processes = FakeProcesses()
        self.registered: dict[int, tuple[float, str]] = {}
        self.sampling = SamplingSection(interval_s=interval_s, fast_interval_s=fast_interval_s, nvml_deadline_s=0.02)
        self.sampler = Sampler(
            host="box",
            boot_id="0123456789",
            sampling=self.sampling,
            clock=self.time,
            gpus=self.gpus,
            host_source=self.host,
            processes=self.processes,
            edges=EDGES,
            registered=lambda: self.registered,
            first_tick=first_tick,
            boottime=self.time.boottime,
            wait=self.time.wait,
        )


def real_sampler(interval_s: float) -> Sampler:
    """A sampler on fake sources and the machine's own clocks."""
    return Sampler(
        host="box",
        boot_id="0123456789",
        sampling=SamplingSection(interval_s=interval_s),
        clock=SystemClock(),
        gpus=FakeGpus(),
        host_source=FakeHost(),
        processes=FakeProcesses(),
        edges=(),
        registered=dict,
    )
