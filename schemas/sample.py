"""A sample: what one host looked like at one tick.

What could not be read is absent (None), never a number. Every figure carries its unit in its name; a ratio is 0..1.
"""

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct, field

from schemas.workload import Amount, Count, Name, Pid, Seconds

Bytes = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Ratio = Annotated[float, Meta(ge=0)]

#: fresh: measured at this tick · blind: known, but no answer in time · lost: fell off the bus
Reading = Literal["fresh", "blind", "lost"]
#: what a full sample may lack because its source failed
Source = Literal["host", "processes"]
BackendState = Literal["ok", "unavailable", "stopped"]
#: who tells of XIDs: the driver's event set, the kernel's log
XidSource = Literal["nvml", "kmsg"]
#: what the driver itself says must be done with a card (NVML field 230); unknown: a number that we have no name for
RecoveryAction = Literal[
    "none",
    "gpu_reset",
    "node_reboot",
    "drain_p2p",
    "drain_and_reset",
    "recover_imex",
    "bus_reset",
    "system_reboot",
    "unknown",
]


class GpuProcess(Struct, frozen=True, omit_defaults=True):
    """A process that a GPU's driver lists; the memory is None where the driver does not tell (MIG, WDDM)."""

    pid: Pid
    memory_used_bytes: Bytes | None = None
    kind: Literal["compute", "graphics"] = "compute"


class Xid(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Driver errors with one number that a card has had since the full sample before.

    `source` is kmsg where NVML did not tell. Only the kernel's log knows a program and `detail`: those of the last one.
    """

    code: Count
    count: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    source: XidSource
    pid: Pid | None = None
    process: str = ""
    detail: str = ""


class Gpu(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One card at one tick; where `reading` is not fresh, no figure is there, and `reason` says why."""

    index: Count
    uuid: str
    name: str = ""
    pci_bus_id: str = ""
    #: written even where it is fresh: msgspec omits a default that is a value, not one that is made
    reading: Reading = field(default_factory=lambda: "fresh")
    reason: str = ""
    temperature_celsius: float | None = None
    #: degrees to the nearest slowdown, as the card itself tells
    temperature_margin_celsius: float | None = None
    memory_total_bytes: Bytes | None = None
    memory_used_bytes: Bytes | None = None
    memory_reserved_bytes: Bytes | None = None
    utilization_ratio: Ratio | None = None
    memory_utilization_ratio: Ratio | None = None
    power_watts: float | None = None
    power_limit_watts: float | None = None
    clock_sm_mhz: Count | None = None
    clock_memory_mhz: Count | None = None
    fan_ratio: Ratio | None = None
    throttle_reasons: tuple[str, ...] = ()
    #: cumulative times since the driver was loaded
    violation_sw_thermal_ns: Count | None = None
    violation_hw_thermal_ns: Count | None = None
    violation_power_brake_ns: Count | None = None
    ecc_corrected_total: Count | None = None
    ecc_uncorrected_total: Count | None = None
    remapped_rows_corrected: Count | None = None
    remapped_rows_uncorrected: Count | None = None
    remapped_rows_pending: bool | None = None
    remapped_rows_failed: bool | None = None
    recovery_action: RecoveryAction | None = None
    #: in full samples only, by number
    xids: tuple[Xid, ...] = ()
    processes: tuple[GpuProcess, ...] = ()

    @property
    def memory_used_ratio(self) -> float | None:
        """Share of the VRAM in use, None where the card does not tell."""
        if self.memory_used_bytes is None or not self.memory_total_bytes:
            return None
        return self.memory_used_bytes / self.memory_total_bytes


class GpuBackend(Struct, frozen=True):
    """Whether GPUs can be read at all, and if not, why and what to do.

    Without `xid_sources`, nobody would tell of an XID: that a sample holds none says nothing then.
    """

    state: BackendState
    reason: str = ""
    hint: str = ""
    xid_sources: tuple[XidSource, ...] = ()


class Pressure(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Pressure stall information: share of the last 10 s in which some (or all) tasks waited."""

    cpu_some_ratio: Ratio | None = None
    memory_some_ratio: Ratio | None = None
    memory_full_ratio: Ratio | None = None
    io_some_ratio: Ratio | None = None
    io_full_ratio: Ratio | None = None


class Host(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The machine around the cards; the cgroup figures are there where Flyball's own cgroup has a memory limit."""

    cpu_count: Count | None = None
    cpu_busy_ratio: Ratio | None = None
    load_1m: float | None = None
    load_5m: float | None = None
    load_15m: float | None = None
    memory_total_bytes: Bytes | None = None
    memory_available_bytes: Bytes | None = None
    swap_total_bytes: Bytes | None = None
    swap_used_bytes: Bytes | None = None
    cgroup_memory_limit_bytes: Bytes | None = None
    #: usage − inactive file pages
    cgroup_memory_used_bytes: Bytes | None = None
    pressure: Pressure | None = None

    @property
    def memory_used_ratio(self) -> float | None:
        """1 − available/total, or the cgroup's use of its limit where that is higher; None where neither is known."""
        ratios: list[float] = []
        if self.memory_total_bytes and self.memory_available_bytes is not None:
            ratios.append(1 - self.memory_available_bytes / self.memory_total_bytes)
        if self.cgroup_memory_limit_bytes and self.cgroup_memory_used_bytes is not None:
            ratios.append(self.cgroup_memory_used_bytes / self.cgroup_memory_limit_bytes)
        return max(ratios, default=None)


#: Two start times this close are the same process: the kernel counts in hundredths of a second.
SAME_START_S: Final = 0.05


class Process(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A process; (`pid`, `start_time_s`) is its identity.

    `start_time_s` counts from boot on Linux (exact, from /proc/PID/stat), from the epoch elsewhere.
    """

    pid: Pid
    start_time_s: Seconds
    name: str = ""
    user: str = ""
    cgroup: str = ""
    #: the declared or registered workload that it belongs to; `@<allocation id>` of none, and with a reservation
    workload: str = ""
    rss_bytes: Bytes | None = None
    rss_anon_bytes: Bytes | None = None
    vms_bytes: Bytes | None = None
    threads: Count | None = None
    open_handles: Count | None = None
    cpu_seconds: Seconds | None = None


class Counted(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a workload's own programs count, as one configured source last told; where it did not, `reason` says why.

    `counts` are cumulative and fall only when a program starts anew; `gauges` are levels. Figures beside a `reason` are
    the last ones, of `age_s`.
    """

    workload: Name
    #: `kind` and address of the source
    source: str
    #: how old the figures are
    age_s: Seconds | None = None
    counts: dict[str, Amount] = {}
    gauges: dict[str, Amount] = {}
    reason: str = ""
    #: what was asked for and is not among the figures, and why
    missing: str = ""


class Sample(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One host at one tick; (`host`, `boot_id`, `tick`) is its identity.

    A `fast` sample holds only the devices or figures near their CRITICAL edge. `gap` says that time was lost before
    this tick (suspend, SIGSTOP): rates over it are void. What is `unread` is unknown at this tick: it is absent because
    it could not be read, not because there was none.
    """

    host: Name
    boot_id: str
    tick: Count
    time: str
    #: CLOCK_MONOTONIC of the sampler
    monotonic_s: Seconds
    interval_s: Seconds
    scope: Literal["full", "fast"] = "full"
    gap: bool = False
    simulated: bool = False
    gpu_backend: GpuBackend = GpuBackend("ok")
    gpus: tuple[Gpu, ...] = ()
    host_figures: Host | None = None
    processes: tuple[Process, ...] = ()
    #: in full samples only
    counted: tuple[Counted, ...] = ()
    unread: tuple[Source, ...] = ()

    @property
    def id(self) -> str:
        """The identity as one string, for the envelope."""
        return f"{self.host}/{self.boot_id[:8]}/{self.tick}"
