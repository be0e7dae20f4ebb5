import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from supervisor.sampling.nvml.source import NvmlSource
from supervisor.sampling.source import GpuReadings
from tests.mocknvml.build import build_library
from tests.mocknvml.control import MockNvml
from tests.tools import require_tool

PATIENCE_S = 20.0


@pytest.fixture(scope="session")
def library() -> Path:
    """The directory of the compiled mock library."""
    require_tool("gcc")
    return build_library()


@pytest.fixture
def mock(library: Path, tmp_path: Path) -> Iterator[MockNvml]:
    """A driver with eight cards."""
    with MockNvml(tmp_path / "nvml", library=library, gpus=8) as mock:
        yield mock


@pytest.fixture
async def source(mock: MockNvml) -> AsyncIterator[NvmlSource]:
    """A started source over the mock driver; a busy machine does not make its cards late."""
    source = NvmlSource(environment=os.environ | mock.environment(), slow_interval_s=0.0, deadline_s=1.0)
    await source.start()
    try:
        yield source
    finally:
        await source.stop()


async def read_until(source: NvmlSource, condition: Callable[[GpuReadings], bool]) -> GpuReadings:
    """Read again and again until the condition holds, as a sampler would; a sick driver has no event to wait for."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            readings = await source.read()
            if condition(readings):
                return readings
            await asyncio.sleep(0.02)


def kinds(readings: GpuReadings) -> list[str]:
    """The `reading` of each card."""
    return [gpu.reading for gpu in readings.gpus]


def all_fresh(readings: GpuReadings) -> bool:
    """Every one of the eight cards was measured."""
    return kinds(readings) == ["fresh"] * 8


def only_blind(*blind: int) -> Callable[[GpuReadings], bool]:
    """Exactly these of the eight cards are blind, the others are fresh."""
    return lambda readings: kinds(readings) == ["blind" if index in blind else "fresh" for index in range(8)]


def reader_pids(state_file: Path) -> set[int]:
    """The reader processes on this machine that use this mock driver, zombies left out."""
    wanted = f"FLYBALL_MOCK_NVML={state_file}".encode()
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes().split(b"\0")
            command = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:  # it ended meanwhile
            continue
        if wanted in environment and b"supervisor.sampling.nvml.child" in command:
            found.add(int(process.name))
    return found
