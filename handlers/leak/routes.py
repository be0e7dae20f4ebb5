"""The HTTP API of leaks: what stands, and what is still undecided."""

from collections.abc import Callable, Iterable
from typing import Annotated, Final

from msgspec import Meta, Struct

from handlers.leak import units
from handlers.leak.standing import Leak
from handlers.leak.subjects import Watched
from handlers.leak.wording import Wall
from schemas.leak import LeakReport, Stage, Verdict
from schemas.workload import Name, Pid, Seconds
from supervisor.handler import Asked, Example, Refusal, Route

#: Subjects in one answer; those that leak come first.
MOST: Final = 500
#: Leaks in one answer, each with evidence of some 20 kB; what is confirmed comes first.
MOST_LEAKS: Final = 100
_ORDER: Final[dict[Stage, int]] = {"confirmed": 0, "suspected": 1, "warming": 2}


class LeaksQuery(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Whose leaks are meant; without anything, all."""

    workload: Name | None = None
    pid: Annotated[int, Meta(gt=0, le=2**31 - 1)] | None = None


class LeakGrowth(Struct, frozen=True, kw_only=True):
    """A resource that grows, or may; times of the verdict are seconds of the sampler's monotonic clock."""

    verdict: Verdict
    level: float | None = None
    #: RFC 3339: when more will be known, as far as can be said
    undecided_until: str = ""


class LeakSubject(Struct, frozen=True, kw_only=True):
    """A process or card with something to watch."""

    pid: Pid = 0
    start_time_s: Seconds = 0.0
    process: str = ""
    workload: str = ""
    gpu: str = ""
    #: since it was last seen
    age_s: Seconds
    growths: tuple[LeakGrowth, ...]


class Leaks(Struct, frozen=True, kw_only=True):
    """The leaks that stand, and all that is warming up, suspected or confirmed."""

    enabled: bool
    #: processes and cards under watch
    watched: int
    #: processes and cards of the latest sample for which there was no room, see `leak.subjects`
    not_watched: int = 0
    leaks: tuple[LeakReport, ...]
    #: leaks that stand beyond these 100; ask for them by `workload` or `pid`
    leaks_left_out: int = 0
    subjects: tuple[LeakSubject, ...]


def routes(answer: Callable[[LeaksQuery], Leaks | None]) -> tuple[Route, ...]:
    """`answer` knows the leaks; None until the past is read."""

    def call(asked: Asked) -> Leaks:
        leaks = answer(asked.query)
        if leaks is None:
            raise Refusal(503, "nothing has been sampled yet; ask again in a second")
        return leaks

    return (
        Route(
            method="GET", path="/api/leaks", query=LeaksQuery, answer=Leaks, call=call,
            summary="Memory, threads, handles and VRAM that leak, what drives it and what was seen, and what may yet.",
            problems={503: "nothing has been sampled yet"}, example=Example(query=LeaksQuery()),
        ),
    )  # fmt: skip


def subjects(watched: Iterable[Watched], query: LeaksQuery, wall: Wall, now_s: float) -> tuple[LeakSubject, ...]:
    """Those with anything to watch, what is surest first."""
    rows: list[tuple[int, LeakSubject]] = []
    for one in watched:
        growths = [verdict for verdict in one.subject.verdicts.values() if verdict.stage in _ORDER]
        if growths and is_meant(query, one.who.workload, one.who.pid):
            growths.sort(key=lambda verdict: _ORDER[verdict.stage])
            rows.append((_ORDER[growths[0].stage], _row(one, growths, wall, now_s)))
    rows.sort(key=lambda row: row[0])
    return tuple(row for _, row in rows[:MOST])


def surest(leaks: Iterable[Leak]) -> list[Leak]:
    """As many as one answer holds, the confirmed ones first, the latest of each."""
    return sorted(leaks, key=lambda leak: (_ORDER[leak.stage], -leak.said_s))[:MOST_LEAKS]


def is_meant(query: LeaksQuery, workload: str, pid: int) -> bool:
    """Whether the query asks for it."""
    return query.workload in (None, workload) and query.pid in (None, pid)


def _row(watched: Watched, growths: Iterable[Verdict], wall: Wall, now_s: float) -> LeakSubject:
    who = watched.who
    return LeakSubject(
        pid=who.pid, start_time_s=who.start_time_s, process=who.process, workload=who.workload, gpu=who.gpu,
        age_s=round(max(0.0, now_s - watched.seen_s), 3),
        growths=tuple(
            LeakGrowth(
                verdict=verdict, level=watched.levels.get(verdict.resource),
                undecided_until=""
                if verdict.undecided_until_s is None
                else units.rfc3339(wall(verdict.undecided_until_s)),
            )
            for verdict in growths
        ),
    )  # fmt: skip
