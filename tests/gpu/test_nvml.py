"""The NVML room against the real driver."""

import asyncio
import re
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from schemas.sample import Gpu, Sample
from supervisor.clock import rfc3339
from supervisor.sampling.nvml.device import RECOVERY_ACTIONS
from supervisor.sampling.nvml.source import NvmlSource

MIB = 1 << 20
ALLOCATED_BYTES = 512 * MIB

#: Takes memory on the first card through libcuda, says so, and holds it until its input ends.
HOLD_MEMORY = f"""
import ctypes, sys
cuda = ctypes.CDLL("libcuda.so.1")
device, context, pointer = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_uint64()
def checked(result):
    if result:
        sys.exit(f"CUDA error {{result}}")
checked(cuda.cuInit(0))
checked(cuda.cuDeviceGet(ctypes.byref(device), 0))
checked(cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device))
checked(cuda.cuCtxSetCurrent(context))
checked(cuda.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t({ALLOCATED_BYTES})))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
async def source() -> AsyncIterator[NvmlSource]:
    """A started source over the real driver, with time for a card that must wake up first."""
    source = NvmlSource(deadline_s=2.0)
    await source.start()
    try:
        async with asyncio.timeout(30):
            while True:
                if (await source.read()).backend.reason != "starting":
                    break
                await asyncio.sleep(0.1)
        yield source
    finally:
        await source.stop()


async def test_each_card_tells_who_it_is(source: NvmlSource) -> None:
    readings = await source.read()
    assert readings.backend.state == "ok"
    assert [gpu.index for gpu in readings.gpus] == list(range(len(readings.gpus)))
    assert len({gpu.uuid for gpu in readings.gpus}) == len(readings.gpus) > 0
    for gpu in readings.gpus:
        print(gpu)
        assert (gpu.reading, gpu.reason) == ("fresh", "")
        assert re.fullmatch(r"GPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", gpu.uuid)
        assert re.fullmatch(r"[0-9A-F]{8}:[0-9A-F]{2}:[0-9A-F]{2}\.0", gpu.pci_bus_id)
        assert gpu.name


async def test_the_figures_are_plausible(source: NvmlSource) -> None:
    for gpu in (await source.read()).gpus:
        assert gpu.temperature_celsius is not None and 5 < gpu.temperature_celsius < 105
        assert gpu.memory_total_bytes is not None and gpu.memory_total_bytes >= 1024 * MIB
        assert gpu.memory_used_bytes is not None and gpu.memory_used_bytes <= gpu.memory_total_bytes
        for ratio in (gpu.utilization_ratio, gpu.memory_utilization_ratio, gpu.fan_ratio):
            assert ratio is None or 0 <= ratio <= 1.05
        assert gpu.power_watts is None or 1 < gpu.power_watts < 2500
        assert gpu.power_limit_watts is None or 5 < gpu.power_limit_watts < 2500
        assert gpu.clock_sm_mhz is None or gpu.clock_sm_mhz < 5000
        # An unsupported figure is absent: no all-ones of 32 or 64 bits, as drivers mark it, came through.
        numbers = [value for value in msgspec.structs.astuple(gpu) if isinstance(value, int)]
        assert not {2**32 - 1, 2**64 - 1, 2**63 - 14} & set(numbers)


async def test_a_sample_of_them_survives_the_wire(source: NvmlSource) -> None:
    readings = await source.read()
    now_s = time.time()
    sample = Sample(
        host="box",
        boot_id="boot",
        tick=1,
        time=rfc3339(now_s),
        monotonic_s=time.monotonic(),
        interval_s=1.0,
        gpu_backend=readings.backend,
        gpus=readings.gpus,
    )
    assert msgspec.json.decode(msgspec.json.encode(sample), type=Sample) == sample


async def test_memory_that_a_program_takes_is_seen(source: NvmlSource) -> None:
    before = await source.read()
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", HOLD_MEMORY), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert program.stdout is not None
    assert await program.stdout.readline() == b"held\n"
    during = await source.read()
    await program.communicate(b"")
    growth = [used(later) - used(earlier) for earlier, later in zip(before.gpus, during.gpus, strict=True)]
    assert max(growth) >= ALLOCATED_BYTES
    listed = [process for gpu in during.gpus for process in gpu.processes]
    print(f"{max(growth) / MIB:.0f} MiB more in use; the driver lists {listed}")


async def test_xids_are_listened_for_and_the_driver_says_what_must_be_done(source: NvmlSource) -> None:
    async with asyncio.timeout(30):
        while True:
            if (await source.read()).backend.xid_sources == ("nvml",):
                break
            await asyncio.sleep(0.1)
    readings = await source.read()
    for _ in range(25):  # longer than a wait for events: none ends by an error
        await asyncio.sleep(0.1)
        readings = await source.read()
        assert readings.backend.xid_sources == ("nvml",)
        assert all(gpu.reading == "fresh" for gpu in readings.gpus)
    for gpu in readings.gpus:
        print(f"gpu{gpu.index}: recovery action {gpu.recovery_action}, XIDs {gpu.xids}")
        assert gpu.recovery_action in (None, *RECOVERY_ACTIONS)
        assert len({xid.code for xid in gpu.xids}) == len(gpu.xids)


async def test_what_a_read_costs(source: NvmlSource) -> None:
    """Printed, not asserted: a figure for the documentation."""
    reader = source.reader_pid
    assert reader is not None
    walls: list[float] = []
    cards: tuple[Gpu, ...] = ()
    before_s = cpu_seconds(reader)
    for _ in range(100):
        started = time.perf_counter()
        cards = (await source.read()).gpus
        walls.append(time.perf_counter() - started)
    walls.sort()
    spent_ms = (cpu_seconds(reader) - before_s) * 1000 / 100
    print(
        f"{len(cards)} cards: a read takes {walls[50] * 1000:.2f} ms (p99 {walls[99] * 1000:.2f} ms) "
        f"and {spent_ms:.2f} ms of the reader's CPU"
    )
    assert all(gpu.reading == "fresh" for gpu in cards)


def used(gpu: Gpu) -> int:
    """Memory in use, which every real card tells."""
    assert gpu.memory_used_bytes is not None
    return gpu.memory_used_bytes


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, with the scheduler's precision."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
