"""The latest state of one host, as `flyball status --json` prints it and `flyball:status:{0}:<host>` holds it.

Every key is always there; only the figures of a card or a machine that cannot be read are absent, as in a sample.
"""

from typing import Final

from msgspec import Struct

from schemas.event import FaultAction, FaultClass, FaultKind, State
from schemas.sample import Gpu, GpuBackend, Host
from schemas.workload import DEFAULT_PRIORITY, Action, Count, Name, Pid, Seconds, Speed, Target, Whole

SCHEMA_VERSION: Final = 1


class BusStatus(Struct, frozen=True, kw_only=True):
    """Where the bus is, what kind it is, and whether it answers; the URL never holds a password."""

    url: str
    kind: str
    state: str = "up"
    away_s: Seconds | None = None
    spooled: Count = 0


class ApiStatus(Struct, frozen=True):
    """Where the HTTP API and the page are; None where they do not run."""

    url: str | None = None


class LeaseStatus(Struct, frozen=True):
    """The lease under which this supervisor speaks."""

    epoch: Count


class OverrideStatus(Struct, frozen=True):
    """An operator's override, with who and until when."""

    operator: str
    until: str
    action: Action
    speed: Speed
    forced: bool = False


class TargetStatus(Struct, frozen=True, kw_only=True):
    """A target: the state that throttle sees (None: nobody watches it, as for a workload), and the directive."""

    target: Target
    state: State | None
    action: Action
    speed: Speed
    reason: str
    seq: Count
    override: OverrideStatus | None = None


class MemoryStatus(Struct, frozen=True, kw_only=True):
    """What is reserved of a target's memory, and what could be; None where there is no fresh reading of it."""

    target: Target
    limit_bytes: Count | None
    reserved_bytes: Count
    available_bytes: Count | None
    #: by allocation id
    reservations: tuple[Name, ...] = ()


class WorkloadStatus(Struct, frozen=True, kw_only=True):
    """A workload that registered through the SDK or was declared in the configuration."""

    name: Name
    #: joined: speaks to us · matched: declared and seen in /proc · absent: declared, not running · left
    state: str
    pids: tuple[Pid, ...] = ()
    targets: tuple[Target, ...] = ()
    priority: Whole = DEFAULT_PRIORITY
    declared: bool = False
    may: tuple[str, ...] = ()
    #: seq of the last directive that it applied, by target
    applied: dict[str, Count] = {}
    #: its own cumulative counters, summed over its processes
    counts: dict[str, float] = {}


class HandlerStatus(Struct, frozen=True, kw_only=True):
    """How a handler is doing; also the fields of `flyball:handler:{0}:<name>`."""

    name: str
    state: str
    lag: Count | None = None
    handled: Count = 0
    results: Count = 0
    failed: Count = 0
    restarts: Count = 0
    last_error: str = ""


class FaultStatus(Struct, frozen=True, kw_only=True):
    """A fault that a card has, or had: it stands until it is repaired."""

    kind: FaultKind
    fault_class: FaultClass
    action: FaultAction
    #: `action` in a sentence
    advice: str
    #: with its repeats
    count: Count
    since: str
    last: str
    standing: bool = False
    #: stands, and pauses its target
    fatal: bool = False
    #: while it stands: what it is, what to do and until when, as it is among the status's problems
    problem: str = ""
    xid: Count | None = None


class Status(Struct, frozen=True, kw_only=True):
    """The latest state of one host."""

    host: Name
    time: str
    schema_version: int = SCHEMA_VERSION
    simulated: bool = False
    version: str = ""
    pid: Pid = 0
    bus: BusStatus
    api: ApiStatus = ApiStatus()
    lease: LeaseStatus
    sample_id: str = ""
    sample_age_s: Seconds | None = None
    #: how far samples are apart
    sample_interval_s: Seconds | None = None
    gpu_backend: GpuBackend
    gpus: tuple[Gpu, ...] = ()
    host_memory: Host | None = None
    targets: tuple[TargetStatus, ...] = ()
    memory: tuple[MemoryStatus, ...] = ()
    workloads: tuple[WorkloadStatus, ...] = ()
    handlers: tuple[HandlerStatus, ...] = ()
    #: the last faults of each card
    faults: dict[Target, tuple[FaultStatus, ...]] = {}
    #: how many driver errors each card ever had, by number (XID)
    xids: dict[Target, dict[str, Count]] = {}
    #: what is wrong right now, one sentence each
    problems: tuple[str, ...] = ()
