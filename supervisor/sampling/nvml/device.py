"""Reads one card through pynvml, in few calls; runs in the reader process only.

A figure that the card does not support is absent. A card that does not tell its temperature or memory because of an
error is not fresh: unknown is never green.
"""

import time
from collections.abc import Callable
from typing import Any, Final

import pynvml

from schemas.sample import Gpu, GpuProcess, RecoveryAction

#: Codes by which a driver says that there is no such figure; the figure is absent, the card is well.
_ABSENT: Final = frozenset(
    {
        pynvml.NVML_ERROR_INVALID_ARGUMENT,
        pynvml.NVML_ERROR_NOT_SUPPORTED,
        pynvml.NVML_ERROR_NO_PERMISSION,
        pynvml.NVML_ERROR_NOT_FOUND,
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
        pynvml.NVML_ERROR_NO_DATA,
        pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
        pynvml.NVML_ERROR_DEPRECATED,
        pynvml.NVML_ERROR_NOT_READY,
    }
)

#: Codes by which NVML says that it does not work at all any more, for any card.
DRIVER_GONE: Final = frozenset(
    {
        pynvml.NVML_ERROR_UNINITIALIZED,
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
    }
)

#: Codes by which a card is gone, or needs a reset before it answers.
CARD_LOST: Final = frozenset({pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_RESET_REQUIRED})

#: nvml.h, nvmlClocksEventReasons: bit by bit.
THROTTLE_REASONS: Final = (
    (0x001, "idle"),
    (0x002, "application_clocks"),
    (0x004, "sw_power_cap"),
    (0x008, "hw_slowdown"),
    (0x010, "sync_boost"),
    (0x020, "sw_thermal_slowdown"),
    (0x040, "hw_thermal_slowdown"),
    (0x080, "hw_power_brake"),
    (0x100, "display_clocks"),
)

#: Cumulative nanoseconds of software thermal, hardware thermal and power brake slowdown.
_VIOLATION_FIELDS: Final = [269, 270, 271]
#: The driver's verdict on what must be done with the card, and nvml.h's nvmlDeviceGpuRecoveryAction_t by number.
_RECOVERY_FIELD: Final = 230
RECOVERY_ACTIONS: Final[tuple[RecoveryAction, ...]] = (
    "none",
    "gpu_reset",
    "node_reboot",
    "drain_p2p",
    "drain_and_reset",
    "recover_imex",
    "bus_reset",
    "system_reboot",
)
#: No byte count, time or number is larger; drivers mean "unknown" by such values (2^64 − 1 for a process's memory).
LARGEST: Final = 2**63 - 1
_LARGEST_PID: Final = 2**31


class CardLost(Exception):
    """The card fell off the bus, or needs a reset before it answers; `code` is the nvmlReturn_t."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(f"nvmlReturn_t {code}")


class Device:
    """One card, opened; its identity and the slowly changing figures are kept between reads."""

    def __init__(self, index: int, slow_interval_s: float) -> None:
        """Open the card at `index`.

        ECC, remapped rows, the power limit and the recovery action are read every `slow_interval_s`.

        :raises pynvml.NVMLError: when it cannot be opened or identified.
        """
        self.index = index
        self._slow_interval_s = slow_interval_s
        self.handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        self.uuid: str = pynvml.nvmlDeviceGetUUID(self.handle)
        self._identity: dict[str, Any] = {
            "index": index,
            "uuid": self.uuid,
            "name": pynvml.nvmlDeviceGetName(self.handle),
            "pci_bus_id": pynvml.nvmlDeviceGetPciInfo(self.handle).busId,
        }
        self._slow: dict[str, Any] = {}
        self._slow_until_s = 0.0
        self._errors: dict[str, int] = {}

    def read(self, *, anew: bool = False) -> Gpu:
        """The card as it is now: fresh, blind with the error as `reason`, or lost.

        With `anew` no figure is one that was kept.

        :raises pynvml.NVMLError: one of `DRIVER_GONE`.
        """
        self._errors.clear()
        if anew:
            self._slow_until_s = 0.0
        try:
            memory = self._memory()
            temperature = self._call(pynvml.nvmlDeviceGetTemperature, pynvml.NVML_TEMPERATURE_GPU)
            if self._errors:
                return Gpu(**self._identity, reading="blind", reason=_named(next(iter(self._errors.values()))))
            utilization = self._call(pynvml.nvmlDeviceGetUtilizationRates)
            power_mw = self._call(pynvml.nvmlDeviceGetPowerUsage)
            fan_percent = self._call(pynvml.nvmlDeviceGetFanSpeed)
            return Gpu(
                **self._identity,
                **memory,
                **self._violations(),
                **self._slow_figures(),
                temperature_celsius=temperature,
                temperature_margin_celsius=self._call(pynvml.nvmlDeviceGetMarginTemperature),
                utilization_ratio=None if utilization is None else utilization.gpu / 100,
                memory_utilization_ratio=None if utilization is None else utilization.memory / 100,
                power_watts=None if power_mw is None else power_mw / 1000,
                clock_sm_mhz=self._call(pynvml.nvmlDeviceGetClockInfo, pynvml.NVML_CLOCK_SM),
                clock_memory_mhz=self._call(pynvml.nvmlDeviceGetClockInfo, pynvml.NVML_CLOCK_MEM),
                fan_ratio=None if fan_percent is None else fan_percent / 100,
                throttle_reasons=self._throttle_reasons(),
                processes=self._processes(),
            )
        except CardLost as lost:
            needed: RecoveryAction | None = "gpu_reset" if lost.code == pynvml.NVML_ERROR_RESET_REQUIRED else None
            return Gpu(**self._identity, reading="lost", reason=_named(lost.code), recovery_action=needed)

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What `function` returns for this card, None where the card cannot tell."""
        try:
            return function(self.handle, *arguments)
        except pynvml.NVMLError as error:
            code = error.value
            if code in DRIVER_GONE:
                raise
            if code in CARD_LOST:
                raise CardLost(code) from error
            if code not in _ABSENT:
                self._errors[function.__name__] = code
            return None

    def _memory(self) -> dict[str, Any]:
        memory = self._call(pynvml.nvmlDeviceGetMemoryInfo, pynvml.nvmlMemory_v2)
        if memory is not None:
            return {
                "memory_total_bytes": _known(memory.total),
                "memory_used_bytes": _known(memory.used),
                "memory_reserved_bytes": _known(memory.reserved),
            }
        if self._errors:
            return {}
        # Drivers before 510 have only the first version, which counts what is reserved as used.
        memory = self._call(pynvml.nvmlDeviceGetMemoryInfo)
        if memory is None:
            return {}
        return {"memory_total_bytes": _known(memory.total), "memory_used_bytes": _known(memory.used)}

    def _violations(self) -> dict[str, Any]:
        values = self._call(pynvml.nvmlDeviceGetFieldValues, _VIOLATION_FIELDS)
        if values is None:
            return {}
        names = ("violation_sw_thermal_ns", "violation_hw_thermal_ns", "violation_power_brake_ns")
        return {
            name: _known(value.value.ullVal)
            for name, value in zip(names, values, strict=True)
            if value.nvmlReturn == pynvml.NVML_SUCCESS
        }

    def _slow_figures(self) -> dict[str, Any]:
        now = time.monotonic()
        if now < self._slow_until_s:
            return self._slow
        power_limit_mw = self._call(pynvml.nvmlDeviceGetEnforcedPowerLimit)
        remapped = self._call(pynvml.nvmlDeviceGetRemappedRows)
        corrected, uncorrected, pending, failed = remapped or (None, None, None, None)
        self._slow = {
            "power_limit_watts": None if power_limit_mw is None else power_limit_mw / 1000,
            "ecc_corrected_total": self._ecc(pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED),
            "ecc_uncorrected_total": self._ecc(pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED),
            "remapped_rows_corrected": corrected,
            "remapped_rows_uncorrected": uncorrected,
            "remapped_rows_pending": None if pending is None else bool(pending),
            "remapped_rows_failed": None if failed is None else bool(failed),
            "recovery_action": self._recovery_action(),
        }
        self._slow_until_s = now + self._slow_interval_s
        return self._slow

    def _ecc(self, kind: int) -> int | None:
        """Errors over the card's life: the counter that survives a driver reload."""
        count: int | None = self._call(pynvml.nvmlDeviceGetTotalEccErrors, kind, pynvml.NVML_AGGREGATE_ECC)
        return _known(count)

    def _recovery_action(self) -> RecoveryAction | None:
        """The driver's verdict, None where it gives none."""
        values = self._call(pynvml.nvmlDeviceGetFieldValues, [_RECOVERY_FIELD])
        if values is None or values[0].nvmlReturn != pynvml.NVML_SUCCESS:
            return None
        number = int(values[0].value.uiVal)
        return RECOVERY_ACTIONS[number] if number < len(RECOVERY_ACTIONS) else "unknown"

    def _throttle_reasons(self) -> tuple[str, ...]:
        mask = self._call(pynvml.nvmlDeviceGetCurrentClocksEventReasons)
        if mask is None:  # the name before driver 535
            mask = self._call(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons)
        return () if not mask else throttle_names(mask)

    def _processes(self) -> tuple[GpuProcess, ...]:
        found: dict[int, GpuProcess] = {}
        graphics = self._call(pynvml.nvmlDeviceGetGraphicsRunningProcesses) or ()
        compute = self._call(pynvml.nvmlDeviceGetComputeRunningProcesses) or ()
        for process in graphics:
            found[process.pid] = GpuProcess(process.pid, _known(process.usedGpuMemory), "graphics")
        for process in compute:  # a program that does both is in both lists with the same memory
            found[process.pid] = GpuProcess(process.pid, _known(process.usedGpuMemory), "compute")
        return tuple(process for pid, process in found.items() if pid <= _LARGEST_PID)


def throttle_names(mask: int) -> tuple[str, ...]:
    """The reasons in a mask of `nvmlDeviceGetCurrentClocksEventReasons`, an unknown bit as its hexadecimal value."""
    names = [name for bit, name in THROTTLE_REASONS if mask & bit]
    unknown = mask & ~sum(bit for bit, _ in THROTTLE_REASONS)
    return (*names, hex(unknown)) if unknown else tuple(names)


def _known(figure: int | None) -> int | None:
    return None if figure is None or figure > LARGEST else figure


def _named(code: int) -> str:
    """An nvmlReturn_t as a person reads it, without asking a library that may be stuck."""
    text = str(pynvml.NVMLError._errcode_to_string.get(code, f"NVML error {code}"))
    return text.rstrip(".")
