"""What a card says, and what it does not say."""

import os

import pytest

from schemas.sample import Gpu, GpuBackend, GpuProcess
from supervisor.sampling.nvml.device import RECOVERY_ACTIONS, THROTTLE_REASONS, throttle_names
from supervisor.sampling.nvml.source import NvmlSource
from supervisor.sampling.source import GpuSource
from tests.mocknvml.control import DEFAULT_VALUES, MockNvml, MockProcess

_CODE_NOT_SUPPORTED = 3
_CODE_FUNCTION_NOT_FOUND = 13
_CODE_UNKNOWN = 999


def test_it_is_a_gpu_source() -> None:
    source: GpuSource = NvmlSource()
    assert isinstance(source, NvmlSource)


async def test_a_value_that_no_count_has_is_absent(mock: MockNvml, source: NvmlSource) -> None:
    """Drivers say "unknown" by all bits; the rest of the sample must not fall with it."""
    with mock.together():
        # as C casts them, 2^64 − 1, 2^64 − 2 and 2^63
        mock.set(gpu=2, field_269=-1, field_270=5, ecc_corrected=-2, memory_used=-(2**63), temperature=50)
        mock.set_processes(2, [MockProcess(41, -2)])
    card = (await source.read()).gpus[2]
    assert (card.violation_sw_thermal_ns, card.violation_hw_thermal_ns) == (None, 5)
    assert (card.ecc_corrected_total, card.memory_used_bytes) == (None, None)
    assert (card.reading, card.temperature_celsius, card.processes) == ("fresh", 50, (GpuProcess(41),))


async def test_every_figure_is_read(mock: MockNvml, source: NvmlSource) -> None:
    with mock.together():
        mock.set(
            gpu=5,
            temperature=81,
            margin=6,
            memory_total=1000,
            memory_used=600,
            memory_reserved=40,
            utilization=97,
            memory_utilization=61,
            power_mw=650_500,
            power_limit_mw=700_000,
            clock_sm_mhz=1410,
            clock_memory_mhz=1593,
            fan=77,
            throttle_reasons=0x24,
            field_269=11,
            field_270=2**40,
            field_271=33,
            ecc_corrected=4,
            ecc_uncorrected=5,
            remapped_corrected=6,
            remapped_uncorrected=7,
            remapped_pending=1,
            remapped_failed=0,
            field_230=4,
        )
        mock.set_processes(5, [MockProcess(41, 500), MockProcess(42, None), MockProcess(43, 7, "graphics")])
    readings = await source.read()
    assert readings.backend == GpuBackend("ok", xid_sources=("nvml",))
    assert readings.gpus[5] == Gpu(
        index=5,
        uuid=mock.uuid(5),
        name="Mock H100",
        pci_bus_id="00000000:06:00.0",
        temperature_celsius=81,
        temperature_margin_celsius=6,
        memory_total_bytes=1000,
        memory_used_bytes=600,
        memory_reserved_bytes=40,
        utilization_ratio=0.97,
        memory_utilization_ratio=0.61,
        power_watts=650.5,
        power_limit_watts=700.0,
        clock_sm_mhz=1410,
        clock_memory_mhz=1593,
        fan_ratio=0.77,
        throttle_reasons=("sw_power_cap", "sw_thermal_slowdown"),
        violation_sw_thermal_ns=11,
        violation_hw_thermal_ns=2**40,
        violation_power_brake_ns=33,
        ecc_corrected_total=4,
        ecc_uncorrected_total=5,
        remapped_rows_corrected=6,
        remapped_rows_uncorrected=7,
        remapped_rows_pending=True,
        remapped_rows_failed=False,
        recovery_action="drain_and_reset",
        processes=(GpuProcess(43, 7, "graphics"), GpuProcess(41, 500), GpuProcess(42, None)),
    )


async def test_what_a_card_does_not_support_is_absent(mock: MockNvml, source: NvmlSource) -> None:
    behaviour = {"latency_us", "hang", "hang_pid", "lost", "crash"}
    mock.set(gpu=2, **dict.fromkeys(DEFAULT_VALUES.keys() - behaviour))
    gpu = (await source.read()).gpus[2]
    assert gpu == Gpu(index=2, uuid=mock.uuid(2), name="Mock H100", pci_bus_id="00000000:03:00.0")
    assert gpu.memory_used_ratio is None


@pytest.mark.parametrize(
    ("function", "absent"),
    [
        ("nvmlDeviceGetTemperature", {"temperature_celsius"}),
        ("nvmlDeviceGetMarginTemperature", {"temperature_margin_celsius"}),
        ("nvmlDeviceGetUtilizationRates", {"utilization_ratio", "memory_utilization_ratio"}),
        ("nvmlDeviceGetPowerUsage", {"power_watts"}),
        ("nvmlDeviceGetEnforcedPowerLimit", {"power_limit_watts"}),
        ("nvmlDeviceGetClockInfo", {"clock_sm_mhz", "clock_memory_mhz"}),
        ("nvmlDeviceGetFanSpeed", {"fan_ratio"}),
        (
            "nvmlDeviceGetFieldValues",
            {"violation_sw_thermal_ns", "violation_hw_thermal_ns", "violation_power_brake_ns", "recovery_action"},
        ),
        ("nvmlDeviceGetTotalEccErrors", {"ecc_corrected_total", "ecc_uncorrected_total"}),
    ],
)
@pytest.mark.parametrize("code", [_CODE_NOT_SUPPORTED, _CODE_FUNCTION_NOT_FOUND])
async def test_one_call_that_is_refused_costs_only_its_own_figures(
    mock: MockNvml, source: NvmlSource, function: str, absent: set[str], code: int
) -> None:
    mock.fail(function, code, gpu=1)
    spoiled, whole = (await source.read(only={0, 1})).gpus[1], (await source.read(only={0, 1})).gpus[0]
    figures = [name for name in Gpu.__struct_fields__ if getattr(whole, name) is not None]
    assert {name for name in figures if getattr(spoiled, name) is None} == absent
    assert spoiled.reading == "fresh"


@pytest.mark.parametrize("function", ["nvmlDeviceGetTemperature", "nvmlDeviceGetMemoryInfo_v2"])
async def test_an_error_where_temperature_or_memory_should_be_is_blind_not_absent(
    mock: MockNvml, source: NvmlSource, function: str
) -> None:
    mock.fail(function, _CODE_UNKNOWN, gpu=4)
    gpu = (await source.read()).gpus[4]
    assert (gpu.reading, gpu.reason, gpu.temperature_celsius) == ("blind", "Unknown Error", None)


async def test_a_driver_without_the_second_memory_call_is_asked_by_the_first(
    mock: MockNvml, source: NvmlSource
) -> None:
    mock.fail("nvmlDeviceGetMemoryInfo_v2", _CODE_FUNCTION_NOT_FOUND)
    mock.set(memory_total=100, memory_used=30, memory_reserved=5)
    gpu = (await source.read()).gpus[0]
    assert (gpu.memory_total_bytes, gpu.memory_used_bytes, gpu.memory_reserved_bytes) == (100, 35, None)


async def test_a_driver_from_before_535_tells_its_throttle_reasons(mock: MockNvml, source: NvmlSource) -> None:
    mock.fail("nvmlDeviceGetCurrentClocksEventReasons", _CODE_FUNCTION_NOT_FOUND)
    mock.set(throttle_reasons=0x8)
    assert (await source.read()).gpus[0].throttle_reasons == ("hw_slowdown",)


@pytest.mark.parametrize(("number", "action"), [*enumerate(RECOVERY_ACTIONS), (len(RECOVERY_ACTIONS), "unknown")])
async def test_each_verdict_of_the_driver_has_a_name(
    mock: MockNvml, source: NvmlSource, number: int, action: str
) -> None:
    mock.set(gpu=0, field_230=number)
    assert (await source.read(only=[0])).gpus[0].recovery_action == action


def test_each_bit_of_the_throttle_reasons_has_a_name() -> None:
    assert [bit for bit, _ in THROTTLE_REASONS] == [1 << position for position in range(9)]
    assert throttle_names(0x1FF) == tuple(name for _, name in THROTTLE_REASONS)
    assert throttle_names(0x1204) == ("sw_power_cap", "0x1200")


async def test_a_program_in_both_lists_is_one_process(mock: MockNvml, source: NvmlSource) -> None:
    mock.set_processes(0, [MockProcess(7, 10, "graphics"), MockProcess(7, 10, "compute")])
    assert (await source.read()).gpus[0].processes == (GpuProcess(7, 10, "compute"),)


async def test_two_hundred_processes_on_one_card(mock: MockNvml, source: NvmlSource) -> None:
    mock.set_processes(6, [MockProcess(pid, pid) for pid in range(1000, 1200)])
    assert {process.pid for process in (await source.read()).gpus[6].processes} == set(range(1000, 1200))


async def test_only_the_cards_that_are_asked_for(mock: MockNvml, source: NvmlSource) -> None:
    before = mock.calls()["nvmlDeviceGetTemperature"]
    readings = await source.read(only=[6, 2, 99])
    assert [gpu.index for gpu in readings.gpus] == [2, 6]
    assert mock.calls()["nvmlDeviceGetTemperature"] == before + 2


async def test_slow_figures_are_read_seldom_and_the_others_in_few_calls(mock: MockNvml) -> None:
    source = NvmlSource(environment=os.environ | mock.environment())
    await source.start()
    try:
        before = mock.calls()
        for _ in range(10):
            await source.read()
        after = mock.calls()
    finally:
        await source.stop()
    assert after["nvmlDeviceGetTotalEccErrors"] == before["nvmlDeviceGetTotalEccErrors"]
    assert after["nvmlDeviceGetUUID"] == before["nvmlDeviceGetUUID"]
    calls_a_tick_and_card = (sum(after.values()) - sum(before.values())) / 10 / 8
    print(f"{calls_a_tick_and_card:.1f} NVML calls a tick and card")
    assert calls_a_tick_and_card <= 12
