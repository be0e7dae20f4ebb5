"""Ties the past to the runtime and the API: samples of our host in; a snapshot, and two resources, out."""

from collections.abc import Sequence
from typing import ClassVar

import msgspec

from handlers.history import policy
from handlers.history.answers import history
from handlers.history.outlook import Moment, outlook
from handlers.history.policy import Past, Snapshot
from handlers.history.queries import HistoryQuery, TrendQuery
from handlers.history.series import Series
from handlers.history.settings import Settings
from schemas.envelope import Event, MalformedEntry
from schemas.event import StateChanged
from schemas.history import GpuTrend, MetricsHistory
from schemas.sample import Gpu
from schemas.workload import Directive
from supervisor.handler import (
    Asked,
    Context,
    Decisions,
    Declared,
    Example,
    Handler,
    Refusal,
    Route,
    Stream,
    read_snapshot,
    sample_of,
)

_SAMPLED = "flyball.host.sampled"
_STATE_CHANGED = "flyball.gpu.state_changed"
_PROBLEMS = {404: "There is no such card.", 503: "Nothing has been sampled yet, or the past is still being read."}


class History(Handler):
    """Remembers what each card was like, and tells where it is heading."""

    name: ClassVar[str] = "history"
    streams: ClassVar[tuple[Stream, ...]] = ("samples", "events")
    types: ClassVar[frozenset[str]] = frozenset({_SAMPLED, _STATE_CHANGED, "flyball.directive.issued"})
    settings = Settings
    #: A day of eight cards takes 9 ms to pack; what came since is read again from the samples, which stay 10 min.
    snapshot_every_s: ClassVar[float] = 240.0

    def __init__(self, settings: Settings, declared: Sequence[Declared]) -> None:
        self._past = Past(settings)
        #: 0 until the past is there
        self._now_s = 0.0
        #: the last outlook of each card, and what it was made of: it takes milliseconds, and many may ask
        self._outlooks: dict[str, tuple[object, GpuTrend]] = {}

    async def handle(self, event: Event, context: Context) -> Decisions | None:
        """Remember a sample of our host, or what was said of a card of it.

        :raises MalformedEntry: when it is neither.
        """
        if not context.replaying:
            self._now_s = context.wall_s
        if event.type == _SAMPLED:
            sample = sample_of(event)
            if sample.host == context.host:
                try:
                    self._past.observe(sample)
                except ValueError as error:
                    raise MalformedEntry(f"time of a sample: {error}") from error
        elif event.type == _STATE_CHANGED:
            if event.source.partition("/")[0] == context.host:
                self._past.state_changed(event.decode(StateChanged))
        else:
            directive = event.decode(Directive)
            if directive.host == context.host and directive.target.startswith("gpu"):
                self._past.directed(directive)
        return None

    def tick(self, context: Context) -> Decisions | None:
        """Know the time even when nothing arrives."""
        self._now_s = context.wall_s
        return None

    def missed(self, stream: Stream, context: Context) -> Decisions | None:
        """Samples were lost: no rate is taken across."""
        if stream == "samples":
            self._past.lose_time()
        return None

    def reconfigure(self, settings: Settings) -> bool:
        """Keep more or less from now on."""
        self._past.resize(settings)
        return True

    def snapshot(self) -> bytes:
        """All that is remembered."""
        return msgspec.msgpack.encode(self._past.pack())

    def restore(self, snapshot: bytes) -> None:
        """Take it up.

        :raises ValueError: when it is of another version or damaged.
        """
        self._past.unpack(read_snapshot(snapshot, Snapshot, policy.VERSION))

    def routes(self) -> Sequence[Route]:
        """What was, and what is coming."""
        return (
            Route(
                method="GET",
                path="/api/gpu/metrics/history",
                summary="Past figures of a card: points a few seconds apart, or by the minute for longer times.",
                answer=MetricsHistory,
                call=self._history,
                query=HistoryQuery,
                problems=_PROBLEMS,
                example=Example(query=HistoryQuery(limit=20)),
            ),
            Route(
                method="GET",
                path="/api/gpu/temperature/trend",
                summary="Whether temperature and VRAM of a card rise or fall, and when they reach the next threshold.",
                answer=GpuTrend,
                call=self._trend,
                query=TrendQuery,
                problems=_PROBLEMS,
                example=Example(query=TrendQuery(duration_minutes=5.0)),
            ),
        )

    def _history(self, asked: Asked) -> MetricsHistory:
        query: HistoryQuery = asked.query
        series, _ = self._asked_for(asked)
        limit = None if query.limit is msgspec.UNSET else query.limit
        return history(series, self._past.settings, query.since_s(self._now_s), limit, self._now_s)

    def _trend(self, asked: Asked) -> GpuTrend:
        query: TrendQuery = asked.query
        series, gpu = self._asked_for(asked)
        sampling_s: float = getattr(asked.settings.get("sampling"), "interval_s", 1.0)
        moment = Moment(self._now_s, query.duration_minutes, asked.settings.get("throttle"), sampling_s)
        made_of = (msgspec.structs.replace(moment, now_s=self._now_s // 1), series.read_s, series.points.last_s())
        known, told = self._outlooks.get(series.card.uuid, (None, None))
        if told is None or known != made_of:
            told = outlook(series, gpu, self._past.settings, moment)
            self._outlooks[series.card.uuid] = made_of, told
        return told

    def _asked_for(self, asked: Asked) -> tuple[Series, Gpu | None]:
        """The series that a query means, and the card where it is still there: what is gone had a past, too.

        :raises Refusal: 404 where nothing is known of such a card, 503 before the past or the first sample is there.
        """
        if not self._now_s:
            raise Refusal(503, "what was remembered is still being read; ask again in a second")
        try:
            gpu = asked.gpu()
        except Refusal:
            series = self._past.find(asked.query.gpu_id)
            if series is None:
                raise
            return series, None
        return self._past.of(gpu, simulated=asked.latest is not None and asked.latest.simulated), gpu
