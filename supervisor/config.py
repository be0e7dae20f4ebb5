"""The configuration as a typed value, grouped by concern; units stand in the names.

`supervisor/configuration` reads it: flags > `FLYBALL_SECTION__KEY` > `flyball.toml` > these defaults. A handler brings
a section of its own (`Handler.settings`), so the thresholds of the ladder stand in `[throttle]`, not here.
"""

from typing import Annotated, ClassVar, Final, Literal

from msgspec import Meta, Struct, field

from schemas.leak import OnLeak
from schemas.workload import DEFAULT_PRIORITY, MOST_WATCHED, Name, Whole
from supervisor.configuration.counters import CounterSection
from supervisor.masking import masked

PositiveSeconds = Annotated[float, Meta(gt=0)]
Auth = Literal["changes", "all", "none"]
May = Literal["throttle", "pause", "cleanup", "restart", "freeze", "terminate", "kill"]


class HostSection(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[host]`: who we are."""

    #: Name on the bus; empty: the machine's host name, with what may not stand in a key replaced by `-`.
    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{0,64}$(?!\n)", description="up to 64 of A-Z a-z 0-9 . _ -")] = (
        ""
    )


class BusSection(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[bus]`: the Redis or Valkey that carries the messages."""

    #: redis://, rediss:// or unix://; empty: a private server of our own in the state directory.
    url: Annotated[
        str, Meta(pattern=r"^$|^(redis|rediss|unix)://", description="an address with redis://, rediss:// or unix://")
    ] = ""
    #: File with the password, so that it need not stand in the URL.
    password_file: str = ""
    #: The slice of a fleet that shares its streams; one host or a small team has only shard 0.
    shard: Annotated[int, Meta(ge=0)] = 0
    #: Memory limit of our own server; at 80 % samples are trimmed, then old events.
    memory_mib: Annotated[int, Meta(ge=16)] = 256
    #: How long samples stay in their stream, by the server's time (DESIGN: 10 min).
    samples_kept_s: PositiveSeconds = 600.0
    #: How many events stay in their stream, about.
    events_kept: Annotated[int, Meta(ge=100)] = 100_000
    #: A request that takes longer counts as a lost bus.
    timeout_s: PositiveSeconds = 2.0
    #: Disk spool for the time when the bus is away; oldest samples go first, decisions never.
    spool_mib: Annotated[int, Meta(ge=1)] = 64

    @property
    def is_guarded(self) -> bool:
        """Whether only those who know a password, or may open our own private socket, can write to it."""
        from urllib.parse import urlsplit

        return not self.url or bool(self.password_file) or bool(urlsplit(self.url).password)

    def __repr__(self) -> str:
        """The fields, but a password in the URL is masked."""
        shown = {name: getattr(self, name) for name in self.__struct_fields__} | {"url": masked(self.url)}
        return f"BusSection({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    def problems(self) -> list[str]:
        """A URL that no client can read."""
        from urllib.parse import urlsplit

        try:
            parts = urlsplit(self.url)
            usable = bool(parts.path) if parts.scheme == "unix" else bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if usable or not self.url:
            return []
        return [f"url: {masked(self.url)!r} lacks a host, port or path; expected redis://HOST:PORT or unix:///PATH"]


class SamplingSection(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[sampling]`: how often the machine is looked at."""

    #: What can be changed while it runs.
    live: ClassVar[frozenset[str]] = frozenset({"interval_s", "fast_interval_s", "top_processes"})

    #: Time between two looks at the machine.
    interval_s: Annotated[float, Meta(ge=0.05, le=60)] = 1.0
    #: Near a CRITICAL edge and approaching, for that device or figure alone.
    fast_interval_s: Annotated[float, Meta(ge=0.02, le=60)] = 0.1
    #: The largest processes by RSS that are sampled beside those on a GPU and the workloads' own.
    top_processes: Annotated[int, Meta(ge=0, le=1000)] = 20
    #: A device that takes longer is quarantined and probed apart.
    nvml_deadline_s: PositiveSeconds = 0.25
    #: Root of the files that are read, for tests and containers.
    proc_root: str = "/proc"
    #: Where the cgroups are mounted.
    cgroup_root: str = "/sys/fs/cgroup"
    #: The kernel's log, followed for XIDs where it can be read; empty: not at all.
    kmsg: str = "/dev/kmsg"

    def problems(self) -> list[str]:
        """Fast sampling that is slower than the ordinary one."""
        if self.fast_interval_s > self.interval_s:
            return [f"fast_interval_s: {self.fast_interval_s:g} is not at most interval_s ({self.interval_s:g})"]
        return []


class ApiSection(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[api]`: the HTTP server."""

    #: Whether to listen at all.
    enabled: bool = True
    #: Where to listen; any address but 127.0.0.0/8, `::1` and `localhost` lets others in, and then all need the token.
    host: Annotated[
        str, Meta(pattern=r"^[A-Za-z0-9._:%-]{1,255}$(?!\n)", description="an address or a name of this machine")
    ] = "127.0.0.1"
    #: 0 takes a free port.
    port: Annotated[int, Meta(ge=0, le=65535)] = 8470
    #: Which requests need the token: those that change something, all, or none (on loopback only).
    auth: Auth = "changes"
    #: Further names by which this machine may be asked, such as that of a proxy; those of loopback always are.
    names: tuple[
        Annotated[str, Meta(pattern=r"^[A-Za-z0-9._:-]{1,255}$(?!\n)", description="a host name or address")], ...
    ] = ()
    #: Whether `/metrics` also has the cards' figures under the names of dcgm-exporter.
    dcgm_metrics: bool = False

    @property
    def needs_token(self) -> Auth:
        """Which requests really need it: where others can ask, all of them."""
        from supervisor.loopback import is_loopback

        return self.auth if is_loopback(self.host) else "all"

    def problems(self) -> list[str]:
        """A door that stands open to others."""
        from supervisor.loopback import is_loopback

        if self.auth != "none" or is_loopback(self.host):
            return []
        return [f'auth: "none" would let everybody in at {self.host!r}; it needs host 127.0.0.1, ::1 or localhost']


class Match(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which processes are a declared workload: all of the given conditions must hold, and for their children none.

    Without any, whoever joins through the SDK by its name is it; with some, nobody is by word alone.
    """

    #: File whose first line is the pid.
    pidfile: str = ""
    #: The cgroup path, or a parent of it.
    cgroup: str = ""
    #: Regular expression searched in the command line, arguments joined by a space.
    cmdline: str = ""
    #: Name of the user that the process runs as; narrows the other conditions.
    user: str = ""


class WorkloadSection(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[[workload]]`: a program that Flyball knows from here, whether or not it uses the SDK."""

    #: What it is called on the bus; each name once.
    name: Name
    match: Match = Match()
    #: Index of each card that it uses; it then obeys their directives.
    gpus: tuple[Annotated[int, Meta(ge=0, le=9999)], ...] = ()
    #: The lowest gives way first; what joins through the SDK has 5 by default, too.
    priority: Whole = DEFAULT_PRIORITY
    #: Argument list that starts it; never a shell string.
    command: tuple[str, ...] = ()
    #: Names of the declared workloads that it needs.
    depends_on: tuple[Name, ...] = ()
    #: Argument list that starts it anew, such as `["systemctl", "restart", "search"]`; never a shell string.
    restart: tuple[str, ...] = ()
    #: What follows from a leak that is confirmed, beside the report; `restart` needs match.pidfile, .cgroup or .user.
    on_leak: OnLeak = "report"
    #: Where it tells what it has done.
    counters: tuple[CounterSection, ...] = ()
    #: What Flyball may do to it; nothing that is not listed is ever done.
    may: tuple[May, ...] = ("throttle", "pause", "cleanup")

    def problems(self) -> list[str]:
        """More counts or gauges than are watched, and a reaction to leaks that could not be carried out."""
        found = []
        for kind in ("counts", "gauges"):
            names = sum(len(getattr(source, kind)) for source in self.counters)
            if names > MOST_WATCHED:
                found.append(
                    f"counters: name {names} {kind} together, and no more than {MOST_WATCHED} of a workload are "
                    f"watched for leaks, so that {names - MOST_WATCHED} would never be seen; keep those that tell most"
                )
        if self.on_leak == "restart" and not self.restart:
            found.append(
                'restart: is empty, so on_leak = "restart" could not be done; expected an argument list such as '
                f'["systemctl", "restart", "{self.name}"]'
            )
        if self.on_leak != "report" and self.on_leak not in self.may:
            found.append(f'may: lacks "{self.on_leak}", so on_leak = "{self.on_leak}" could not be done; add it')
        match = self.match
        if self.on_leak == "restart" and not (match.pidfile or match.cgroup or match.user):
            found.append(
                "match: anybody can join by a name or imitate a command line, and would have the workload restarted; "
                'on_leak = "restart" needs at least one of pidfile, cgroup, user'
            )
        return found


class Config(Struct, frozen=True, kw_only=True):
    """The whole configuration; `handlers` holds the section of each handler, by name."""

    host: HostSection = HostSection()
    bus: BusSection = BusSection()
    sampling: SamplingSection = SamplingSection()
    api: ApiSection = ApiSection()
    workload: tuple[WorkloadSection, ...] = ()
    #: Say everything and do nothing: events come, marked DRY RUN; no directive and no command follows from them.
    dry_run: bool = False
    handlers: dict[str, Struct] = field(default_factory=dict)


CORE_SECTIONS: Final[dict[str, type[Struct]]] = {
    "host": HostSection,
    "bus": BusSection,
    "sampling": SamplingSection,
    "api": ApiSection,
}
