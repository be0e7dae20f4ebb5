"""Says what a trace shows in the words of people; times count from its start."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from handlers.leak.units import amount, estimate, rate
from schemas.leak import Cause, Jump, Resource, Stage, Verdict

MB: Final = 2**20
#: From what matters least.
_STAGES: Final[tuple[Stage, ...]] = ("unknown", "steady", "warming", "suspected", "confirmed")
_HOUR_S: Final = 3600


def gravest(verdicts: Iterable[Verdict]) -> Verdict | None:
    """The verdict that matters most, None where there is none."""
    return max(verdicts, key=lambda verdict: _STAGES.index(verdict.stage), default=None)


def moment(seconds: float) -> str:
    """A time since the start: `12 s`, `3:05`, `1:02:03`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, _HOUR_S)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


def described(verdicts: Mapping[Resource, Verdict]) -> Iterator[str]:
    """One line a resource, and one more for each of its jumps."""
    width = max(map(len, verdicts), default=0)
    for resource, verdict in verdicts.items():
        yield f"{resource:{width}}  {_verdict(verdict)}"
        for jump in verdict.jumps:
            yield f"{'':{width}}  {_jump(jump, resource)}"


def _verdict(verdict: Verdict) -> str:
    parts: list[str] = [verdict.stage]
    if verdict.stage in ("suspected", "confirmed", "warming"):
        if verdict.since_s is not None:
            parts.append(f"since {moment(verdict.since_s)}")
        if verdict.rate_per_s is not None:
            parts.append(f"grows by {rate(verdict.resource, verdict.rate_per_s)}")
        if verdict.cause is not None:
            parts.append(_cause(verdict.cause, verdict.resource))
    if verdict.undecided_until_s is not None:
        parts.append(f"undecided until {moment(verdict.undecided_until_s)}")
    if verdict.reason:
        parts.append(verdict.reason)
    return " · ".join(parts)


def _cause(cause: Cause, resource: Resource) -> str:
    if cause.alike:
        together = " and ".join((cause.driver, *cause.alike))
        told = f"driver unidentifiable ({together} move together)"
        return f"{told}; {cause.tell_apart}" if cause.tell_apart else told
    said = "driven by time alone" if cause.driver == "time" else f"driven by {cause.driver}"
    if cause.per_call is not None:
        said += f": {estimate(resource, cause.per_call)} {_each(cause.driver)}"
    if cause.explained:
        said += f", which explains {cause.explained:.0%}"
    if cause.through:
        said += f"; behind it stands {cause.through}"
    return said


def _each(driver: str) -> str:
    if driver.startswith("calls."):
        return "a call"
    return {"threads": "a thread", "handles": "a handle"}.get(driver, "a unit")


def _jump(jump: Jump, resource: Resource) -> str:
    call = f", at the first call of {jump.first_call.removeprefix('calls.')}" if jump.first_call else ""
    return f"jump of {'+' if jump.amount > 0 else ''}{amount(resource, jump.amount)} at {moment(jump.at_s)}{call}"
