"""Three programs that leak and four that only look so, live, through the daemon with its default settings.

`python -m tests.shows.leaks` runs all seven for under four minutes, and then one of them again with a daemon that is
killed half-way to its finding. It prints the events with what they rest on beside the truth, and ends with 1 if a leak
was not confirmed, its driver is wrong, or a program that does not leak is said to.
"""

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import Final, NamedTuple

import msgspec

from handlers.leak.routes import Leaks
from schemas.envelope import Event
from schemas.leak import Evidence, LeakReport, Resource
from supervisor.bus.keys import events_key
from tests.api.client import Client
from tests.daemon import ROOT, Daemon, short_directory
from tests.mocknvml.build import build_library
from tests.mocknvml.control import MockNvml
from tests.shows.leaking.backend import backend

WHOLE_S: Final = 225.0
LOOK_EVERY_S: Final = 2.0
MIB: Final = 2**20
Tell = Callable[[str], None]


class Cast(NamedTuple):
    """A program of `tests/shows/leaking`, what it leaks, and which drivers are right for what."""

    name: str
    resource: Resource | None = None
    #: of the resource, and of others that leak with it
    drivers: dict[str, tuple[str, ...]] = {}  # noqa: RUF012 - never changed
    calm_s: float = 60.0


LEAKING: Final = (
    Cast("threads", "threads", {"threads": ("calls.index",), "rss": ("threads", "calls.index")}),
    Cast("sockets", "handles", {"handles": ("calls.errors",), "rss": ("handles", "calls.errors")}),
    Cast("cache", "rss", {"rss": ("calls.lookup",)}),
)
GOOD: Final = (Cast("warmup"), Cast("bounded"), Cast("sawtooth"), Cast("batch"))


def config(port: int) -> str:
    """The status page of the cache is all that is declared; the rest are the defaults."""
    return (
        '[[workload]]\nname = "cache"\nmatch.cmdline = "tests.shows.leaking.cache"\n[[workload.counters]]\n'
        f'kind = "json"\nurl = "http://127.0.0.1:{port}/status"\ncounts.lookup = "served.lookup"\n'
    )


class Actor:
    """A program that runs, what was said of it, and the truth that it told."""

    def __init__(self, cast: Cast, daemon: Daemon, port: int, seed: int = 1) -> None:
        self.cast = cast
        words = [
            sys.executable, "-m", f"tests.shows.leaking.{cast.name}", cast.name, "--calm", str(cast.calm_s),
            "--seed", str(seed), "--port", str(port),
        ]  # fmt: skip
        self.began_s = time.time()
        self._process = subprocess.Popen(
            words, cwd=ROOT, env=daemon.workload_environ, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.truth: dict[str, float] = {}
        self.said: list[tuple[float, str, Event, LeakReport]] = []
        #: seconds since the begin, and what the API said of what is undecided, whenever that changed
        self.undecided: list[tuple[float, str]] = []
        self._reader = threading.Thread(target=self._read, name=f"output of {cast.name}")
        self._reader.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def zero_s(self) -> float:
        """Unix time of the switch-on, or else of the begin."""
        return self.truth.get("on", self.began_s)

    def confirmed_s(self, resource: str) -> float | None:
        """From the switch-on to the confirmation."""
        return next((at for at, stage, _, one in self.said if (stage, one.resource) == ("confirmed", resource)), None)

    def hear(self, event: Event) -> None:
        """An event about it."""
        stage = event.type.rpartition(".")[2]
        self.said.append((_unix(event) - self.zero_s, stage, event, event.decode(LeakReport)))

    def look(self, leaks: Leaks) -> None:
        """What the API says of it."""
        rows = [growth for one in leaks.subjects if one.pid == self.pid for growth in one.growths]
        texts = [
            f"{row.verdict.resource} {row.verdict.stage}: {row.verdict.reason}"
            for row in sorted(rows, key=lambda row: row.verdict.resource)
        ]
        text = "; ".join(texts) or "steady"
        if row := next((row for row in rows if row.undecided_until), None):
            text += f" (undecided until {row.undecided_until[11:19]})"
        if not self.undecided or _without_time(self.undecided[-1][1]) != _without_time(text):
            self.undecided.append((time.time() - self.began_s, text))

    def end(self) -> None:
        """End its stdin, and wait for the truth."""
        assert self._process.stdin is not None, "it is a pipe"
        self._process.stdin.close()
        try:
            self._process.wait(20)
        finally:
            self._process.kill()
            self._process.wait()
            self._reader.join()

    def _read(self) -> None:
        assert self._process.stdout is not None, "it is a pipe"
        with self._process.stdout as lines:
            for line in lines:
                self.truth |= json.loads(line)


def play(daemon: Daemon, actors: Sequence[Actor], until: Callable[[], bool], tell: Tell) -> Leaks | None:
    """Listen until it is enough; returns what the API said last."""
    seen, last = "-", None
    while not until():
        time.sleep(LOOK_EVERY_S)
        for entry in daemon.entries(events_key(), after=seen):
            seen = entry.id
            if not entry.event.type.startswith("flyball.leak."):
                continue
            report = entry.event.decode(LeakReport)
            for actor in actors:
                if actor.pid == report.pid:
                    actor.hear(entry.event)
                    at_s = actor.said[-1][0]
                    what = "switch-on" if "on" in actor.truth else "begin"
                    tell(f"{actor.cast.name}, {at_s:.0f} s after its {what}: {entry.event.text}")
        answer = Client(daemon).get("/api/leaks")
        if answer.status == 200:
            last = msgspec.json.decode(answer.body, type=Leaks)
            for actor in actors:
                actor.look(last)
    return last


def judge_leaking(actor: Actor, leaks: Leaks, tell: Tell) -> list[str]:
    """What was found, beside the truth; returns what is otherwise than it must be."""
    cast, problems = actor.cast, []
    calls, leaked = actor.truth.get("calls", 0.0), actor.truth.get("leaked", 0.0)
    if not calls:
        return [f"{cast.name}: it never leaked: {actor.truth}"]
    assert cast.resource is not None, "it leaks something"
    tell(f"== {cast.name}: leaks {_amount(cast.resource, leaked / calls)} a call of {cast.drivers[cast.resource][0]}")
    if early := [one.resource for at, stage, _, one in actor.said if at < 0 and stage == "confirmed"]:
        problems.append(f"{cast.name}: {early} confirmed before anything leaked")
    for resource in dict.fromkeys(one.resource for _, _, _, one in actor.said):
        times = {stage: at for at, stage, _, one in reversed(actor.said) if one.resource == resource}
        tell(f"  {resource}: " + ", ".join(f"{stage} after {at:.0f} s" for stage, at in times.items()))
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
        if cause.per_call is not None:
            each = cause.per_call
            low, value, high = (_amount(leak.resource, one) for one in (each.low, each.value, each.high))
            line += f", {value} a call ({low} to {high})"
            if leak.resource == cast.resource:
                line += f"; off by {abs(each.value * calls / leaked - 1):.1%}"
                line += "" if each.low <= leaked / calls <= each.high else ", and the truth is not in the interval"
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
    stages = [(stage, one.resource) for _, stage, _, one in actor.said]
    problems = [f"{name}: {resource} was said to leak" for stage, resource in stages if stage == "confirmed"]
    standing = {leak.resource for leak in leaks.leaks if leak.pid == actor.pid and leak.stage == "suspected"}
    problems += [f"{name}: {resource} is still suspected" for resource in sorted(standing)]
    cleared = sum(stage == "cleared" for stage, _ in stages)
    if cleared:
        tell(f"  {cleared} cleared")
    return cleared, problems


def again(cast: Cast, environ: dict[str, str], needed_s: float | None, tell: Tell) -> float:
    """The program alone, with a daemon that is killed half-way to what it needed; from the switch-on to confirmed."""
    port = _free_port()
    with short_directory() as state, Daemon(state, config(port), environ=environ) as daemon, ExitStack() as stack:
        actor = Actor(cast, daemon, port)
        stack.callback(actor.end)
        done_s = time.monotonic() + WHOLE_S
        if needed_s is not None:
            time.sleep(cast.calm_s + needed_s / 2)
            daemon.kill()
            killed_s = time.monotonic()
            daemon.output.clear()  # so that the address of the next start is found
            daemon.start()
            tell(f"{cast.name}: the daemon was killed, and away for {time.monotonic() - killed_s:.1f} s")
        assert cast.resource is not None, "it leaks something"
        resource = cast.resource

        def enough() -> bool:
            return actor.confirmed_s(resource) is not None or time.monotonic() > done_s

        play(daemon, [actor], enough, lambda _: None)
        found_s = actor.confirmed_s(resource)
        assert found_s is not None, f"{cast.name}: not confirmed"
        return found_s


def everybody(environ: dict[str, str], tell: Tell) -> list[str]:
    """All seven at once; returns what is otherwise than it must be."""
    port, problems, suspicions = _free_port(), [], 0
    with short_directory() as state, backend() as server, Daemon(state, config(port), environ=environ) as daemon:
        with casts(daemon, port, server) as actors:
            begun_s = time.monotonic()
            leaks = play(daemon, actors, lambda: time.monotonic() - begun_s > WHOLE_S, tell)
        assert leaks is not None, "the API said nothing"
        for actor in actors:
            if actor.cast in LEAKING:
                problems += judge_leaking(actor, leaks, tell)
            else:
                cleared, found = judge_good(actor, leaks, tell)
                suspicions, problems = suspicions + cleared, problems + found
    tell(f"suspicions of good programs that were cleared: {suspicions}")
    return problems


@contextmanager
def casts(daemon: Daemon, port: int, server: int) -> Iterator[list[Actor]]:
    """Everybody, running; they are ended, and have told the truth, when it is left."""
    actors: list[Actor] = []
    try:
        for cast in (*LEAKING, *GOOD):
            actors.append(Actor(cast, daemon, server if cast.name == "sockets" else port))
        yield actors
    finally:
        for actor in actors:
            actor.end()


def _unix(event: Event) -> float:
    return datetime.fromisoformat(event.time).timestamp()


def _without_time(text: str) -> str:
    return text.partition(" (undecided")[0]


def _amount(resource: str, value: float) -> str:
    return f"{value / 1024:.2f} kB" if resource in ("rss", "vms") else f"{value:.3f}"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def main() -> int:
    """The whole show."""
    started_s = time.monotonic()

    def tell(line: str) -> None:
        print(f"{time.monotonic() - started_s:6.1f} s  {line}", flush=True)

    with short_directory() as state:
        state.mkdir(mode=0o700)
        with MockNvml(state / "nvml", library=build_library()) as mock:
            environ = mock.environment()
            problems = everybody(environ, tell)
            try:
                whole_s = again(LEAKING[2], environ, None, tell)
                tell(f"cache alone: confirmed {whole_s:.1f} s after the switch-on")
                broken_s = again(LEAKING[2], environ, whole_s, tell)
                tell(f"cache, with a daemon killed half-way: {broken_s:.1f} s, {broken_s - whole_s:+.1f} s")
            except AssertionError as error:
                problems.append(str(error))
    for problem in problems:
        tell(f"FAILED: {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
