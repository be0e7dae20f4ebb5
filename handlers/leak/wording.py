"""A leak in one sentence, as its events say it."""

from collections.abc import Callable
from typing import Final

from handlers.leak import units
from handlers.leak.measured import Who
from handlers.leak.standing import Leak, Said
from schemas.leak import MEMORY, Cause, Exhaustion, Verdict
from schemas.terminal import printable

_LIMITS: Final = {
    "cgroup": "its cgroup", "gpu": "the card", "host": "the host", "process": "the process's own limit",
}  # fmt: skip
#: Monotonic → Unix time.
Wall = Callable[[float], float]


def subject(who: Who) -> str:
    """`search-docs (pid 812)`, `gpu0`."""
    if not who.pid:
        return who.gpu
    # a process calls itself what it likes, and a terminal obeys some of it
    return f"{_own_name(who.workload) or printable(who.process) or 'a process'} (pid {who.pid})"


def sentence(said: Said, leak: Leak, forecast: Exhaustion | None, wall: Wall, why: str = "") -> str:
    """What an event says; `why` a leak is cleared, where it is not that it has become steady."""
    who, resource, verdict = subject(leak.who), leak.resource, leak.verdict
    mark = "SIMULATED: " if leak.simulated else ""
    name = units.NAMES[resource]
    level = "" if leak.level is None else units.amount(resource, leak.level)
    if said == "cleared":
        steady = f"{level} now, and steady" if level else "steady"
        return f"{mark}{who} no longer leaks {name}: {why or steady}" + (f"; {leak.reaction}" if leak.reaction else "")
    verb = "may leak" if said == "suspected" else "leaks"
    parts = [growth(verdict, wall) + jumps(verdict)]
    if level:
        parts.append(f"{level} now")
    if forecast is not None:
        parts.append(full(forecast))
    if verdict.cause is not None and verdict.cause.tell_apart:
        parts.append(f"to tell what drives it: {verdict.cause.tell_apart}")
    if leak.reaction:
        parts.append(leak.reaction)
    return f"{mark}{who} {verb} {name}: " + "; ".join(part for part in parts if part)


def standing_leak(leak: Leak, wall: Wall) -> str:
    """What the status says of a leak that stands."""
    mark = "SIMULATED: " if leak.simulated else ""
    known = growth(leak.verdict, wall)
    return f"{mark}{subject(leak.who)} leaks {units.NAMES[leak.resource]}: {known}; GET /api/leaks has more"


def growth(verdict: Verdict, wall: Wall) -> str:
    """How much, through what, and since when."""
    resource, cause = verdict.resource, verdict.cause
    since = "" if verdict.since_s is None else f" since {units.clock(wall(verdict.since_s))}"
    per_time = "" if verdict.rate_per_s is None else units.rate(resource, verdict.rate_per_s)
    if cause is None or cause.driver == "time":
        alone = "" if cause is None else ", with time alone"
        return f"{per_time or 'it grows'}{since}{alone}"
    if cause.per_call is None:
        return f"{per_time or 'it grows'}{since}, with {driver(cause.driver)}{_through(cause)}{_alike(cause)}"
    each = f"{units.estimate(resource, cause.per_call)} {a_driver(cause.driver)}{_through(cause)}{_alike(cause)}"
    return f"{each}{since}" + (f", {per_time}" if per_time and resource in MEMORY else "")


def jumps(verdict: Verdict) -> str:
    """The largest jump: `, after a jump of 34 at the first`; one that fell is none."""
    found = max((jump for jump in verdict.jumps if jump.amount > 0), key=lambda jump: jump.amount, default=None)
    if found is None:
        return ""
    cause = verdict.cause
    if not found.first_call:
        at = ""
    elif cause is not None and found.first_call == cause.driver:
        at = " at the first"
    else:
        at = f" at the first call of {found.first_call.partition('.')[2] or found.first_call}"
    return f", after a jump of {units.amount(verdict.resource, found.amount)}{at}"


def full(forecast: Exhaustion) -> str:
    """`full in about 3 h (2 h to 5 h), by the limit of its cgroup`."""
    limit = _LIMITS[forecast.limit]
    if forecast.p50_s is None:
        if forecast.p10_s is None:
            return "not full within a year"
        return f"full in {units.duration(forecast.p10_s)} at the earliest ({limit})"
    middle = forecast.p50_s
    first = "?" if forecast.p10_s is None else units.duration(forecast.p10_s, middle)
    last = "never" if forecast.p90_s is None else units.duration(forecast.p90_s, middle)
    return f"full in about {units.duration(middle)} ({first} to {last}; {limit})"


def driver(name: str) -> str:
    """`calls of add_sections`, `the gauge queue`, `threads`, `time`."""
    kind, _, rest = name.partition(".")
    if kind == "calls" and rest:
        return f"calls of {rest}"
    return f"the gauge {rest}" if kind == "gauge" and rest else name


def a_driver(name: str) -> str:
    """`a call of add_sections`, `a unit of queue`, `a thread`, `a handle`."""
    kind, _, rest = name.partition(".")
    if kind == "calls" and rest:
        return f"a call of {rest}"
    if kind == "gauge" and rest:
        return f"a unit of {rest}"
    return f"a {name.removesuffix('s')}"


def _through(cause: Cause) -> str:
    return f" (they grow with {driver(cause.through)})" if cause.through else ""


def _alike(cause: Cause) -> str:
    if not cause.alike:
        return ""
    return f", or of {' or '.join(driver(one) for one in cause.alike)}, which move together with it"


def _own_name(workload: str) -> str:
    """A name that begins with `@` is a reservation's, and no workload's."""
    return "" if workload.startswith("@") else workload
