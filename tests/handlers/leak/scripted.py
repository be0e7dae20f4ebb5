"""A detector whose verdicts are written down beforehand, and a handler that is fed with it."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import msgspec

from handlers.leak.handler import LeakWatch
from handlers.leak.policy import Subject
from handlers.leak.settings import Settings
from schemas.command import Command
from schemas.envelope import Event
from schemas.leak import Cause, Interval, Jump, LeakReport, Resource, Stage, Verdict
from schemas.sample import Counted, Gpu, Host, Process
from schemas.workload import Counters
from supervisor.handler import Context, Decisions, Declared
from tests.handlers.samples import GIB, context, event, sample, sampled

MIB: Final = 2**20
#: No system has such a pid.
PID: Final = 4_999_812


class Scripted(Subject):
    """Says at each time what `script` says, of every subject that has the resource."""

    script: ClassVar[dict[tuple[float, Resource], Verdict]] = {}
    #: what every one was fed with
    fed: ClassVar[list[tuple[float, dict[str, float], dict[str, float], dict[str, float]]]] = []
    interrupts: ClassVar[list[float]] = []

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.last_s = 0.0
        self.said: dict[Resource, Verdict] = {}

    @property
    def verdicts(self) -> dict[Resource, Verdict]:
        return self.said

    def observe(
        self, t_s: float, levels: Mapping[Resource, float], counts: Mapping[str, float], gauges: Mapping[str, float]
    ) -> tuple[Verdict, ...]:
        if t_s <= self.last_s:
            return ()
        self.last_s = t_s
        Scripted.fed.append((t_s, {str(name): level for name, level in levels.items()}, {**counts}, {**gauges}))
        changed = []
        for (second, resource), verdict in Scripted.script.items():
            if second == t_s and resource in levels:
                self.said[resource] = verdict
                changed.append(verdict)
        return tuple(changed)

    def interrupt(self) -> None:
        Scripted.interrupts.append(self.last_s)

    def pack(self) -> bytes:
        return msgspec.msgpack.encode([self.last_s, self.said])

    @classmethod
    def unpack(cls, packed: bytes, settings: Settings) -> "Scripted":
        try:
            last_s, verdicts = msgspec.msgpack.decode(packed, type=tuple[float, dict[Resource, Verdict]])
        except msgspec.DecodeError as error:
            raise ValueError(str(error)) from error
        one = cls(settings)
        one.last_s, one.said = last_s, verdicts
        return one


def verdict(stage: Stage, resource: Resource = "threads", **fields: Any) -> Verdict:
    """One of a thread a call of add_sections, three calls in two seconds, unless `fields` say otherwise."""
    if stage in ("suspected", "confirmed"):
        fields.setdefault("since_s", 900.0)
        fields.setdefault("rate_per_s", Interval(1.5, 1.4, 1.6))
    return Verdict(resource=resource, stage=stage, **fields)


BY_CALL: Final[dict[str, Any]] = {
    "cause": Cause(driver="calls.add_sections", per_call=Interval(1.03, 0.98, 1.09), explained=0.97),
    "jumps": (Jump(at_s=880.0, amount=34.0, first_call="calls.add_sections"),),
}


def process(pid: int = PID, start_time_s: float = 50.0, **fields: Any) -> Process:
    """A process of a workload, with 97 threads, which the tests' machine does not have."""
    named: dict[str, Any] = {
        "name": "python3", "workload": "search-docs", "rss_bytes": 300 * MIB, "rss_anon_bytes": 200 * MIB,
        "vms_bytes": GIB, "threads": 97, "open_handles": 12, "cpu_seconds": 4.0,
    }  # fmt: skip
    return Process(pid=pid, start_time_s=start_time_s, **(named | fields))


class Fed:
    """A handler with scripted verdicts, and what it said."""

    def __init__(
        self, declared: Sequence[Declared] = (), settings: Settings | None = None, subject: type[Subject] = Scripted
    ) -> None:
        Scripted.script, Scripted.fed, Scripted.interrupts = {}, [], []
        self.handler = LeakWatch(settings or Settings(), declared, subject)
        self.subject = subject
        self.declared = declared

    def say(self, second: float, verdict: Verdict) -> None:
        """At this time every subject with the resource says so."""
        Scripted.script[second, verdict.resource] = verdict

    def see(
        self,
        second: float,
        *processes: Process,
        gpus: Sequence[Gpu] = (),
        counted: Sequence[Counted] = (),
        figures: Host | None = None,
        replaying: bool = False,
        away: bool = False,
        **fields: Any,
    ) -> Decisions:
        """A full sample at that time; `away`: in process, since the bus is away."""
        one = sample(
            second, gpus, processes=processes or (process(),), figures=figures, counted=tuple(counted), **fields
        )
        entry: dict[str, Any] = {"entry": ""} if away else {}
        return self.take(sampled(one), context(second, boot_id=one.boot_id, replaying=replaying, **entry))

    def hear(self, second: float, type: str, data: object, stream: Any = "events", **fields: Any) -> Decisions:
        """Any other entry."""
        return self.take(event(type, data, **fields), context(second, stream))

    def count(self, second: float, pid: int = PID, start_time_s: float = 50.0, **counts: float) -> None:
        """A process tells its counters through the SDK."""
        told = Counters(workload="search-docs", pid=pid, start_time_s=start_time_s, counts=counts)
        self.hear(second, "flyball.workload.count", told, "inbox")

    def take(self, event: Event, context: Context) -> Decisions:
        """What follows from an input; nothing is no Decisions, never empty ones."""
        decisions = asyncio.run(self.handler.handle(event, context))
        assert decisions != Decisions()
        return decisions or Decisions()

    def reborn(self, stored: bytes = b"") -> None:
        """The same after a restart of the supervisor, from what it stored last: now, unless it is given."""
        state = stored or self.handler.snapshot()
        self.handler = LeakWatch(Settings(), self.declared, self.subject)
        self.handler.restore(state)


def told(decisions: Decisions) -> list[tuple[str, str]]:
    """(type, text) of each event."""
    return [(draft.type.removeprefix("flyball.leak."), draft.text) for draft in decisions.events]


def reports(decisions: Decisions) -> list[LeakReport]:
    """The reports, as they are on the wire."""
    return [msgspec.json.decode(msgspec.json.encode(draft.data), type=LeakReport) for draft in decisions.events]


def commands(decisions: Decisions, action: str) -> list[Command]:
    """What was asked for."""
    every = [msgspec.json.decode(msgspec.json.encode(command), type=Command) for command in decisions.commands]
    return [command for command in every if command.action == action]


__all__ = ["BY_CALL", "MIB", "PID", "Fed", "Scripted", "commands", "process", "reports", "told", "verdict"]
