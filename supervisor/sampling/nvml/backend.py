"""Why NVML cannot be used, as the state that stands in every sample: what is wrong and one command to try."""

from typing import Final

from schemas.sample import GpuBackend
from supervisor.sampling.nvml.reader import ReaderGone

OK: Final = GpuBackend("ok")
STOPPED: Final = GpuBackend("stopped")
STARTING: Final = GpuBackend(
    "unavailable", "starting", "the driver has not answered yet; where this lasts, try: nvidia-smi"
)
NO_GPU: Final = GpuBackend("unavailable", "no_gpu", "the driver lists no card; try: nvidia-smi -L")
DRIVER_HANGS: Final = GpuBackend(
    "unavailable", "driver_hangs", "a call into the driver does not return; try: dmesg | grep -i -e nvrm -e xid"
)
READER_FAILED: Final = GpuBackend(
    "unavailable", "reader_failed", "the process that reads the cards ends by itself; try: nvidia-smi"
)
READERS_STUCK: Final = GpuBackend(
    "unavailable",
    "readers_stuck",
    "three processes hang inside the driver and cannot be killed, so no other is started; the driver needs a reset or "
    "the machine a reboot; try: dmesg | grep -i -e nvrm -e xid",
)

#: nvmlReturn_t (nvml.h) by which NVML as a whole fails.
_BY_CODE: Final = {
    4: ("no_permission", "this user may not open the driver's devices; try: ls -l /dev/nvidia*"),
    9: ("driver_not_loaded", "the driver's kernel module is not loaded; try: modprobe nvidia"),
    12: (
        "nvml_library_not_found",
        "libnvidia-ml.so.1 comes with NVIDIA's driver (in a container: start it with --gpus all); "
        "try: ldconfig -p | grep libnvidia-ml",
    ),
    18: (
        "driver_library_mismatch",
        "libnvidia-ml.so.1 and the kernel module are of different versions, as after an update without a reboot; "
        "try: cat /proc/driver/nvidia/version",
    ),
}


def of(gone: ReaderGone) -> GpuBackend:
    """The state that follows from how a reader failed."""
    if gone.timed_out:
        return DRIVER_HANGS
    if not gone.code:
        return READER_FAILED
    reason, hint = _BY_CODE.get(gone.code, (f"nvml_error_{gone.code}", "NVML does not initialise; try: nvidia-smi"))
    return GpuBackend("unavailable", reason, hint)
