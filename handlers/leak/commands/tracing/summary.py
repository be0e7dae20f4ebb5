"""What is said at the end of a trace: how the process ended, the verdict on each resource, and what to do next."""

from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from handlers.leak.commands.tracing.csvfile import TraceFile
from handlers.leak.commands.tracing.ending import Ending
from handlers.leak.commands.tracing.session import Result
from handlers.leak.commands.tracing.wording import described, gravest, moment
from schemas.leak import RESOURCES, Stage, Verdict

_SCHEMA_VERSION: Final = 1


class Summary(Struct, frozen=True, kw_only=True):
    """`flyball trace --json`; times are seconds since the start of the trace, memory is in bytes."""

    schema_version: int = _SCHEMA_VERSION
    pid: int
    #: since boot
    start_time_s: float
    name: str
    #: empty: standard output
    file: str
    rows: int
    lasted_s: float
    interval_s: float
    most_children: int
    ending: Ending
    #: the gravest of all
    stage: Stage
    verdicts: tuple[Verdict, ...]
    #: what is wrong with the file; empty: nothing
    trouble: str


def summary(result: Result, file: TraceFile, interval_s: float) -> Summary:
    """The end of a trace for programs."""
    verdicts = tuple(result.verdicts[resource] for resource in RESOURCES if resource in result.verdicts)
    worst = gravest(verdicts)
    return Summary(
        pid=result.pid,
        start_time_s=result.start_time_s,
        name=result.name,
        file="" if file.path is None else str(file.path),
        rows=file.rows,
        lasted_s=round(result.seen.lasted_s, 3),
        interval_s=interval_s,
        most_children=result.seen.most_children,
        ending=result.ending,
        stage="unknown" if worst is None else worst.stage,
        verdicts=verdicts,
        trouble=file.trouble,
    )


def text(found: Summary, shown: str) -> Iterator[str]:
    """The end of a trace for people; `shown` is what they call the file."""
    if not found.lasted_s and not found.rows:
        yield f"{shown} is not written: the process {found.ending.text} before the first look."
        return
    rows = "1 row" if found.rows == 1 else f"{found.rows} rows"
    children = {0: "", 1: " and 1 child"}.get(found.most_children, f" and up to {found.most_children} children")
    who = f"{found.name or 'the command'} ({found.pid}){children}"
    yield f"{who}: {rows} in {moment(found.lasted_s)} in {shown}; the process {found.ending.text}."
    if found.trouble and found.file:
        yield f"{found.trouble}."
    if not found.verdicts:
        yield "verdict unknown: too little was seen."
    yield from described({verdict.resource: verdict for verdict in found.verdicts})
    if found.file and found.rows:
        yield f"Next: flyball correlate {found.file}"
