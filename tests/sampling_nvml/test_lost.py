"""Cards that fall off the bus, readers that die, processes that cannot be killed."""

import contextlib
import os
import select
import signal
from collections.abc import AsyncIterator, Iterator
from functools import partial

import pytest

from schemas.sample import Gpu
from supervisor.sampling.nvml.source import NvmlSource
from supervisor.sampling.source import GpuReadings
from tests.mocknvml.control import MockNvml
from tests.sampling_nvml.conftest import PATIENCE_S, all_fresh, kinds, only_blind, read_until, reader_pids

_CODE_RESET_REQUIRED = 16


def the_reader(mock: MockNvml) -> int:
    """The pid of the only reader process."""
    (pid,) = reader_pids(mock.path)
    return pid


@contextlib.contextmanager
def gone(pid: int) -> Iterator[None]:
    """Wait at the end until the process is."""
    descriptor = os.pidfd_open(pid)
    try:
        yield
        assert select.select([descriptor], [], [], PATIENCE_S)[0]
    finally:
        os.close(descriptor)


async def test_a_card_that_falls_off_the_bus_is_lost_and_comes_back(mock: MockNvml, source: NvmlSource) -> None:
    mock.set(gpu=6, lost=1)
    readings = await source.read()
    assert kinds(readings) == ["fresh"] * 6 + ["lost", "fresh"]
    assert readings.gpus[6] == Gpu(
        index=6,
        uuid=mock.uuid(6),
        name="Mock H100",
        pci_bus_id="00000000:07:00.0",
        reading="lost",
        reason="GPU is lost",
    )
    assert kinds(await source.read()) == ["fresh"] * 6 + ["lost", "fresh"]
    mock.set(gpu=6, lost=0)
    await read_until(source, all_fresh)


async def test_a_card_that_needs_a_reset_is_lost_with_that_reason(mock: MockNvml, source: NvmlSource) -> None:
    mock.fail("nvmlDeviceGetMemoryInfo_v2", _CODE_RESET_REQUIRED, gpu=0)
    gpu = (await source.read()).gpus[0]
    assert (gpu.reading, gpu.reason, gpu.recovery_action) == ("lost", "GPU requires restart", "gpu_reset")


async def test_a_card_that_the_driver_lists_no_more_is_lost_not_gone(mock: MockNvml, source: NvmlSource) -> None:
    mock.set_count(7)
    os.kill(the_reader(mock), signal.SIGKILL)
    readings = await read_until(source, lambda readings: kinds(readings) == ["fresh"] * 7 + ["lost"])
    assert readings.gpus[7].uuid == mock.uuid(7)
    assert readings.gpus[7].reason == "the driver does not list it any more"
    mock.set_count(8)
    await read_until(source, all_fresh)


async def test_identity_is_the_uuid_wherever_the_card_stands_in_the_list(mock: MockNvml, source: NvmlSource) -> None:
    first, last = mock.uuid(0), mock.uuid(7)
    with mock.together():
        mock.set_identity(0, uuid=last)
        mock.set_identity(7, uuid=first)
        mock.set(gpu=7, temperature=77)
    os.kill(the_reader(mock), signal.SIGKILL)
    readings = await read_until(source, lambda readings: all_fresh(readings) and readings.gpus[0].uuid == last)
    assert (readings.gpus[7].uuid, readings.gpus[7].temperature_celsius) == (first, 77)


async def test_another_card_in_a_known_place_does_not_hide_the_one_that_left(
    mock: MockNvml, source: NvmlSource
) -> None:
    before = mock.uuid(3)
    mock.set_identity(3, uuid="GPU-new")
    os.kill(the_reader(mock), signal.SIGKILL)
    readings = await read_until(source, lambda readings: kinds(readings) == ["fresh"] * 8 + ["lost"])
    assert (readings.gpus[3].uuid, readings.gpus[8].uuid) == ("GPU-new", before)


async def test_a_killed_reader_is_replaced(mock: MockNvml, source: NvmlSource) -> None:
    for _ in range(3):
        killed = the_reader(mock)
        with gone(killed):
            os.kill(killed, signal.SIGKILL)
        readings = await read_until(source, all_fresh)
        assert readings.backend.state == "ok"
        assert the_reader(mock) != killed


async def test_a_card_that_kills_its_readers_is_quarantined(mock: MockNvml, source: NvmlSource) -> None:
    mock.set(gpu=5, crash=1)
    readings = await read_until(source, only_blind(5))
    assert readings.gpus[5].reason == "the reader process died while reading it"
    mock.set(gpu=5, crash=0)
    await read_until(source, all_fresh)


def was_told(caplog: pytest.LogCaptureFixture, text: str, _: GpuReadings) -> bool:
    """The log holds this text."""
    return text in caplog.text


@pytest.fixture
async def unkillable(mock: MockNvml) -> AsyncIterator[NvmlSource]:
    """A source whose processes do not die of being killed, as if they hung in the kernel."""
    source = NvmlSource(environment=os.environ | mock.environment(), retry_s=1.0, kill=lambda transport: None)
    await source.start()
    try:
        yield source
    finally:
        mock.set(hang=0)
        for pid in reader_pids(mock.path):
            os.kill(pid, signal.SIGKILL)
        await source.stop()


async def test_three_processes_that_cannot_be_killed_are_the_most(
    mock: MockNvml, unkillable: NvmlSource, caplog: pytest.LogCaptureFixture
) -> None:
    source = unkillable
    serving = the_reader(mock)
    for card in range(3):
        mock.set(gpu=card, hang=1)
        await read_until(source, only_blind(*range(card + 1)))
        await read_until(source, partial(was_told, caplog, f"; {card + 1} of at most 3"))
    stuck = reader_pids(mock.path) - {serving}
    assert len(stuck) == 3

    mock.set(gpu=3, hang=1)
    readings = await read_until(source, only_blind(0, 1, 2, 3))
    assert readings.backend.state == "ok", "the reader that serves the other cards goes on"
    assert reader_pids(mock.path) == stuck | {serving}

    os.kill(serving, signal.SIGKILL)
    readings = await read_until(source, lambda readings: readings.backend.reason == "readers_stuck")
    assert readings.backend.state == "unavailable"
    assert "three processes hang inside the driver" in readings.backend.hint
    assert set(kinds(readings)) == {"blind"}
    assert reader_pids(mock.path) == stuck

    for pid in stuck:  # the kernel lets go of them
        os.kill(pid, signal.SIGKILL)
    await read_until(source, only_blind(0, 1, 2, 3))
    mock.set(hang=0)
    await read_until(source, all_fresh)
