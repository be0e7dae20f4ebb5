"""Decides online, in bounded memory, whether a resource of a process or card leaks, and what drives it.

One `Subject` is one process (pid, start time) or one card. It is fed one observation at a time and keeps blocks of
them, not the observations.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from msgspec import Struct

from handlers.leak.attribution import explain
from handlers.leak.blocks import Grid, PackedGrid
from handlers.leak.judgement import Judgement, judge
from handlers.leak.lines import likeness, line
from handlers.leak.series import CALLS, GAUGE, Series, level
from handlers.leak.settings import Settings
from handlers.leak.signs import Signs, read
from schemas.leak import Cause, Interval, Jump, Resource, Stage, Verdict

VERSION: Final = 1
MIB: Final = 2**20
#: Blocks before the first look, and between two looks.
_FEWEST: Final = 16
_EVERY: Final = 2
#: The order in which they are looked at: what threads and handles do explains what memory does.
_ORDER: Final[tuple[Resource, ...]] = ("threads", "handles", "rss", "vram", "vms")
#: The least growth that matters: in itself, and as a share of the level.
FLOORS: Final[Mapping[Resource, tuple[float, float]]] = {
    "threads": (5, 0.05), "handles": (6, 0.05), "rss": (2 * MIB, 0.01), "vram": (16 * MIB, 0.01),
    "vms": (64 * MIB, 0.02),
}  # fmt: skip
#: A counter is new where it had not called in so many blocks; a growth began with it where so few lie between.
_NEW: Final = 4
_NEAR: Final = 2
#: Threads and handles that grow beside memory that leaks are part of it where they are so much alike.
_BESIDE: Final = 0.9
_STILL_BESIDE: Final = 0.8
_TOGETHER: Final = "it grows together with memory that leaks"
#: What is given back of a growth that was confirmed clears it; so does a level that stays for as long as it grew.
_GIVEN_BACK: Final = 0.7
#: A level that falls by so much while all counters begin anew is a program that began anew.
_FRESH: Final = 0.1


class _Standing(Struct):
    """What stands about one resource between looks."""

    verdict: Verdict
    #: looks in a row that found a leak, less those that did not
    found: int = 0
    #: of a leak: level and time of its begin, highest level since, and when that was reached
    begin: float = 0.0
    begin_s: float = 0.0
    peak: float = 0.0
    peak_s: float = 0.0


class _Packed(Struct, frozen=True):
    version: int
    last_s: float
    grid: PackedGrid
    counted: dict[str, float]
    offsets: dict[str, float]
    standing: dict[Resource, _Standing]


class Subject:
    """What is known of one process or card.

    Units: memory in bytes, threads and handles as counts, times in seconds of one monotonic clock.
    """

    __slots__ = ("_counted", "_grid", "_last_s", "_latest", "_offsets", "_standing", "settings")

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._last_s = -math.inf
        self._begin()
        self._standing: dict[Resource, _Standing] = {}

    def _begin(self) -> None:
        """Know nothing but what stands."""
        self._grid = Grid()
        #: each counter as it was last told, and what it had counted before it began anew
        self._counted: dict[str, float] = {}
        self._offsets: dict[str, float] = {}
        self._latest: Mapping[Resource, float] = {}

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
        values: dict[str, float] = dict(levels.items())
        if counts:
            self._count(counts, levels)
            for name, count in counts.items():
                values[CALLS + name] = count + self._offsets.get(name, 0.0)
        for name, gauge in gauges.items():
            values[GAUGE + name] = gauge
        self._latest = levels
        if not self._grid.add(t_s, values):
            return ()
        blocks = len(self._grid.times)
        if blocks < _FEWEST or blocks % _EVERY:
            return ()
        return tuple(self._look(t_s))

    def interrupt(self) -> None:
        """Time was lost before the next observation (suspend, a gap in the stream): no rate is taken across."""
        self._grid.interrupt()

    def pack(self) -> bytes:
        """All that is known, for a snapshot."""
        return msgspec.msgpack.encode(
            _Packed(VERSION, self._last_s, self._grid.pack(), self._counted, self._offsets, self._standing)
        )

    @classmethod
    def unpack(cls, packed: bytes, settings: Settings) -> "Subject":
        """Take up what `pack` gave.

        :raises ValueError: it is damaged, or of another version.
        """
        try:
            state = msgspec.msgpack.decode(packed, type=_Packed)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"not a subject: {error}") from error
        if state.version != VERSION:
            raise ValueError(f"the subject has version {state.version}, not {VERSION}")
        subject = cls(settings)
        subject._last_s, subject._grid = state.last_s, Grid.unpack(state.grid)
        subject._counted, subject._offsets, subject._standing = state.counted, state.offsets, state.standing
        return subject

    def _count(self, counts: Mapping[str, float], levels: Mapping[Resource, float]) -> None:
        """Counters that fall begin anew: with the whole program, or alone, and then they go on from where they were."""
        fallen = [name for name, count in counts.items() if count < self._counted.get(name, 0.0)]
        if fallen:
            anew = all(name in fallen or not self._counted.get(name) for name in counts)
            dropped = any(
                levels.get(resource, before) < before * (1 - _FRESH) for resource, before in self._latest.items()
            )
            if anew and (dropped or not self._latest):
                self._begin()
            else:
                for name in fallen:
                    self._offsets[name] = self._offsets.get(name, 0.0) + self._counted[name]
        self._counted.update(counts)

    def _look(self, t_s: float) -> list[Verdict]:
        changed: list[Verdict] = []
        for resource in _ORDER:
            if resource not in self._grid.columns:
                continue
            if (verdict := self._examine(resource, t_s)) is not None:
                changed.append(verdict)
            if resource == "rss":
                self._join(changed, t_s)
        return changed

    def _join(self, changed: list[Verdict], t_s: float) -> None:
        """Threads and handles that grow together with memory that is found to leak belong to the same leak."""
        memory = self._standing["rss"].verdict
        if memory.stage != "confirmed" or memory.since_s is None:
            return
        for resource in ("threads", "handles"):
            standing = self._standing.get(resource)
            if standing is None or (standing.verdict.stage == "confirmed" and standing.verdict.reason != _TOGETHER):
                continue
            beside = level(self._grid, resource, self._floor(resource), _FEWEST)
            if beside is None:
                continue
            first = next((i for i, t in enumerate(beside.times) if t >= memory.since_s), len(beside.times))
            rss, values = beside.on(self._grid, "rss")[first:], beside.means[first:]
            known = standing.verdict.stage == "confirmed"
            if not values or values[-1] - values[0] < self._floor(resource) or max(values) > values[-1] + 1:
                continue
            if likeness(values, rss) < (_STILL_BESIDE if known else _BESIDE):
                continue
            pace = line(beside.times[first:], values)
            candidates: dict[str, Sequence[float]] = {"time": beside.times[first:]}
            for name in self._grid.columns:
                if name.startswith(CALLS) and (on := beside.on(self._grid, name)):
                    candidates[name] = on[first:]
            cause, _ = explain(values, candidates, (), self._began(beside, first))
            margin = 2 * pace.error
            standing.begin, standing.begin_s = values[0], beside.times[first]
            standing.peak, standing.peak_s = values[-1], t_s
            standing.verdict = Verdict(
                resource=resource, stage="confirmed", at_s=t_s, since_s=memory.since_s,
                rate_per_s=Interval(pace.slope, pace.slope - margin, pace.slope + margin), cause=cause,
                jumps=_of_first_calls(beside, self._firsts(beside), self._floor(resource)), reason=_TOGETHER,
            )  # fmt: skip
            if not known:
                changed.append(standing.verdict)

    def _examine(self, resource: Resource, t_s: float) -> Verdict | None:
        """Look at one resource; its verdict where the stage has changed."""
        standing = self._standing.get(resource)
        if standing is None:
            standing = self._standing[resource] = _Standing(Verdict(resource=resource, stage="unknown", at_s=t_s))
        before = standing.verdict.stage
        floor = self._floor(resource)
        series = level(self._grid, resource, floor, _FEWEST)
        signs = (
            read(self._grid, resource, series, self._grid.observed, floor, clocks=resource != "vms")
            if series is not None
            else None
        )
        if series is None or signs is None:
            self._nothing(standing, resource, t_s, "it does not grow" if series else "it stays where it is")
        else:
            self._weigh(standing, resource, series, signs, t_s)
        if before == "confirmed" and standing.verdict.stage == "confirmed":
            self._clear(standing, resource, t_s)
        return standing.verdict if standing.verdict.stage != before else None

    def _floor(self, resource: Resource) -> float:
        least, share = FLOORS[resource]
        lows = self._grid.columns[resource].lows
        latest = next((low for low in reversed(lows) if low == low), 0.0)
        return max(least, share * latest)

    def _weigh(self, standing: _Standing, resource: Resource, series: Series, signs: Signs, t_s: float) -> None:
        judgement = judge(resource, signs, self.settings, threads_leak=self._leaks("threads"))
        standing.found = standing.found + 1 if judgement.leak else max(0, standing.found - 1)
        stage: Stage
        if standing.verdict.stage == "confirmed":
            stage = "confirmed"
            if not judgement.leak:
                return  # it was confirmed; whether it is over is decided by what is given back
        elif standing.found >= self.settings.looks - judgement.clear:
            stage = "confirmed"
        else:
            stage = "suspected" if standing.found else "warming"
        if stage == "confirmed" and standing.verdict.stage != "confirmed":
            standing.begin, standing.begin_s = series.lows[signs.first], series.times[signs.first]
            standing.peak, standing.peak_s = series.lows[-1], t_s
        standing.verdict = self._verdict(resource, stage, series, signs, judgement, t_s)

    def _verdict(
        self, resource: Resource, stage: Stage, series: Series, signs: Signs, judgement: Judgement, t_s: float
    ) -> Verdict:
        leak = stage in ("suspected", "confirmed")
        interval_s = (series.times[-1] - series.times[0]) / max(1, self._grid.observed - self._grid.size)
        rate, margin = signs.pace.slope, 2 * signs.pace.error
        return Verdict(
            resource=resource, stage=stage, at_s=t_s, since_s=series.times[signs.first],
            rate_per_s=Interval(rate, rate - margin, rate + margin) if math.isfinite(margin) else None,
            cause=self._cause(resource, series, signs, judgement) if leak else None,
            jumps=self._jumps(resource, series, signs) if leak else (),
            undecided_until_s=None if leak else t_s + judgement.missing * interval_s,
            reason=judgement.reason,
        )  # fmt: skip

    def _cause(self, resource: Resource, series: Series, signs: Signs, judgement: Judgement) -> Cause:
        points = (
            signs.teeth.points
            if judgement.way == "troughs" and signs.teeth is not None
            else range(signs.first, len(series.times))
        )
        values = series.lows if judgement.way == "troughs" else series.means
        candidates: dict[str, Sequence[float]] = {"time": [series.times[i] for i in points]}
        leaking: list[Resource] = []
        if resource in ("rss", "vms", "vram"):
            leaking = [each for each in ("threads", "handles") if self._leaks(each)]
        names = [name for name in self._grid.columns if name.startswith(CALLS)]
        for name in (*names, *leaking):
            if on := series.on(self._grid, name):
                candidates[name] = [on[i] for i in points]
        cause, next_best = explain([values[i] for i in points], candidates, leaking, self._began(series, signs.first))
        if cause.driver in leaking:
            behind = self._standing[cause.driver].verdict.cause
            through = behind.driver if behind is not None else next_best
            cause = msgspec.structs.replace(cause, through=through)
        return cause

    def _began(self, series: Series, first: int) -> list[str]:
        """Counters that called for the first time about when the growth began, though they were watched before."""
        found = []
        for name in self._grid.columns:
            if name.startswith(CALLS) and (on := series.on(self._grid, name)) and on[0] <= 0:
                called = next((i for i, x in enumerate(on) if x > 0), 0)
                if called >= _NEW and abs(called - first) <= _NEAR:
                    found.append(name)
        return found

    def _jumps(self, resource: Resource, series: Series, signs: Signs) -> tuple[Jump, ...]:
        """Changes of level at once, with the counter that called for the first time then."""
        times, firsts = series.times, self._firsts(series)
        if signs.clock != "time":
            return _of_first_calls(series, firsts, self._floor(resource))
        near_s = 2 * (times[-1] - times[0]) / len(times)
        return tuple(
            Jump(
                at_s=times[place], amount=amount,
                first_call=next((name for name, at_s in firsts.items() if abs(at_s - times[place]) <= near_s), ""),
            )
            for place, amount in signs.look.jumps
        )  # fmt: skip

    def _firsts(self, series: Series) -> dict[str, float]:
        """When each counter that was watched from nought on called for the first time."""
        firsts = {}
        for name in self._grid.columns:
            if name.startswith(CALLS) and (on := series.on(self._grid, name)) and on[0] <= 0:
                firsts[name] = next((series.times[i] for i, x in enumerate(on) if x > 0), math.inf)
        return firsts

    def _leaks(self, resource: Resource) -> bool:
        standing = self._standing.get(resource)
        return standing is not None and standing.verdict.stage in ("suspected", "confirmed")

    def _nothing(self, standing: _Standing, resource: Resource, t_s: float, reason: str) -> None:
        standing.found = max(0, standing.found - 1)
        if standing.verdict.stage == "confirmed":
            return
        stage: Stage = "suspected" if standing.found else "steady"
        if stage == "steady":
            standing.verdict = Verdict(resource=resource, stage=stage, at_s=t_s, reason=reason)

    def _clear(self, standing: _Standing, resource: Resource, t_s: float) -> None:
        """A leak is over once most of it was given back, or the level has stayed for as long as it had grown."""
        lows = [low for low in self._grid.columns[resource].lows[-3:] if low == low]
        now = min(lows, default=standing.peak)
        if now >= standing.peak + self._floor(resource) / 2:
            standing.peak, standing.peak_s = now, t_s
        grown = standing.peak - standing.begin
        if now <= standing.peak - _GIVEN_BACK * grown:
            reason = "what it had grown by was given back"
        elif t_s - standing.peak_s > max(standing.peak_s - standing.begin_s, 64 * self._interval_s()):
            reason = "it has stayed where it is for as long as it had grown"
        else:
            return
        standing.found = 0
        standing.verdict = Verdict(resource=resource, stage="steady", at_s=t_s, reason=reason)

    def _interval_s(self) -> float:
        times = self._grid.times
        return (times[-1] - times[0]) / max(1, self._grid.observed - self._grid.size) if len(times) > 1 else 0.0


def _of_first_calls(series: Series, firsts: Mapping[str, float], least: float) -> tuple[Jump, ...]:
    """How the level rose within the blocks around each first call, where it did by at least so much."""
    jumps = []
    for name, at_s in firsts.items():
        place = next((i for i, t in enumerate(series.times) if t >= at_s), 0)
        if 0 < place < len(series.times) - 1:
            amount = series.lows[place + 1] - series.lows[place - 1]
            if amount >= least:
                jumps.append(Jump(at_s=at_s, amount=amount, first_call=name))
    return tuple(jumps)
