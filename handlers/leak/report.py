"""A leak as a report: what is known of it, when it will matter, and what to do."""

from handlers.leak import advice, units
from handlers.leak.standing import Leak, Said
from handlers.leak.wording import Wall
from schemas.leak import Exhaustion, Interval, LeakReport, Severity

_HOUR_S = 3600.0


def severity(leak: Leak, known: Exhaustion | None, critical_s: float) -> Severity:
    """info: address space alone · critical: a limit is reached within `critical_s`, as likely as not."""
    if leak.resource == "vms":
        return "info"
    near = known is not None and known.p50_s is not None and known.p50_s < critical_s
    return "critical" if near else "warning"


def report(
    said: Said, leak: Leak, known: Exhaustion | None, wall: Wall, *, critical_s: float, cause: str = ""
) -> LeakReport:
    """`wall` makes Unix time of the sampler's; `cause` is the id of what led to it."""
    verdict, who = leak.verdict, leak.who
    rate = verdict.rate_per_s
    hourly = None if rate is None else Interval(rate.value * _HOUR_S, rate.low * _HOUR_S, rate.high * _HOUR_S)
    before, after = leak.suspicion, leak.confirmation
    latest = after or before
    compared = before if after is not None else None
    return LeakReport(
        detection_time=units.rfc3339(wall(leak.said_s)),
        suspected_objects=advice.objects(leak.resource, compared, latest),
        memory_growth_rate=0.0 if hourly is None else hourly.value,
        stack_trace=(latest.stacks or None) if latest is not None else None,
        severity=severity(leak, known, critical_s),
        stage=said,
        resource=leak.resource,
        leak=who.leak,
        pid=who.pid,
        start_time_s=who.start_time_s,
        process=who.process,
        workload=who.workload,
        gpu=who.gpu,
        since="" if verdict.since_s is None else units.rfc3339(wall(verdict.since_s)),
        level=leak.level,
        rate_per_hour=hourly,
        cause_of_growth=verdict.cause,
        jumps=verdict.jumps,
        forecast=known,
        recommendations=()
        if said == "cleared"
        else advice.recommendations(verdict, compared, latest, of_process=bool(who.pid)),
        evidence=latest,
        reaction=leak.reaction,
        simulated=leak.simulated,
        cause=cause,
    )
