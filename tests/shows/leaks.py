"""Three programs that leak and others that only look so, live, through the daemon with its default settings.

`python -m tests.shows.leaks [SEED]` runs all at once for under four minutes. Batches come of 25 s, and one of 70 s
twice: one tells how long it is, one does not, and can then not be told from a leak until it is freed. Then a leaking
one runs again with a daemon that is killed half-way to its finding. It prints the events with what they rest on beside
the truth, and ends with 1 if a leak was not confirmed, its driver is wrong, or a program that does not leak is said to.
"""

import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final

import msgspec

from handlers.leak.routes import Leaks
from schemas.leak import LeakReport
from supervisor.bus.keys import events_key
from tests.api.client import Client
from tests.daemon import Daemon, short_directory
from tests.mocknvml.build import build_library
from tests.mocknvml.control import MockNvml
from tests.shows.leaking.actor import Actor, Cast
from tests.shows.leaking.backend import backend
from tests.shows.leaking.findings import Tell, judge_good, judge_leaking

WHOLE_S: Final = 230.0
LOOK_EVERY_S: Final = 2.0
#: What a restart of the daemon may cost: a block of the age that the program has, as looks fall, and the time away.
LATER_S: Final = 10.0

LEAKING: Final = (
    Cast("threads", "threads", {"threads": ("calls.index",), "rss": ("threads", "calls.index")}),
    Cast("sockets", "handles", {"handles": ("calls.errors",), "rss": ("handles", "calls.errors")}),
    Cast("cache", "rss", {"rss": ("calls.lookup",)}),
)
GOOD: Final = (
    Cast("warmup"), Cast("bounded"), Cast("sawtooth"), Cast("batches"), Cast("batch"),
    Cast("batch-told", more=("--tells",)),
)  # fmt: skip


def config(port: int) -> str:
    """The status page of the cache is all that is declared; the rest are the defaults."""
    return (
        '[[workload]]\nname = "cache"\nmatch.cmdline = "tests.shows.leaking.cache"\n[[workload.counters]]\n'
        f'kind = "json"\nurl = "http://127.0.0.1:{port}/status"\ncounts.lookup = "served.lookup"\n'
    )


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


def again(cast: Cast, environ: dict[str, str], seed: int, needed_s: float | None, tell: Tell) -> float:
    """The program alone, with a daemon that is killed half-way to what it needed; from the switch-on to confirmed."""
    port = _free_port()
    with short_directory() as state, Daemon(state, config(port), environ=environ) as daemon, ExitStack() as stack:
        actor = Actor(cast, daemon, port, seed)
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


def everybody(environ: dict[str, str], seed: int, tell: Tell) -> list[str]:
    """All of them at once; returns what is otherwise than it must be."""
    port, problems, suspicions = _free_port(), [], 0
    with short_directory() as state, backend() as server, Daemon(state, config(port), environ=environ) as daemon:
        with casts(daemon, port, server, seed) as actors:
            begun_s = time.monotonic()
            leaks = play(daemon, actors, lambda: time.monotonic() - begun_s > WHOLE_S, tell)
        assert leaks is not None, "the API said nothing"
        for actor in actors:
            if actor.cast in LEAKING:
                problems += judge_leaking(actor, leaks, tell)
            else:
                cleared, found = judge_good(actor, leaks, tell)
                suspicions, problems = suspicions + cleared, problems + found
    tell(f"suspicions of good programs that were cleared, none of them confirmed: {suspicions}")
    return problems


@contextmanager
def casts(daemon: Daemon, port: int, server: int, seed: int) -> Iterator[list[Actor]]:
    """Everybody, running; they are ended, and have told the truth, when it is left."""
    actors: list[Actor] = []
    try:
        for cast in (*LEAKING, *GOOD):
            actors.append(Actor(cast, daemon, server if cast.name == "sockets" else port, seed))
        yield actors
    finally:
        for actor in actors:
            actor.end()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def main(arguments: list[str]) -> int:
    """The whole show."""
    seed = int(arguments[0]) if arguments else 1
    started_s = time.monotonic()

    def tell(line: str) -> None:
        print(f"{time.monotonic() - started_s:6.1f} s  {line}", flush=True)

    with short_directory() as state:
        state.mkdir(mode=0o700)
        with MockNvml(state / "nvml", library=build_library()) as mock:
            environ = mock.environment()
            problems = everybody(environ, seed, tell)
            try:
                whole_s = again(LEAKING[2], environ, seed, None, tell)
                tell(f"cache alone: confirmed {whole_s:.1f} s after the switch-on")
                broken_s = again(LEAKING[2], environ, seed, whole_s, tell)
                tell(f"cache, with a daemon killed half-way: {broken_s:.1f} s, {broken_s - whole_s:+.1f} s")
                assert broken_s - whole_s <= LATER_S, "a restart of the daemon delays a finding by more than a block"
            except AssertionError as error:
                problems.append(str(error))
    for problem in problems:
        tell(f"FAILED: {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
