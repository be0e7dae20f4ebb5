"""What is known of a growth that does not end: a verdict on each resource of a process or card, and a leak's report.

Memory is in bytes, threads and handles are counts, times are seconds of the sampler's monotonic clock unless a name
says otherwise.
"""

from typing import Final, Literal

from msgspec import Struct

from schemas.workload import Allocated, Growing, Pid, Seconds

Resource = Literal["rss", "vms", "threads", "handles", "vram"]
RESOURCES: Final[tuple[Resource, ...]] = ("rss", "vms", "threads", "handles", "vram")
#: those of them that are bytes
MEMORY: Final[tuple[Resource, ...]] = ("rss", "vms", "vram")

#: warming: it grows, but so does a warm-up, a cache or a pool; undecided until `undecided_until_s` · steady: nothing
#: to see · suspected: grows like a leak · confirmed: it went on doing so · unknown: not measured
Stage = Literal["unknown", "warming", "steady", "suspected", "confirmed"]
#: info: worth knowing, no leak of its own (address space) · critical: the limit is near
Severity = Literal["info", "warning", "critical"]
#: what explains the growth of memory, in the words of the thread study that Flyball grew out of
Pattern = Literal["threads explain memory", "requests explain memory", "time only", "no leak"]


class Interval(Struct, frozen=True):
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float


class Jump(Struct, frozen=True, kw_only=True):
    """A one-off change of level, such as a pool's start-up: `amount` of the resource at `at_s`."""

    at_s: float
    amount: float
    #: the counter whose first call it was: `calls.NAME`; empty: none
    first_call: str = ""


class Cause(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What drives a growth.

    `driver` is `calls.NAME`, `threads`, `handles` or `time`. `alike` are drivers that move so much like
    it that what was seen cannot tell them apart; `tell_apart` says what would. Where it is not empty, the driver is
    unidentifiable.
    """

    driver: str
    #: the resource's units a call, thread or handle; None for time, or where the growth is not linear in the driver
    per_call: Interval | None = None
    #: share of the growth that the driver explains, 0..1
    explained: float = 0.0
    alike: tuple[str, ...] = ()
    tell_apart: str = ""
    #: the driver one step back: what drives the threads or handles that explain memory
    through: str = ""


class Verdict(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of one resource of one subject."""

    resource: Resource
    stage: Stage
    #: when this was found, and the estimated begin of the growth
    at_s: float = 0.0
    since_s: float | None = None
    #: the resource's units a second
    rate_per_s: Interval | None = None
    cause: Cause | None = None
    jumps: tuple[Jump, ...] = ()
    #: of `warming`: when more will be known, as far as can be said
    undecided_until_s: float | None = None
    #: one phrase: what keeps it from being more, or makes it what it is
    reason: str = ""


class Exhaustion(Struct, frozen=True, kw_only=True):
    """When a limit is reached if it goes on: seconds from the report, as quantiles; None: not within a year."""

    limit: Literal["cgroup", "gpu", "host", "process"]
    limit_value: float
    p10_s: Seconds | None
    p50_s: Seconds | None
    p90_s: Seconds | None


class Evidence(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a process looked like when a leak was suspected; what could not be had stands in `missing`, with why.

    It may come in two parts with the same `command`: ours, and the SDK's from inside.
    """

    #: id of the command that asked for it
    command: str
    pid: Pid
    start_time_s: Seconds
    workload: str = ""
    #: name → count, the most frequent first
    threads: dict[str, int] = {}
    #: kind → count, such as `socket tcp CLOSE_WAIT`, `file`, `pipe`, `eventfd`
    handles: dict[str, int] = {}
    anonymous_bytes: int | None = None
    file_bytes: int | None = None
    shared_bytes: int | None = None
    swapped_bytes: int | None = None
    #: stacks of all threads, as py-spy prints them, those at the same place as one with a count; cut to 16 kB
    stacks: str = ""
    allocations: tuple[Allocated, ...] = ()
    objects: tuple[Growing, ...] = ()
    missing: tuple[str, ...] = ()
    took_s: Seconds = 0.0
    #: the longest time for which the program stood still because of the look; None: for none of it
    stopped_s: Seconds | None = None


class LeakReport(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A leak as people and programs read it; the first five fields are those of the memory manager of seeds/004.

    `memory_growth_rate` is the growth of `resource` in its own units an hour. The subject is a process (`pid`,
    `start_time_s`) or, without one, the card `gpu`.
    """

    #: RFC 3339
    detection_time: str
    suspected_objects: tuple[str, ...]
    memory_growth_rate: float
    stack_trace: str | None
    severity: Severity
    stage: Literal["suspected", "confirmed", "cleared"]
    resource: Resource
    #: `pid/PID/START` or `gpuN`; a leak keeps it from suspected to cleared
    leak: str
    pid: Pid = 0
    start_time_s: Seconds = 0.0
    process: str = ""
    workload: str = ""
    gpu: str = ""
    #: RFC 3339: when the growth began
    since: str = ""
    #: the level now
    level: float | None = None
    rate_per_hour: Interval | None = None
    cause_of_growth: Cause | None = None
    jumps: tuple[Jump, ...] = ()
    forecast: Exhaustion | None = None
    recommendations: tuple[str, ...] = ()
    evidence: Evidence | None = None
    reaction: str = ""
    simulated: bool = False
    cause: str = ""


OnLeak = Literal["report", "throttle", "cleanup", "restart"]
