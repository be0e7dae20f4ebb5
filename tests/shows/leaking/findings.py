"""What the daemon said of each program, printed beside the truth, and what of it is otherwise than it must be."""

from collections.abc import Callable

from handlers.leak.routes import Leaks
from schemas.leak import Evidence, LeakReport
from tests.shows.leaking.actor import Actor

Tell = Callable[[str], None]


def judge_leaking(actor: Actor, leaks: Leaks, tell: Tell) -> list[str]:
    """What was found, beside the truth; returns what is otherwise than it must be."""
    cast, problems = actor.cast, []
    calls, leaked = actor.truth.get("calls", 0.0), actor.truth.get("leaked", 0.0)
    if not calls:
        return [f"{cast.name}: it never leaked: {actor.truth}"]
    assert cast.resource is not None, "it leaks something"
    tell(f"== {cast.name}: leaks {_amount(cast.resource, leaked / calls)} a call of {cast.drivers[cast.resource][0]}")
    if early := [one.resource for at, stage, one in actor.said if at < 0 and stage == "confirmed"]:
        problems.append(f"{cast.name}: {early} confirmed before anything leaked")
    for resource in dict.fromkeys(one.resource for _, _, one in actor.said):
        said = {stage: (at, one) for at, stage, one in reversed(actor.said) if one.resource == resource}
        line = ", ".join(f"{stage} after {at:.0f} s" for stage, (at, _) in said.items())
        if resource == cast.resource and "confirmed" in said:
            line += "; then " + _compared(said["confirmed"][1], leaked / calls)
        tell(f"  {resource}: {line}")
    told = [one for one in leaks.leaks if one.pid == actor.pid]
    for leak in told:
        cause = leak.cause_of_growth
        if leak.stage == "confirmed" and leak.resource not in cast.drivers and leak.resource != "vms":
            problems.append(f"{cast.name}: {leak.resource} is confirmed, which does not leak")
        if cause is None:
            continue
        line = f"  {leak.resource} {leak.stage}: driver {cause.driver}"
        if cause.through:
            line += f" through {cause.through}"
        if cause.alike:
            line += f", alike {', '.join(cause.alike)} (to tell apart: {cause.tell_apart})"
        if leak.resource == cast.resource:
            line += f", in the end {_compared(leak, leaked / calls)}"
        tell(line + f"; explains {cause.explained:.0%}")
        right = cast.drivers.get(leak.resource)
        if leak.stage == "confirmed" and right is not None and cause.driver not in right:
            problems.append(f"{cast.name}: the driver of {leak.resource} is {cause.driver}, not {' or '.join(right)}")
        if (known := leak.forecast) is not None:
            tell(f"    forecast ({known.limit}): p10 {known.p10_s} s, p50 {known.p50_s} s, p90 {known.p90_s} s")
    if evidence := next((one.evidence for one in told if one.resource == cast.resource and one.evidence), None):
        tell_evidence(evidence, tell)
    for leak in told:
        if leak.resource == cast.resource:
            tell(f"  suspected objects: {leak.suspected_objects[:3]}")
            tell(f"  recommendations: {leak.recommendations[:3]}")
    if actor.confirmed_s(cast.resource) is None:
        problems.append(f"{cast.name}: the leak of {cast.resource} was not confirmed")
    return problems


def tell_evidence(evidence: Evidence, tell: Tell) -> None:
    """What was seen in the process."""
    for what, counted in (("threads", evidence.threads), ("handles", evidence.handles)):
        tell(f"  evidence, {what}: " + ", ".join(f"{n} × {name}" for name, n in list(counted.items())[:5]))
    for allocated in evidence.allocations[:3]:
        tell(f"  evidence, allocated: {allocated.where}: {allocated.size_bytes} B in {allocated.count} blocks")
    if evidence.objects:
        tell("  evidence, objects: " + ", ".join(f"{one.type} +{one.more}" for one in evidence.objects[:4]))
    stopped = "not at all" if evidence.stopped_s is None else f"{1000 * evidence.stopped_s:.1f} ms"
    tell(f"  evidence took {evidence.took_s:.2f} s; stood still: {stopped}; stacks: {len(evidence.stacks)} characters")
    for missing in evidence.missing:
        tell(f"  evidence missing: {missing}")


def judge_good(actor: Actor, leaks: Leaks, tell: Tell) -> tuple[int, list[str]]:
    """How many suspicions were cleared, and what is otherwise than it must be."""
    name = actor.cast.name
    tell(f"== {name}: does not leak")
    for at_s, text in actor.undecided:
        tell(f"  from {at_s:.0f} s on: {text}")
    stages = [(stage, one.resource) for _, stage, one in actor.said]
    problems = [f"{name}: {resource} was said to leak" for stage, resource in stages if stage == "confirmed"]
    standing = {leak.resource for leak in leaks.leaks if leak.pid == actor.pid and leak.stage == "suspected"}
    problems += [f"{name}: {resource} is still suspected" for resource in sorted(standing)]
    confirmed = {resource for stage, resource in stages if stage == "confirmed"}
    cleared = sum(stage == "cleared" and resource not in confirmed for stage, resource in stages)
    tell(f"  stands in the end: {actor.latest}")
    if cleared:
        tell(f"  suspicions that were cleared: {cleared}")
    return cleared, problems


def _compared(leak: LeakReport, truth: float) -> str:
    each = None if leak.cause_of_growth is None else leak.cause_of_growth.per_call
    if each is None:
        return "no amount a call"
    low, value, high = (_amount(leak.resource, one) for one in (each.low, each.value, each.high))
    inside = "" if each.low <= truth <= each.high else ", and the truth is not in the interval"
    return f"{value} a call ({low} to {high}), off by {abs(each.value / truth - 1):.1%}{inside}"


def _amount(resource: str, value: float) -> str:
    return f"{value / 1024:.2f} kB" if resource in ("rss", "vms") else f"{value:.3f}"
