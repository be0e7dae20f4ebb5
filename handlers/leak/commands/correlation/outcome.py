"""The verdict on a recording: the daemon's own policy, fed row by row, and put in the words of the thread study."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Final

import numpy as np
from msgspec import Struct

from handlers.leak.commands.correlation import wording
from handlers.leak.commands.correlation.lags import Pair
from handlers.leak.commands.correlation.recording import Recording
from handlers.leak.policy import Subject
from handlers.leak.settings import Settings
from handlers.leak.wording import driver
from schemas.leak import RESOURCES, Jump, Pattern, Resource, Verdict

#: A counter whose level correlates so much with what leaks is said not to be the cause where it is not.
_TEMPTING: Final = 0.8
_MEMORY: Final[tuple[Resource, ...]] = ("rss", "vram")
#: VMS alone is address space, which is not used up by being large.
_COUNTING: Final[tuple[Resource, ...]] = ("rss", "vram", "threads", "handles")


class Outcome(Struct, frozen=True):
    """What the recording comes to."""

    #: None: undecided, or what grows is not memory
    pattern: Pattern | None
    #: the pattern, or what stands in its place, in a few words
    headline: str
    #: what leaks, by how much, and what does not
    sentences: tuple[str, ...]
    #: of every resource measured: the last verdict, or the one that stood before a restart
    verdicts: tuple[Verdict, ...]
    #: every change of stage, in order of time
    history: tuple[Verdict, ...]


def judged(recording: Recording, related: tuple[Pair, ...]) -> Outcome:
    """Feed the policy with the recording, in order, with the daemon's defaults."""
    subject = Subject(Settings())
    history: list[Verdict] = []
    begins = set(recording.restarts)
    for moment, levels, counts, gauges in _observations(recording):
        if moment in begins:
            subject.interrupt()
        history.extend(subject.observe(moment, levels, counts, gauges))
    last = (subject.verdicts.get(key) or _unknown(key) for key in RESOURCES if key in recording.series)
    return outcome(tuple(_standing(verdict, history, recording) for verdict in last), tuple(history), related)


def outcome(verdicts: tuple[Verdict, ...], history: tuple[Verdict, ...], related: tuple[Pair, ...]) -> Outcome:
    """Put verdicts in words; `related` tells which counters look guilty."""
    pattern, headline = _pattern({verdict.resource: verdict for verdict in verdicts})
    sentences = (*(_sentence(verdict) for verdict in verdicts if _worth_saying(verdict)), *_innocent(verdicts, related))
    return Outcome(pattern, headline, sentences, verdicts, history)


def _unknown(resource: Resource) -> Verdict:
    """Of what was measured, but not often enough."""
    return Verdict(resource=resource, stage="unknown", reason="too little was measured")


def _observations(
    recording: Recording,
) -> Iterator[tuple[float, dict[Resource, float], dict[str, float], dict[str, float]]]:
    """What was measured in each row; what was not is left out."""
    keys = list(recording.series)
    for moment, row in zip(recording.times.tolist(), np.column_stack(list(recording.series.values())), strict=True):
        values = {key: value for key, value in zip(keys, row.tolist(), strict=True) if value == value}
        levels: dict[Resource, float] = {key: values[key] for key in RESOURCES if key in values}
        yield moment, levels, _named("calls.", values), _named("gauge.", values)


def _named(prefix: str, values: Mapping[str, float]) -> dict[str, float]:
    return {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}


def _standing(last: Verdict, history: list[Verdict], recording: Recording) -> Verdict:
    """The last verdict; of a program that began anew after a leak was found, the leak."""
    if wording.leaks(last) or not recording.restarts:
        return last
    for before, after in pairwise([verdict for verdict in history if verdict.resource == last.resource]):
        ended = [at for at in recording.restarts if before.at_s < at <= after.at_s]
        if wording.leaks(before) and ended:
            return before
    return last


def _pattern(verdicts: Mapping[Resource, Verdict]) -> tuple[Pattern | None, str]:
    leaking = {key: verdicts[key] for key in _COUNTING if key in verdicts and wording.leaks(verdicts[key])}
    memory = next((leaking[key] for key in _MEMORY if key in leaking), None)
    if memory is not None:
        found = _explained(memory, leaking)
        if found is None:
            return None, f"{wording.title(memory.resource)} leaks; what drives it is not known"
        return found, found if not _ambiguous(memory) else f"{found}, or what moves alike"
    if leaking:
        return None, f"{_listed(leaking)} leak; memory does not grow with them as far as can be seen"
    judged = [verdicts[key] for key in _COUNTING if key in verdicts]
    warming = [verdict.resource for verdict in judged if verdict.stage == "warming"]
    if warming:
        return None, f"undecided: {_listed(warming)} may be warming up"
    if not judged or any(verdict.stage == "unknown" for verdict in judged):
        return None, "unknown: too little was measured to judge"
    return "no leak", "no leak"


def _listed(resources: Iterable[Resource]) -> str:
    *names, last = map(wording.title, resources)
    return f"{', '.join(names)} and {last}" if names else last


def _explained(memory: Verdict, leaking: Mapping[Resource, Verdict]) -> Pattern | None:
    """What explains the growth of memory; None: nobody knows."""
    if memory.cause is None:
        return None
    if memory.cause.driver == "time":
        return "time only"
    drivers = {memory.cause.driver, *memory.cause.alike}
    threads = leaking.get("threads")
    if "threads" in drivers or (threads and threads.cause and threads.cause.driver == memory.cause.driver):
        return "threads explain memory"
    return "requests explain memory"


def _ambiguous(verdict: Verdict) -> bool:
    """Whether the driver is one of several that what was seen cannot tell apart; threads that calls make are not."""
    cause = verdict.cause
    if cause is None:
        return False
    return bool({*cause.alike} - {"threads", "handles", cause.through, cause.driver})


def _worth_saying(verdict: Verdict) -> bool:
    return verdict.stage != "steady" or bool(verdict.jumps)


def _sentence(verdict: Verdict) -> str:
    name = wording.title(verdict.resource)
    name = name[0].upper() + name[1:]
    jumps = "; ".join(wording.jump(verdict.resource, one) for one in _largest_jumps(verdict))
    apart = f" Apart from that, at once: {jumps}." if jumps else ""
    if not wording.leaks(verdict):
        # a recording ends before that, or it would not be undecided any more
        known_s = verdict.undecided_until_s
        until = "" if known_s is None else f"; a recording of {wording.seconds(known_s)} or more would tell"
        what = {"warming": "undecided", "unknown": "unknown"}.get(verdict.stage, "no growth that goes on")
        return f"{name}: {what}{': ' if verdict.reason else ''}{verdict.reason}{until}.{apart}"
    since = f" since {wording.seconds(verdict.since_s)}" if verdict.since_s is not None else ""
    stage = f"{verdict.stage} at {wording.seconds(verdict.at_s)}"
    return f"{name} leak{'s' if name.isupper() else ''} ({stage}){since}: {_by_cause(verdict)}.{apart}"


def _by_cause(verdict: Verdict) -> str:
    cause, speed = verdict.cause, verdict.rate_per_s
    grown = wording.rate(verdict.resource, speed) if speed is not None else "at a rate that is not known"
    if cause is None:
        said = f"{grown}, and what drives it is not known"
    elif cause.driver == "time":
        said = f"{grown}, with nothing but time"
    elif cause.per_call is None:
        said = f"{grown}, driven by {wording.title(cause.driver)}, not in proportion"
    else:
        said = wording.per_driver(verdict.resource, cause)
    if cause is not None and cause.through:
        said += f"; the {cause.driver} come with {'time alone' if cause.through == 'time' else driver(cause.through)}"
    if cause is not None and cause.alike:
        apart = f"; {cause.tell_apart}" if cause.tell_apart else ""
        said += f"; cannot be told from {', '.join(map(wording.title, cause.alike))}{apart}"
    return said


def _largest_jumps(verdict: Verdict) -> list[Jump]:
    return sorted(sorted(verdict.jumps, key=lambda one: -abs(one.amount))[:2], key=lambda one: one.at_s)


def _innocent(verdicts: tuple[Verdict, ...], related: tuple[Pair, ...]) -> Iterator[str]:
    """The counters that move along with what leaks, and are not why."""
    guilty: set[str] = set()
    leaking = [verdict for verdict in verdicts if wording.leaks(verdict) and verdict.cause is not None]
    for verdict in leaking:
        assert verdict.cause is not None
        guilty.update((verdict.cause.driver, verdict.cause.through, *verdict.cause.alike))
    resources = {verdict.resource for verdict in leaking if verdict.resource != "vms"}
    if not any(name.startswith(("calls.", "gauge.")) for name in guilty):
        return
    tempting: dict[str, float] = {}
    for pair in related:
        for mine, other in ((pair.a, pair.b), (pair.b, pair.a)):
            if mine in resources and other.startswith("calls.") and other not in guilty and pair.levels is not None:
                tempting[other] = max(tempting.get(other, 0.0), pair.levels)
    named = [
        f"{wording.title(key)} (levels correlate {r:.2f})" for key, r in sorted(tempting.items()) if r >= _TEMPTING
    ]
    if named:
        yield f"Not {', not '.join(named)}: the growth does not follow {'it' if len(named) == 1 else 'them'}."
