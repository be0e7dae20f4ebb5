"""Samples as a busy machine makes them: 8 cards with 14 fields each, the host, and 40 processes."""

from typing import Final

from schemas.sample import Gpu, Host, Process, Sample
from supervisor.clock import Clock, rfc3339

GPUS: Final = 8
PROCESSES: Final = 40
#: Temperatures of OPTIMAL and of NORMAL.
COOL_CELSIUS: Final = 45.0
WARM_CELSIUS: Final = 70.0
_GIB: Final = 1 << 30


def sample(host: str, boot_id: str, tick: int, clock: Clock, celsius: float = COOL_CELSIUS) -> Sample:
    """One sample; `celsius` is the temperature of its first card."""
    return Sample(
        host=host,
        boot_id=boot_id,
        tick=tick,
        time=rfc3339(clock.wall()),
        monotonic_s=clock.monotonic(),
        interval_s=1.0,
        gpus=tuple(_gpu(index, celsius if index == 0 else COOL_CELSIUS) for index in range(GPUS)),
        host_figures=Host(
            cpu_count=64, cpu_busy_ratio=0.412, load_1m=21.3,
            memory_total_bytes=512 * _GIB, memory_available_bytes=300 * _GIB,
        ),
        processes=tuple(_process(1000 + number) for number in range(PROCESSES)),
    )  # fmt: skip


def _gpu(index: int, celsius: float) -> Gpu:
    """Fourteen fields."""
    return Gpu(
        index=index,
        uuid=f"GPU-00000000-0000-0000-0000-{index:012d}",
        name="Mock H100",
        pci_bus_id=f"00000000:{index + 1:02X}:00.0",
        temperature_celsius=celsius,
        temperature_margin_celsius=40.0,
        memory_total_bytes=80 * _GIB,
        memory_used_bytes=8 * _GIB + index,
        memory_reserved_bytes=_GIB // 2,
        utilization_ratio=0.5,
        power_watts=300.0,
        power_limit_watts=700.0,
        clock_sm_mhz=1980,
        violation_sw_thermal_ns=123_456_789,
    )


def _process(pid: int) -> Process:
    """Six fields, with which a sample comes to 7.7 kB."""
    return Process(
        pid=pid,
        start_time_s=pid * 1.25,
        name="python3",
        rss_bytes=123_456_789 + pid,
        threads=17,
        cpu_seconds=1234.56,
    )
