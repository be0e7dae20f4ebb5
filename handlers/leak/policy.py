"""Decides online, in bounded memory, whether a resource of a process or card leaks, and what drives it.

One `Subject` is one process (pid, start time) or one card. It is fed one observation at a time and keeps blocks of
them, not the observations: of the last quarter of an hour, of the last hours, and of its whole life.
"""

import math
from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Struct, field

from handlers.leak.blocks import CALLS, GAUGE, LARGEST, Grid, PackedGrid
from handlers.leak.causes import COUNTED, cause_beside, cause_of, first_calls, jumps_of
from handlers.leak.judgement import BEYOND, Judgement, judge
from handlers.leak.lines import interval, likeness, line
from handlers.leak.series import Series, level
from handlers.leak.settings import Settings
from handlers.leak.signs import Signs, read
from schemas.leak import Resource, Stage, Verdict
from schemas.workload import MOST_WATCHED

VERSION: Final = 2
MIB: Final = 2**20
#: Observations a block has at most, of each grid but the last, which never forgets: with 64 blocks and one observation
#: a second 17 min, 5 h, and the whole life. A longer grid begins when the one before it would forget.
_BLOCKS: Final = (16, 256, 0)
#: Blocks before the first look, and between two looks.
_FEWEST: Final = 16
_EVERY: Final = 2
#: Subjects that began together, as all do when the supervisor starts, must not all be looked at in one tick: when a
#: block is full, each waits for as many observations as what was first measured of it says; so a replay waits as long.
_PHASES: Final = 16
_PAGE: Final = 4096
#: What threads and handles do explains what memory does, so they come first.
_ORDER: Final[tuple[Resource, ...]] = ("threads", "handles", "rss", "vram", "vms")
#: The least growth that matters: in itself, and as a share of the level.
FLOORS: Final[Mapping[Resource, tuple[float, float]]] = {
    "threads": (5, 0.05), "handles": (6, 0.05), "rss": (2 * MIB, 0.01), "vram": (16 * MIB, 0.001),
    "vms": (64 * MIB, 0.02),
}  # fmt: skip
#: Threads and handles that grow beside memory that leaks are part of it where they are so much alike.
_BESIDE: Final = 0.9
_STILL_BESIDE: Final = 0.8
_TOGETHER: Final = "it grows together with memory that leaks"
#: What is given back of a growth that was confirmed clears it; so does a level that stays for as long as it grew.
_GIVEN_BACK: Final = 0.7
_STAYED: Final = 64
#: A level that falls by so much while all counters begin anew is a program that began anew.
_FRESH: Final = 0.1


class _Standing(Struct):
    """What stands about one resource between looks."""

    verdict: Verdict
    #: looks in a row that found a leak, less those that did not, on each grid
    found: list[int] = field(default_factory=lambda: [0] * len(_BLOCKS))
    #: of a leak: level and time of its begin, highest level since, and when that was reached
    begin: float = 0.0
    begin_s: float = 0.0
    peak: float = 0.0
    peak_s: float = 0.0
    #: how far back one has to look for the lowest level: over a tooth of a saw-tooth
    reach_s: float = 0.0


class _Packed(Struct, frozen=True):
    version: int
    last_s: float
    grids: list[PackedGrid]
    counted: dict[str, float]
    offsets: dict[str, float]
    latest: dict[str, float]
    due: list[int]
    phase: int
    standing: dict[Resource, _Standing]


class Subject:
    """What is known of one process or card.

    Units: memory in bytes, threads and handles as counts, times in seconds of one monotonic clock.
    """

    __slots__ = (
        "_counted", "_due", "_grids", "_last_s", "_latest", "_offsets", "_phase", "_standing", "settings",
    )  # fmt: skip

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._last_s = -math.inf
        self._begin()
        self._standing: dict[Resource, _Standing] = {}

    def _begin(self) -> None:
        """Know nothing but what stands."""
        self._grids = [Grid(_BLOCKS[0])]
        #: observations until the next look at each grid, 0: none is due
        self._due = [0] * len(_BLOCKS)
        self._phase = 0
        #: each counter as it was last told, and what it had counted before it began anew
        self._counted: dict[str, float] = {}
        self._offsets: dict[str, float] = {}
        self._latest: Mapping[str, float] = {}

    @property
    def verdicts(self) -> dict[Resource, Verdict]:
        """The latest verdict on each resource that was ever looked at."""
        return {resource: standing.verdict for resource, standing in self._standing.items()}

    def observe(
        self, t_s: float, levels: Mapping[Resource, float], counts: Mapping[str, float], gauges: Mapping[str, float]
    ) -> tuple[Verdict, ...]:
        """Take in what was measured at one moment; what was not is left out.

        `counts` are cumulative and fall only when the program starts anew; `gauges` are levels. Times must grow: an
        observation that is not later than the one before is ignored. Returns the verdicts whose stage has changed.
        """
        if not t_s > self._last_s or not math.isfinite(t_s):
            return ()
        self._last_s = t_s
        values: dict[str, float] = {resource: level for resource, level in levels.items() if 0 <= level <= LARGEST}
        if counts:
            self._count({name: float(count) for name, count in counts.items() if 0 <= count <= LARGEST}, values)
            for name, count in self._counted.items():
                if name in counts:
                    values[CALLS + name] = min(LARGEST, count + self._offsets.get(name, 0.0))
        for name, gauge in gauges.items():
            if -LARGEST <= gauge <= LARGEST:
                values[GAUGE + name] = gauge
        if not self._latest:
            self._phase = int(sum(values.values()) // _PAGE) % _PHASES
        self._latest = values
        grids = self._grids
        if grids[-1].forgets:
            grids.append(grids[-1].longer(_BLOCKS[len(grids)]))
        changed: list[Verdict] = []
        for rank, grid in enumerate(grids):
            if grid.add(t_s, values):
                blocks = len(grid.times)
                if blocks >= _FEWEST and blocks % _EVERY == 0:
                    self._due[rank] = self._phase % grid.size + 1
            if self._due[rank]:
                self._due[rank] -= 1
                if not self._due[rank]:
                    self._look(rank, t_s, changed)
        return tuple(changed)

    def interrupt(self) -> None:
        """Time was lost before the next observation (suspend, a gap in the stream): no rate is taken across."""
        for grid in self._grids:
            grid.interrupt()

    def pack(self) -> bytes:
        """All that is known, for a snapshot."""
        return msgspec.msgpack.encode(
            _Packed(
                VERSION, self._last_s, [grid.pack() for grid in self._grids], self._counted, self._offsets,
                dict(self._latest), self._due, self._phase, self._standing,
            )
        )  # fmt: skip

    @classmethod
    def unpack(cls, packed: bytes, settings: Settings) -> "Subject":
        """Take up what `pack` gave.

        :raises ValueError: it is damaged, or of another version.
        """
        try:
            state = msgspec.msgpack.decode(packed, type=_Packed)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(f"not a subject: {error}") from error
        if state.version != VERSION:
            raise ValueError(f"the subject has version {state.version}, not {VERSION}")
        if [grid.most for grid in state.grids] not in [list(_BLOCKS[:count]) for count in range(1, len(_BLOCKS) + 1)]:
            raise ValueError("the subject has grids that none has")
        lengths = {len(state.due), *(len(standing.found) for standing in state.standing.values())}
        if lengths != {len(_BLOCKS)} or not -math.inf <= state.last_s < math.inf:
            raise ValueError("what the subject knows does not fit its grids")
        subject = cls(settings)
        subject._last_s, subject._grids = state.last_s, [Grid.unpack(grid) for grid in state.grids]
        subject._counted, subject._offsets = state.counted, state.offsets
        subject._latest, subject._standing = state.latest, state.standing
        subject._due, subject._phase = state.due, state.phase
        return subject

    def _count(self, counts: Mapping[str, float], levels: Mapping[str, float]) -> None:
        """Counters that fall begin anew: with the whole program, or alone, and then they go on from where they were."""
        fallen = [name for name, count in counts.items() if count < self._counted.get(name, 0.0)]
        if fallen:
            anew = all(name in fallen or not self._counted.get(name) for name in counts)
            before = {resource: self._latest[resource] for resource in _ORDER if resource in self._latest}
            dropped = any(levels.get(resource, was) < was * (1 - _FRESH) for resource, was in before.items())
            if anew and (dropped or not before):
                self._begin()
            else:
                for name in fallen:
                    self._offsets[name] = self._offsets.get(name, 0.0) + self._counted[name]
        for name, count in counts.items():
            if name in self._counted or len(self._counted) < MOST_WATCHED:
                self._counted[name] = count

    def _look(self, rank: int, t_s: float, changed: list[Verdict]) -> None:
        """Look at every resource on one grid; `changed` gets the verdicts whose stage did."""
        for resource in _ORDER:
            if resource not in self._grids[rank].columns:
                continue
            standing = self._standing.get(resource)
            if standing is None:
                standing = self._standing[resource] = _Standing(Verdict(resource=resource, stage="unknown", at_s=t_s))
            before = standing.verdict.stage
            self._examine(rank, resource, standing, t_s)
            if before == "confirmed":
                self._clear(resource, standing, t_s)
            if standing.verdict.stage != before:
                changed.append(standing.verdict)
            if resource == "rss":
                self._join(self._grids[rank], changed, t_s)

    def _examine(self, rank: int, resource: Resource, standing: _Standing, t_s: float) -> None:
        grid, floor = self._grids[rank], self._floor(resource)
        series = level(grid, resource, floor, _FEWEST)
        signs = None
        if series is not None:
            signs = read(grid, resource, series, grid.observed, floor, clocks=resource != "vms")
        if series is None or signs is None:
            standing.found[rank] = max(0, standing.found[rank] - 1)
            if standing.verdict.stage != "confirmed" and not any(standing.found):
                self._settle(rank, standing, Verdict(resource=resource, stage="steady", at_s=t_s, reason="no growth"))
            return
        judgement = judge(resource, signs, self.settings, threads_leak=self._leaks("threads"))
        if (
            judgement.leak
            and rank < len(self._grids) - 1
            and not self._is_news(rank, resource, series, signs, judgement)
        ):
            judgement = Judgement(False, "as much was seen before", missing=signs.samples)
        standing.found[rank] = standing.found[rank] + 1 if judgement.leak else max(0, standing.found[rank] - 1)
        self._weigh(rank, resource, standing, series, signs, judgement, t_s)

    def _weigh(
        self, rank: int, resource: Resource, standing: _Standing, series: Series, signs: Signs, judgement: Judgement,
        t_s: float,
    ) -> None:  # fmt: skip
        """Let a judgement change what stands; whether a leak is over is decided by what is given back alone."""
        known = standing.verdict.stage == "confirmed"
        if known and not judgement.leak:
            return
        stage: Stage = "suspected" if any(standing.found) else "warming"
        if known or standing.found[rank] >= self.settings.looks - judgement.clear:
            stage = "confirmed"
        leak = stage != "warming"
        if leak and not judgement.leak:
            return
        if stage == "confirmed" and not known:
            standing.begin, standing.begin_s = series.lows[signs.first], series.times[signs.first]
            standing.peak, standing.peak_s = series.lows[-1], t_s
            standing.reach_s = 0.0
            if judgement.way == "troughs" and signs.teeth is not None:
                at = signs.teeth.points
                standing.begin, standing.peak = series.lows[at[0]], series.lows[at[-1]]
                standing.reach_s = 2 * (series.times[at[-1]] - series.times[at[0]]) / (len(at) - 1)
        grid = self._grids[rank]
        verdict = Verdict(
            resource=resource, stage=stage, at_s=t_s, since_s=series.times[signs.first],
            rate_per_s=signs.rate,
            cause=cause_of(grid, resource, series, signs, judgement, self.verdicts) if leak else None,
            jumps=jumps_of(grid, series, signs, self._floor(resource)) if leak else (),
            undecided_until_s=None if leak else t_s + judgement.missing * grid.interval_s, reason=judgement.reason,
        )  # fmt: skip
        if leak:
            standing.verdict = verdict
        else:
            self._settle(rank, standing, verdict)

    def _settle(self, rank: int, standing: _Standing, verdict: Verdict) -> None:
        """What is no leak is said by the grid that reaches back furthest."""
        if rank == len(self._grids) - 1:
            standing.verdict = verdict

    def _is_news(self, rank: int, resource: Resource, series: Series, signs: Signs, judgement: Judgement) -> bool:
        """Whether a growth on a grid that forgets rises above all that was there before, half a day ago, say."""
        before = [
            high
            for grid in self._grids[rank + 1 :]
            for t, high in zip(grid.times, grid.columns[resource].highs, strict=True)
            if t < series.times[signs.first] and high == high
        ]
        above = series.lows[-1] - max(before, default=-math.inf)
        return judgement.way == "calm" and above >= BEYOND * signs.look.amount

    def _join(self, grid: Grid, changed: list[Verdict], t_s: float) -> None:
        """Threads and handles that grow together with memory that is found to leak belong to the same leak."""
        memory = self._standing["rss"].verdict
        if memory.stage != "confirmed" or memory.since_s is None:
            return
        for resource in COUNTED:
            standing = self._standing.get(resource)
            if standing is None or (standing.verdict.stage == "confirmed" and standing.verdict.reason != _TOGETHER):
                continue
            floor = self._floor(resource)
            series = level(grid, resource, floor, _FEWEST) if resource in grid.columns else None
            first = next((i for i, t in enumerate(series.times) if t >= memory.since_s), None) if series else None
            if series is None or first is None:
                continue
            known = standing.verdict.stage == "confirmed"
            values = series.means[first:]
            if values[-1] - values[0] < floor or max(values) > values[-1] + 1:
                continue
            if likeness(values, series.on(grid, "rss")[first:]) < (_STILL_BESIDE if known else _BESIDE):
                continue
            pace = line(series.times[first:], values)
            standing.begin, standing.begin_s = values[0], series.times[first]
            standing.peak, standing.peak_s = values[-1], t_s
            standing.verdict = Verdict(
                resource=resource, stage="confirmed", at_s=t_s, since_s=memory.since_s,
                rate_per_s=interval(series.times[first:], values, pace.slope, pace.error),
                cause=cause_beside(grid, series, first), jumps=first_calls(grid, series, floor), reason=_TOGETHER,
            )  # fmt: skip
            if not known:
                changed.append(standing.verdict)

    def _clear(self, resource: Resource, standing: _Standing, t_s: float) -> None:
        """A leak is over once most of it was given back, or the level has stayed for as long as it had grown."""
        grid = self._grids[0]
        since_s = min(grid.times[-3], t_s - standing.reach_s) if len(grid.times) >= 3 else t_s
        lows = grid.columns[resource].lows
        now = min((low for t, low in zip(grid.times, lows, strict=True) if t >= since_s and low == low), default=None)
        if now is None:
            return
        if now >= standing.peak + self._floor(resource) / 2:
            standing.peak, standing.peak_s = now, t_s
        grown_s = standing.peak_s - standing.begin_s
        if now <= standing.peak - _GIVEN_BACK * (standing.peak - standing.begin):
            reason = "what it had grown by was given back"
        elif t_s - standing.peak_s > max(grown_s, _STAYED * grid.interval_s):
            reason = "it has stayed where it is for as long as it had grown"
        else:
            return
        standing.found = [0] * len(_BLOCKS)
        standing.verdict = Verdict(resource=resource, stage="steady", at_s=t_s, reason=reason)

    def _floor(self, resource: Resource) -> float:
        least, share = FLOORS[resource]
        column = self._grids[0].columns.get(resource)
        return least if column is None else max(least, share * column.latest_low)

    def _leaks(self, resource: Resource) -> bool:
        standing = self._standing.get(resource)
        return standing is not None and standing.verdict.stage in ("suspected", "confirmed")
