"""What `/metrics` tells, family by family: its name, what it means, its labels, and where in the status it stands.

Names and units as Prometheus has them: base units, ratios of 0..1, and `_total` for what only grows. What is unknown is
left out: a card that cannot be read has `flyball_gpu_up` 0 and no figures. `docs/metrics.md` shows this table.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final, Literal, TypeAlias, get_args

from msgspec import Struct

from schemas.event import State
from schemas.sample import BackendState, Gpu, Host, Pressure
from schemas.status import HandlerStatus, MemoryStatus, Status, TargetStatus

Kind: TypeAlias = Literal["counter", "gauge", "info"]
#: None: unknown
Value: TypeAlias = float | None
#: the values of the labels, and the figure
Point: TypeAlias = tuple[tuple[str, ...], Value]

_NS_A_SECOND: Final = 1e9
_HERTZ_A_MHZ: Final = 1e6
_STATES: Final[tuple[State, ...]] = get_args(State)
_BACKEND_STATES: Final[tuple[BackendState, ...]] = get_args(BackendState)


class Family(Struct, frozen=True):
    """All figures of one name, and how they are read from a status."""

    name: str
    help: str
    labels: tuple[str, ...]
    read: Callable[[Status], Iterable[Point]]

    @property
    def kind(self) -> Kind:
        """As the end of the name says: what only grows is a counter."""
        return "counter" if self.name.endswith("_total") else "info" if self.name.endswith("_info") else "gauge"

    @property
    def stem(self) -> str:
        """The name without what its kind adds."""
        return self.name.removesuffix("_total").removesuffix("_info")


# -- families of one thing -----------------------------------------------------------------------------------------


def _one(name: str, help: str, read: Callable[[Status], Value]) -> Family:
    return Family(f"flyball_{name}", help, (), lambda status: [((), read(status))])


def _gpu(name: str, help: str, read: Callable[[Gpu], Value]) -> Family:
    def points(status: Status) -> Iterator[Point]:
        return ((_card(gpu), read(gpu)) for gpu in status.gpus)

    return Family(f"flyball_gpu_{name}", help, ("gpu", "uuid"), points)


def _gpu_by(label: str, name: str, help: str, read: Callable[[Gpu], Iterable[tuple[str, Value]]]) -> Family:
    """Several figures of each card, told apart by `label`."""

    def points(status: Status) -> Iterator[Point]:
        return (((*_card(gpu), which), value) for gpu in status.gpus for which, value in read(gpu))

    return Family(f"flyball_gpu_{name}", help, ("gpu", "uuid", label), points)


def _host(name: str, help: str, read: Callable[[Host], Value]) -> Family:
    def points(status: Status) -> Iterator[Point]:
        return (((), read(host)) for host in (status.host_memory,) if host)

    return Family(f"flyball_host_{name}", help, (), points)


def _target(name: str, help: str, read: Callable[[TargetStatus], Value]) -> Family:
    def points(status: Status) -> Iterator[Point]:
        return (((target.target,), read(target)) for target in status.targets)

    return Family(f"flyball_target_{name}", help, ("target",), points)


def _memory(name: str, help: str, read: Callable[[MemoryStatus], Value]) -> Family:
    def points(status: Status) -> Iterator[Point]:
        return (((memory.target,), read(memory)) for memory in status.memory)

    return Family(f"flyball_memory_{name}", help, ("target",), points)


def _handler(name: str, help: str, read: Callable[[HandlerStatus], Value]) -> Family:
    def points(status: Status) -> Iterator[Point]:
        return (((handler.name,), read(handler)) for handler in status.handlers)

    return Family(f"flyball_handler_{name}", help, ("handler",), points)


# -- how they are read ---------------------------------------------------------------------------------------------


def _card(gpu: Gpu) -> tuple[str, str]:
    return str(gpu.index), gpu.uuid


def _scaled(value: Value, factor: float) -> Value:
    return None if value is None else value * factor


def _info(status: Status) -> Iterator[Point]:
    yield (status.host, status.version, str(status.simulated).lower()), 1


def _backend(status: Status) -> Iterator[Point]:
    return (((state,), state == status.gpu_backend.state) for state in _BACKEND_STATES)


def _gpu_info(status: Status) -> Iterator[Point]:
    return (((*_card(gpu), gpu.pci_bus_id, gpu.name), 1) for gpu in status.gpus)


def _violations(gpu: Gpu) -> Iterator[tuple[str, Value]]:
    yield "sw_thermal", _scaled(gpu.violation_sw_thermal_ns, 1 / _NS_A_SECOND)
    yield "hw_thermal", _scaled(gpu.violation_hw_thermal_ns, 1 / _NS_A_SECOND)
    yield "power_brake", _scaled(gpu.violation_power_brake_ns, 1 / _NS_A_SECOND)


def _ecc(gpu: Gpu) -> Iterator[tuple[str, Value]]:
    yield "corrected", gpu.ecc_corrected_total
    yield "uncorrected", gpu.ecc_uncorrected_total


def _remapped(gpu: Gpu) -> Iterator[tuple[str, Value]]:
    yield "corrected", gpu.remapped_rows_corrected
    yield "uncorrected", gpu.remapped_rows_uncorrected


def _xids(status: Status) -> Iterator[Point]:
    for gpu in status.gpus:
        for xid, count in status.xids.get(f"gpu{gpu.index}", {}).items():
            yield (*_card(gpu), xid), count


def _faults(status: Status) -> Iterator[Point]:
    for gpu in status.gpus:
        faults = status.faults.get(f"gpu{gpu.index}", ())
        for kind in sorted({fault.kind for fault in faults}):
            yield (*_card(gpu), kind), any(fault.standing for fault in faults if fault.kind == kind)


def _load(status: Status) -> Iterator[Point]:
    if host := status.host_memory:
        yield ("1m",), host.load_1m
        yield ("5m",), host.load_5m
        yield ("15m",), host.load_15m


def _pressure(status: Status) -> Iterator[Point]:
    pressure = (status.host_memory and status.host_memory.pressure) or Pressure()
    yield ("cpu", "some"), pressure.cpu_some_ratio
    yield ("memory", "some"), pressure.memory_some_ratio
    yield ("memory", "full"), pressure.memory_full_ratio
    yield ("io", "some"), pressure.io_some_ratio
    yield ("io", "full"), pressure.io_full_ratio


def _target_states(status: Status) -> Iterator[Point]:
    return (
        ((target.target, state), state == target.state)
        for target in status.targets
        if target.state is not None
        for state in _STATES
    )


def _workload_states(status: Status) -> Iterator[Point]:
    return (((workload.name, workload.state), 1) for workload in status.workloads)


def _counted(status: Status) -> Iterator[Point]:
    return (
        ((workload.name, counter), count)
        for workload in status.workloads
        for counter, count in workload.counts.items()
        if count >= 0
    )


FAMILIES: Final = (
    Family("flyball_info", "Who speaks.", ("host", "version", "simulated"), _info),
    _one("bus_up", "Whether the bus answers.", lambda status: status.bus.state == "up"),
    _one("bus_spooled_entries", "What waits on disk until the bus is back.", lambda status: status.bus.spooled),
    _one("lease_epoch", "The lease under which this supervisor speaks.", lambda status: status.lease.epoch),
    _one(
        "problems", "How many things are wrong right now; the status says which.", lambda status: len(status.problems)
    ),
    _one("sample_age_seconds", "Time since the machine was last looked at.", lambda status: status.sample_age_s),
    Family("flyball_gpu_backend_state", "Whether GPUs can be read: 1 for the present state.", ("state",), _backend),
    # -- cards
    Family("flyball_gpu_info", "A card.", ("gpu", "uuid", "pci_bus_id", "name"), _gpu_info),
    _gpu(
        "up", "Whether the card was read at the last look; 0: it hangs or is lost.", lambda gpu: gpu.reading == "fresh"
    ),
    _gpu("temperature_celsius", "Temperature of the card.", lambda gpu: gpu.temperature_celsius),
    _gpu(
        "temperature_margin_celsius",
        "Degrees to the nearest slowdown, as the card tells.",
        lambda gpu: gpu.temperature_margin_celsius,
    ),
    _gpu("memory_total_bytes", "VRAM of the card.", lambda gpu: gpu.memory_total_bytes),
    _gpu("memory_used_bytes", "VRAM in use.", lambda gpu: gpu.memory_used_bytes),
    _gpu(
        "memory_driver_reserved_bytes",
        "VRAM that the driver keeps for itself.",
        lambda gpu: gpu.memory_reserved_bytes,
    ),
    _gpu("utilization_ratio", "Share of time in which a kernel ran.", lambda gpu: gpu.utilization_ratio),
    _gpu(
        "memory_utilization_ratio",
        "Share of time in which memory was read or written.",
        lambda gpu: gpu.memory_utilization_ratio,
    ),
    _gpu("power_watts", "Power that the card takes.", lambda gpu: gpu.power_watts),
    _gpu("power_limit_watts", "Power that it may take.", lambda gpu: gpu.power_limit_watts),
    _gpu("clock_sm_hertz", "Clock of the multiprocessors.", lambda gpu: _scaled(gpu.clock_sm_mhz, _HERTZ_A_MHZ)),
    _gpu("clock_memory_hertz", "Clock of the memory.", lambda gpu: _scaled(gpu.clock_memory_mhz, _HERTZ_A_MHZ)),
    _gpu("fan_ratio", "Speed of the fan.", lambda gpu: gpu.fan_ratio),
    _gpu("processes", "Processes on the card.", lambda gpu: len(gpu.processes) if gpu.reading == "fresh" else None),
    _gpu_by(
        "reason",
        "throttle_reason",
        "1 for each reason for which the driver holds the clocks back right now.",
        lambda gpu: ((reason, 1) for reason in gpu.throttle_reasons),
    ),
    _gpu_by("reason", "violation_seconds_total", "Time held back since the driver was loaded.", _violations),
    _gpu_by("kind", "ecc_errors_total", "Errors of the memory since the driver was loaded.", _ecc),
    _gpu_by("kind", "remapped_rows_total", "Rows of the memory that were replaced for good.", _remapped),
    _gpu(
        "remapped_rows_pending", "Whether rows wait for a reset to be replaced.", lambda gpu: gpu.remapped_rows_pending
    ),
    _gpu("remapped_rows_failed", "Whether a row could not be replaced.", lambda gpu: gpu.remapped_rows_failed),
    Family("flyball_gpu_fault", "1 for a fault that stands, 0 for one that is over.", ("gpu", "uuid", "kind"), _faults),
    Family("flyball_gpu_xid_errors_total", "Errors that the driver told, by number.", ("gpu", "uuid", "xid"), _xids),
    _gpu_by(
        "action",
        "recovery_action",
        "1 for what must be done with the card, by the driver's own word.",
        lambda gpu: ((action, 1) for action in (gpu.recovery_action,) if action is not None),
    ),
    # -- the machine around them
    _host("cpus", "Processors.", lambda host: host.cpu_count),
    _host("cpu_busy_ratio", "Share of the processors' time in use.", lambda host: host.cpu_busy_ratio),
    Family("flyball_host_load_average", "Tasks that run or wait, averaged.", ("window",), _load),
    _host("memory_total_bytes", "RAM.", lambda host: host.memory_total_bytes),
    _host("memory_available_bytes", "RAM that could be had.", lambda host: host.memory_available_bytes),
    _host("swap_total_bytes", "Swap.", lambda host: host.swap_total_bytes),
    _host("swap_used_bytes", "Swap in use.", lambda host: host.swap_used_bytes),
    _host("cgroup_memory_limit_bytes", "Limit of Flyball's own cgroup.", lambda host: host.cgroup_memory_limit_bytes),
    _host("cgroup_memory_used_bytes", "What counts towards it.", lambda host: host.cgroup_memory_used_bytes),
    Family(
        "flyball_host_pressure_ratio",
        "Share of the last 10 s in which some or all tasks waited.",
        ("resource", "tasks"),
        _pressure,
    ),
    # -- what is promised of it
    _memory("limit_bytes", "Memory that can be promised at most.", lambda memory: memory.limit_bytes),
    _memory("reserved_bytes", "Memory that is reserved.", lambda memory: memory.reserved_bytes),
    _memory("available_bytes", "Memory that could be reserved now.", lambda memory: memory.available_bytes),
    _memory("reservations", "Reservations that stand.", lambda memory: len(memory.reservations)),
    # -- what follows
    Family("flyball_target_state", "1 for the present state of a target.", ("target", "state"), _target_states),
    _target("speed_ratio", "Speed that the standing directive allows; 0: paused.", lambda target: target.speed),
    _target("directive_seq", "Number of the standing directive; only grows.", lambda target: target.seq),
    _target("overridden", "Whether an operator's override stands.", lambda target: target.override is not None),
    Family("flyball_workload_state", "1 for the present state of a workload.", ("workload", "state"), _workload_states),
    Family(
        "flyball_workload_counted_total",
        "What a workload counts itself, summed over its processes.",
        ("workload", "counter"),
        _counted,
    ),
    _handler("running", "Whether the handler runs.", lambda handler: handler.state.startswith("running")),
    _handler("lag_entries", "Entries that wait for the handler.", lambda handler: handler.lag),
    _handler("handled_total", "Entries handled.", lambda handler: handler.handled),
    _handler("results_total", "Events, demands and commands decided.", lambda handler: handler.results),
    _handler("failures_total", "Entries that it could not handle.", lambda handler: handler.failed),
    _handler("restarts_total", "Times it was started again.", lambda handler: handler.restarts),
)
