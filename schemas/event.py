"""The facts worth keeping: for each event type the Struct in its `data`."""

from typing import Final, Literal

from msgspec import Struct

from schemas.command import Command
from schemas.config import SettingChange
from schemas.leak import Evidence, LeakReport
from schemas.sample import RecoveryAction, Sample, XidSource
from schemas.workload import (
    INBOX_TYPES,
    Acknowledgement,
    Action,
    CleanupResult,
    Count,
    Directive,
    LedgerAnswer,
    Name,
    OnSilence,
    Pid,
    Reservation,
    Seconds,
    Speed,
    Target,
    Whole,
)

State = Literal["OPTIMAL", "NORMAL", "THROTTLED", "CRITICAL", "UNAVAILABLE", "BLIND"]
FaultKind = Literal[
    "xid",
    "lost",
    "recovery_action",
    "ecc_uncorrected",
    "remapping_failed",
    "remapping_pending",
    "hw_thermal_slowdown",
    "power_brake",
]
FaultClass = Literal["application", "gpu", "host", "notice", "procedure", "support", "unknown"]
#: what to do about a fault; find_out: nobody says, so somebody must look
FaultAction = Literal[
    "restart_program",
    "reset_gpu",
    "reset_bus",
    "reboot_host",
    "restart_vm",
    "drain_p2p",
    "drain_and_reset",
    "recover_imex",
    "check_cooling",
    "check_power",
    "follow_procedure",
    "ask_driver",
    "contact_support",
    "log_only",
    "find_out",
]


class StateChanged(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A target moved from one state of the ladder to another."""

    target: Target
    state: State
    previous: State
    action: Action
    speed: Speed
    reason: str
    cause: str
    temperature_celsius: float | None = None
    memory_used_ratio: float | None = None
    #: at or above the temperature at which not even an operator speeds it up unforced
    emergency: bool = False
    simulated: bool = False


class PauseFutile(Struct, frozen=True, kw_only=True):
    """A memory pause ended because use was not growing: pausing does not help."""

    target: Target
    memory_used_ratio: float
    paused_s: Seconds
    reason: str
    cause: str


class Joined(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A workload joined."""

    workload: Name
    pid: Pid
    start_time_s: Seconds
    targets: tuple[Target, ...]
    priority: Whole
    on_silence: OnSilence
    cause: str


class Left(Struct, frozen=True, kw_only=True):
    """A workload left, by its own word or because its process ended."""

    workload: Name
    pid: Pid
    reason: str
    cause: str


class Acknowledged(Acknowledgement, frozen=True, kw_only=True):
    """A workload heard or applied a directive."""

    cause: str


class CleanedUp(CleanupResult, frozen=True, kw_only=True):
    """A workload answered a cleanup request."""

    cause: str


class OverrideChanged(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An operator's override began, ended or was refused."""

    target: Target
    outcome: Literal["started", "ended", "refused"]
    action: Action
    speed: Speed
    operator: str
    reason: str
    cause: str
    until: str = ""
    forced: bool = False


class LedgerRead(Struct, frozen=True, kw_only=True):
    """The ledger was not what the supervisor took it to be; this is all that stands in it now.

    `restored` had been lost with the data of the bus, and were written again.
    """

    reservations: tuple[Reservation, ...]
    restored: tuple[Name, ...]
    cause: str


class MemoryOverused(Struct, frozen=True, kw_only=True):
    """A reservation's owner uses more than was reserved, or no longer does."""

    target: Target
    outcome: Literal["began", "ended"]
    allocation_id: Name
    owner: Name
    reserved_bytes: Count
    used_bytes: Count
    cause: str


class MemoryOrphaned(Struct, frozen=True, kw_only=True):
    """VRAM is in use that no living process owns, or no longer is; `pids` have ended, and are listed all the same."""

    target: Target
    outcome: Literal["began", "ended"]
    orphaned_bytes: Count
    used_bytes: Count
    pids: tuple[Pid, ...]
    cause: str


class ConfigChanged(Struct, frozen=True, kw_only=True):
    """Settings changed while the supervisor runs: through the API, or because the file was read again."""

    changes: tuple[SettingChange, ...]
    origin: Literal["api", "file"]
    who: str
    cause: str


class ConfigRefused(Struct, frozen=True, kw_only=True):
    """The file was read again and cannot be used, so that what stood still stands; each problem names its key."""

    problems: tuple[str, ...]
    who: str
    cause: str


class MonitoringChanged(Struct, frozen=True, kw_only=True):
    """Somebody stopped the supervisor from reading GPUs, or let it go on."""

    state: Literal["running", "stopped"]
    who: str
    reason: str
    cause: str


class GpuError(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something is wrong with a card: the first of a kind at once, its repeats as one count each `folded_s`.

    `advice` is `action` in a sentence; a fault that is `fatal` pauses the target. A program is known where the kernel's
    log named it.
    """

    target: Target
    uuid: str
    pci_bus_id: str
    kind: FaultKind
    fault_class: FaultClass
    action: FaultAction
    advice: str
    count: Count
    cause: str
    fatal: bool = False
    folded_s: Seconds | None = None
    xid: Count | None = None
    source: XidSource | None = None
    pid: Pid | None = None
    process: str = ""
    workload: str = ""
    #: the driver's own words, or why the card is lost
    detail: str = ""
    recovery_action: RecoveryAction | None = None
    #: of a slowdown: how long the card was slowed
    slowed_s: Seconds | None = None
    simulated: bool = False


class GpuRecovered(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Faults that stood are over; where `resumed`, they no longer pause the target."""

    target: Target
    uuid: str
    pci_bus_id: str
    kinds: tuple[FaultKind, ...]
    reason: str
    after_s: Seconds
    cause: str
    resumed: bool = False
    simulated: bool = False


class EvidenceGathered(Evidence, frozen=True, kw_only=True):
    """What a process looked like from outside, or from inside, when somebody asked."""

    cause: str


class WorkloadRestarted(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A declared workload was to be started anew: what came of it, and where nothing was done, why."""

    workload: Name
    outcome: Literal["restarted", "failed", "refused"]
    reason: str
    cause: str
    #: the processes before and after
    pids_before: tuple[Pid, ...] = ()
    pids_after: tuple[Pid, ...] = ()
    took_s: Seconds | None = None
    dry_run: bool = False


class HandlerFailed(Struct, frozen=True, kw_only=True):
    """A handler could not process an entry; it is in the dead-letter stream."""

    handler: str
    stream: str
    entry: str
    attempts: Count
    error: str
    cause: str


class StreamGap(Struct, frozen=True, kw_only=True):
    """Entries were trimmed away before a handler had read them; what depends on them warms up again."""

    handler: str
    stream: str
    after: str
    first: str
    lost: Whole | None
    cause: str


class BusRestored(Struct, frozen=True, kw_only=True):
    """The bus was away and is back; what was decided meanwhile has been sent."""

    away_s: Seconds
    events_sent: Count
    samples_sent: Count
    samples_dropped: Count
    cause: str


#: The `type` of an entry of `flyball:events:…`, and the Struct in its `data`.
EVENT_TYPES: Final[dict[str, type[Struct]]] = {
    "flyball.gpu.state_changed": StateChanged,
    "flyball.host.state_changed": StateChanged,
    "flyball.pause.futile": PauseFutile,
    "flyball.directive.issued": Directive,
    "flyball.directive.acknowledged": Acknowledged,
    "flyball.workload.joined": Joined,
    "flyball.workload.left": Left,
    "flyball.cleanup.finished": CleanedUp,
    "flyball.override.changed": OverrideChanged,
    "flyball.memory.reserved": LedgerAnswer,
    "flyball.memory.denied": LedgerAnswer,
    "flyball.memory.start_finished": LedgerAnswer,
    "flyball.memory.released": LedgerAnswer,
    "flyball.memory.expired": LedgerAnswer,
    "flyball.memory.ledger_read": LedgerRead,
    "flyball.memory.overused": MemoryOverused,
    "flyball.memory.orphaned": MemoryOrphaned,
    "flyball.config.changed": ConfigChanged,
    "flyball.config.refused": ConfigRefused,
    "flyball.monitoring.changed": MonitoringChanged,
    "flyball.gpu.error": GpuError,
    "flyball.gpu.recovered": GpuRecovered,
    "flyball.leak.suspected": LeakReport,
    "flyball.leak.confirmed": LeakReport,
    "flyball.leak.cleared": LeakReport,
    "flyball.evidence.gathered": EvidenceGathered,
    "flyball.workload.restarted": WorkloadRestarted,
    "flyball.handler.failed": HandlerFailed,
    "flyball.stream.gap": StreamGap,
    "flyball.bus.restored": BusRestored,
}

#: Every `type` on any stream, and the Struct in its `data`.
WIRE_TYPES: Final[dict[str, type[Struct]]] = {
    "flyball.host.sampled": Sample,
    "flyball.command.requested": Command,
    **INBOX_TYPES,
    **EVENT_TYPES,
}
