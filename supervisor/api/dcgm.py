"""The names of NVIDIA's dcgm-exporter, behind a switch, so that dashboards made for it show these cards as well.

Names, labels and units (MiB, MHz, percent) are its own (etc/default-counters.csv of NVIDIA/dcgm-exporter).
"""

from collections.abc import Callable, Iterator
from typing import Final

from schemas.sample import Gpu
from schemas.status import Status
from supervisor.api.families import Family, Point, Value

_MIB: Final = 1 << 20


def _dcgm(name: str, help: str, read: Callable[[Gpu], Value]) -> Family:
    return _of_status(name, help, lambda status, gpu: read(gpu))


def _of_status(name: str, help: str, read: Callable[[Status, Gpu], Value]) -> Family:
    def points(status: Status) -> Iterator[Point]:
        for gpu in status.gpus:
            labels = (str(gpu.index), gpu.uuid, gpu.pci_bus_id, f"nvidia{gpu.index}", gpu.name, status.host)
            yield labels, read(status, gpu)

    labels = ("gpu", "UUID", "pci_bus_id", "device", "modelName", "Hostname")
    return Family(f"DCGM_FI_DEV_{name}", help, labels, points)


def _scaled(value: Value, factor: float) -> Value:
    return None if value is None else value * factor


def _free(gpu: Gpu) -> Value:
    if gpu.memory_total_bytes is None or gpu.memory_used_bytes is None:
        return None
    return (gpu.memory_total_bytes - gpu.memory_used_bytes - (gpu.memory_reserved_bytes or 0)) / _MIB


def _last_xid(status: Status, gpu: Gpu) -> Value:
    """The number of the last error, 0 where there was none; unknown where nobody would tell."""
    xids = [(fault.last, fault.xid) for fault in status.faults.get(f"gpu{gpu.index}", ()) if fault.xid is not None]
    if xids:
        return max(xids)[1]
    return 0 if gpu.reading == "fresh" and status.gpu_backend.xid_sources else None


DCGM_FAMILIES: Final = (
    _dcgm("SM_CLOCK", "SM clock frequency (in MHz).", lambda gpu: gpu.clock_sm_mhz),
    _dcgm("MEM_CLOCK", "Memory clock frequency (in MHz).", lambda gpu: gpu.clock_memory_mhz),
    _dcgm("GPU_TEMP", "GPU temperature (in C).", lambda gpu: gpu.temperature_celsius),
    _dcgm("POWER_USAGE", "Power draw (in W).", lambda gpu: gpu.power_watts),
    _dcgm("GPU_UTIL", "GPU utilization (in %).", lambda gpu: _scaled(gpu.utilization_ratio, 100)),
    _dcgm("MEM_COPY_UTIL", "Memory utilization (in %).", lambda gpu: _scaled(gpu.memory_utilization_ratio, 100)),
    _of_status("XID_ERRORS", "Value of the last XID error encountered.", _last_xid),
    _dcgm("FB_FREE", "Framebuffer memory free (in MiB).", _free),
    _dcgm("FB_USED", "Framebuffer memory used (in MiB).", lambda gpu: _scaled(gpu.memory_used_bytes, 1 / _MIB)),
)
