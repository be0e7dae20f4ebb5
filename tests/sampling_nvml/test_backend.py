"""NVML as a whole: missing, mismatched, forbidden, empty - and there again later."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from supervisor.sampling.nvml import backend
from supervisor.sampling.nvml.source import NvmlSource
from supervisor.sampling.source import GpuReadings
from tests.mocknvml.control import MockNvml
from tests.sampling_nvml.conftest import all_fresh, kinds, read_until, reader_pids

_CODE_NO_PERMISSION = 4
_CODE_DRIVER_NOT_LOADED = 9
_CODE_LIBRARY_NOT_FOUND = 12
_CODE_MISMATCH = 18
_CODE_UNKNOWN = 999


async def read_once(environment: Mapping[str, str]) -> GpuReadings:
    """What a source says right after its start."""
    source = NvmlSource(environment=os.environ | environment)
    await source.start()
    try:
        return await source.read()
    finally:
        await source.stop()


async def test_a_missing_library(tmp_path: Path) -> None:
    # An empty file stands in the way of a real library that this machine may have.
    (tmp_path / "libnvidia-ml.so.1").touch()
    readings = await read_once({"LD_LIBRARY_PATH": str(tmp_path)})
    assert (readings.backend.state, readings.backend.reason) == ("unavailable", "nvml_library_not_found")
    assert "try: ldconfig -p | grep libnvidia-ml" in readings.backend.hint
    assert readings.gpus == ()


@pytest.mark.parametrize(
    ("code", "reason", "command"),
    [
        (_CODE_NO_PERMISSION, "no_permission", "ls -l /dev/nvidia*"),
        (_CODE_DRIVER_NOT_LOADED, "driver_not_loaded", "modprobe nvidia"),
        (_CODE_LIBRARY_NOT_FOUND, "nvml_library_not_found", "ldconfig -p | grep libnvidia-ml"),
        (_CODE_MISMATCH, "driver_library_mismatch", "cat /proc/driver/nvidia/version"),
        (_CODE_UNKNOWN, "nvml_error_999", "nvidia-smi"),
    ],
)
async def test_a_driver_that_does_not_initialise(mock: MockNvml, code: int, reason: str, command: str) -> None:
    mock.fail("nvmlInitWithFlags", code)
    readings = await read_once(mock.environment())
    assert (readings.backend.state, readings.backend.reason, readings.gpus) == ("unavailable", reason, ())
    assert readings.backend.hint.endswith(f"; try: {command}")
    assert reader_pids(mock.path) == set()


async def test_no_card(mock: MockNvml) -> None:
    mock.set_count(0)
    readings = await read_once(mock.environment())
    assert readings == GpuReadings(backend.NO_GPU)


async def test_a_driver_that_appears_later_is_found(mock: MockNvml) -> None:
    mock.fail("nvmlInitWithFlags", _CODE_DRIVER_NOT_LOADED)
    source = NvmlSource(environment=os.environ | mock.environment())
    await source.start()
    try:
        assert (await source.read()).backend.reason == "driver_not_loaded"
        mock.fail("nvmlInitWithFlags", 0)
        readings = await read_until(source, all_fresh)
        assert readings.backend.state == "ok"
    finally:
        await source.stop()


async def test_a_driver_that_is_replaced_under_us(
    mock: MockNvml, source: NvmlSource, caplog: pytest.LogCaptureFixture
) -> None:
    """The cards stay known and are blind until the driver is whole again."""
    with mock.together():
        mock.fail("nvmlDeviceGetTemperature", _CODE_MISMATCH)
        mock.fail("nvmlInitWithFlags", _CODE_MISMATCH)
    readings = await read_until(source, lambda readings: readings.backend.state != "ok")
    readings = await source.read()
    assert readings.backend.reason == "driver_library_mismatch"
    assert set(kinds(readings)) == {"blind"}
    assert {gpu.reason for gpu in readings.gpus} <= {"driver_library_mismatch", "the reader is being replaced"}
    with mock.together():
        mock.fail("nvmlDeviceGetTemperature", 0)
        mock.fail("nvmlInitWithFlags", 0)
    readings = await read_until(source, all_fresh)
    assert readings.backend.state == "ok"
    said = [record.getMessage() for record in caplog.records]
    assert len([text for text in said if text.startswith("NVML cannot be used (driver_library_mismatch)")]) == 1


async def test_a_card_that_was_lent_to_another_container_is_not_shown(mock: MockNvml) -> None:
    mock.fail("nvmlDeviceGetHandleByIndex_v2", _CODE_NO_PERMISSION, gpu=0)
    readings = await read_once(mock.environment())
    assert readings.backend.state == "ok"
    assert [gpu.index for gpu in readings.gpus] == list(range(1, 8))


async def test_a_source_that_was_never_started_stops() -> None:
    source = NvmlSource()
    await source.stop()
    assert (await source.read()).backend.state == "stopped"
