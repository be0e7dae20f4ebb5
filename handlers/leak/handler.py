"""Ties the detector of leaks to the runtime: samples and counters in; events, requests and demands out.

It sees every process of each full sample and every card, says what stands by `GET /api/leaks`, and keeps all of it
over a restart.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Final

import msgspec

from handlers.leak import routes as api
from handlers.leak import standing, wording
from handlers.leak.outlook import outlook
from handlers.leak.policy import Subject
from handlers.leak.report import report
from handlers.leak.settings import Settings
from handlers.leak.telling import ISSUER, Telling
from handlers.leak.watch import VERSION, State, Watch
from schemas.demand import Demand
from schemas.envelope import Event, MalformedEntry
from schemas.event import EvidenceGathered, WorkloadRestarted
from schemas.workload import Counters
from supervisor.handler import Context, Decisions, Declared, Handler, Route, Stream, read_snapshot, sample_of

_COUNTED: Final = "flyball.workload.count"
_EVIDENCE: Final = "flyball.evidence.gathered"
_RESTARTED: Final = "flyball.workload.restarted"
_LARGEST_MESSAGE: Final = 65_536


class LeakWatch(Handler):
    """Finds what grows without end, says what drives it and when it will matter, and reacts where it may."""

    name: ClassVar[str] = ISSUER
    streams: ClassVar[tuple[Stream, ...]] = ("samples", "inbox", "events")
    types: ClassVar[frozenset[str]] = frozenset({"flyball.host.sampled", _COUNTED, _EVIDENCE, _RESTARTED})
    settings = Settings
    #: Packing takes a while with hundreds of processes; what came since is read again from the samples.
    snapshot_every_s: ClassVar[float] = 120.0

    def __init__(self, settings: Settings, declared: Sequence[Declared], subject: type[Subject] = Subject) -> None:
        """`subject` decides about one process or card."""
        self._settings = settings
        self._watch = Watch(settings, declared, subject)

    async def handle(self, event: Event, context: Context) -> Decisions | None:
        """Look at a sample, take up what was counted, or note what came of a request.

        :raises MalformedEntry: its data is not what its type says, or too large.
        """
        if context.stream == "samples":
            sample = sample_of(event)
            ours = sample.host == context.host and sample.boot_id == context.boot_id
            if not ours or sample.scope != "full" or not self._settings.enabled:
                return None
            telling = Telling(context, event.id, self._settings.critical_s)
            self._watch.look(sample, telling)
            return telling.decisions()
        if event.source.partition("/")[0] != context.host:
            return None
        if event.type == _COUNTED:
            if len(event.data) > _LARGEST_MESSAGE:
                raise MalformedEntry(f"{len(event.data)} bytes are too many for counters; allowed: {_LARGEST_MESSAGE}")
            self._watch.counting.tell(event.decode(Counters), self._settings.subjects)
        elif event.type == _EVIDENCE:
            standing.add_evidence(self._watch.standing, event.decode(EvidenceGathered))
        elif event.type == _RESTARTED:
            self._watch.note_restart(event.decode(WorkloadRestarted))
        return None

    def tick(self, context: Context) -> Decisions | None:
        """Where it was switched off, end what stands."""
        if self._settings.enabled or self._watch.is_idle:
            return None
        telling = Telling(context, "", self._settings.critical_s)
        self._watch.switch_off(telling)
        return telling.decisions()

    def missed(self, stream: Stream, context: Context) -> Decisions | None:
        """Samples were lost: no rate is taken across."""
        if stream == "samples":
            self._watch.interrupt()
        return None

    def demands(self) -> Sequence[Demand]:
        """What is asked of workloads that leak."""
        return self._watch.reactions.demands(self._settings)

    def reconfigure(self, settings: Settings) -> bool:
        """Other settings, from the next sample on."""
        self._settings = settings
        self._watch.reconfigure(settings)
        return True

    def snapshot(self) -> bytes:
        """All that is known, what leaks first."""
        return msgspec.msgpack.encode(self._watch.pack())

    def restore(self, snapshot: bytes) -> None:
        """Take it up.

        :raises ValueError: when it is of another version or damaged.
        """
        self._watch.unpack(read_snapshot(snapshot, State, VERSION))

    def view(self) -> dict[str, Any]:
        """`problems`: a sentence for each leak that is confirmed."""
        confirmed = [leak for leak in self._watch.standing.leaks.values() if leak.stage == "confirmed"]
        return {"problems": [wording.standing_leak(leak, self._watch.wall) for leak in confirmed]}

    def routes(self) -> Sequence[Route]:
        """`GET /api/leaks`."""
        return api.routes(self._answer)

    def _answer(self, query: api.LeaksQuery) -> api.Leaks | None:
        watch, latest = self._watch, self._watch.latest
        if latest is None:
            return None if self._settings.enabled else api.Leaks(enabled=False, watched=0, leaks=(), subjects=())
        meant = [one for one in watch.standing.leaks.values() if api.is_meant(query, one.who.workload, one.who.pid)]
        leaks = api.surest(meant)
        for leak in leaks:
            watch.refresh(leak)
        return api.Leaks(
            enabled=self._settings.enabled,
            watched=len(watch.subjects),
            not_watched=watch.subjects.left_out,
            leaks=tuple(
                report(
                    leak.stage, leak, outlook(leak, latest, look=True), watch.wall,
                    critical_s=self._settings.critical_s,
                )
                for leak in leaks
            ),
            leaks_left_out=len(meant) - len(leaks),
            subjects=api.subjects(watch.subjects, query, watch.wall, latest.monotonic_s),
        )  # fmt: skip
