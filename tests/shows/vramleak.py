"""VRAM that leaks on mock cards, quickly and slowly, and what the daemon says of the time that is left.

`python -m tests.shows.vramleak` plays it at the default cadence (about 13 minutes), prints every event of a leak with
its forecast against the truth, and ends with 1 if one was not confirmed, or its forecast came late or was wrong.
"""

import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Final, NamedTuple

from schemas.envelope import Event
from schemas.leak import LeakReport
from supervisor.bus.keys import events_key
from tests.daemon import Daemon, short_directory
from tests.mocknvml.build import build_library
from tests.mocknvml.control import DEFAULT_VALUES, GIB, MockNvml, MockProcess

MIB: Final = 2**20
#: An allocator takes memory from a card in such steps.
STEP: Final = 2 * MIB
CAPACITY: Final = DEFAULT_VALUES["memory_total"] - DEFAULT_VALUES["memory_reserved"]
#: What a card has in use beside its process.
CONTEXT: Final = GIB // 2
TICK_S: Final = 0.25
WHOLE_S: Final = 780.0
#: How far the middle of a forecast may be from the truth.
WITHIN: Final = 0.25


class Course(NamedTuple):
    """A card: steady at `level` bytes for `calm_s`, then more by `rate` bytes a second until it is full."""

    name: str
    level: int
    rate: float
    calm_s: float
    #: whether it is an error that it is not confirmed in the time that the show takes
    must: bool = True

    def used(self, t_s: float, chance: random.Random) -> int:
        """Bytes after so many seconds: whole steps, of which up to two come and go."""
        leaked = self.rate * max(0.0, t_s - self.calm_s)
        return int((self.level + leaked) // STEP + chance.choice((0, 0, 1, 2))) * STEP

    @property
    def full_s(self) -> float:
        """When it is full, in seconds from the begin."""
        return self.calm_s + (CAPACITY - self.level) / self.rate


COURSES: Final = (
    Course("50 MB/s on 70 GB", 70 * GIB, 50 * MIB, 60.0),
    Course("5 MB/min on 1.5 GB", 3 * GIB // 2, 5 * MIB / 60, 120.0),
    # 1 % of a level is no growth that matters, so this one takes 82 minutes of it: said, and not asked for here
    Course("5 MB/min on 40 GB", 40 * GIB, 5 * MIB / 60, 120.0, must=False),
)


class Card:
    """A card on its course, and the process on it."""

    def __init__(self, index: int, course: Course, process: "subprocess.Popen[bytes]", began_s: float) -> None:
        self.index = index
        self.course = course
        self.process = process
        self.began_s = began_s
        self.full_s: float | None = None
        self.confirmed = False
        self.problems: list[str] = []
        self._chance = random.Random(index)

    def tick(self, mock: MockNvml) -> None:
        """Go on; a process that asks for more than there is ends, as it does for want of memory."""
        if self.full_s is not None:
            return
        t_s = time.monotonic() - self.began_s
        used = self.course.used(t_s, self._chance)
        if used >= CAPACITY:
            self.full_s = t_s
            self.process.kill()
            self.process.wait()
            mock.set(self.index, memory_used=0)
            mock.set_processes(self.index, [])
            return
        mock.set(self.index, memory_used=used)
        mock.set_processes(self.index, [MockProcess(self.process.pid, used - CONTEXT)])

    def hear(self, stage: str, event: Event, report: LeakReport, tell: Callable[[str], None]) -> None:
        """An event about this card or its process, and how its forecast compares."""
        at_s = time.monotonic() - self.began_s
        tell(f"gpu{self.index} ({self.course.name}), {at_s - self.course.calm_s:.0f} s into the leak: {event.text}")
        if stage == "cleared":
            if self.full_s is None:
                self.problems.append(f"was cleared while it leaked: {event.text}")
            return
        left_s, known, rate = self.course.full_s - at_s, report.forecast, report.memory_growth_rate / 3600
        if rate:
            tell(f"    {rate / MIB:.4g} MB/s, true are {self.course.rate / MIB:.4g}; severity {report.severity}")
        if known is None or known.p50_s is None:
            tell(f"    no forecast; true are {left_s:.0f} s")
        else:
            p10, p50, p90 = (f"{_seconds(each)} s" for each in (known.p10_s, known.p50_s, known.p90_s))
            tell(f"    p10 {p10}, p50 {p50}, p90 {p90} (limit: {known.limit}); true are {left_s:.0f} s")
        if stage != "confirmed" or self.confirmed:
            return
        self.confirmed = True
        if at_s < self.course.calm_s:
            self.problems.append("was confirmed before it leaked")
        if self.full_s is not None:
            self.problems.append("was confirmed only when the card was full")
        elif known is None or known.p50_s is None:
            self.problems.append("was confirmed without a forecast")
        elif abs(known.p50_s - left_s) > WITHIN * left_s:
            self.problems.append(f"is foretold for {known.p50_s:.0f} s, and it takes {left_s:.0f} s")

    def end(self, tell: Callable[[str], None]) -> list[str]:
        """What was otherwise than it must be."""
        name = f"gpu{self.index} ({self.course.name})"
        if not self.confirmed:
            tell(f"{name}: not confirmed in the {WHOLE_S - self.course.calm_s:.0f} s for which it leaked")
            if self.course.must:
                self.problems.append("was not confirmed")
        return [f"{name} {problem}" for problem in self.problems]


def _seconds(value: float | None) -> str:
    return "beyond a year" if value is None else f"{value:.0f}"


def play(daemon: Daemon, mock: MockNvml, cards: list[Card], tell: Callable[[str], None]) -> list[str]:
    """All cards at once; returns what was otherwise than it must be."""
    seen = "-"
    while time.monotonic() - cards[0].began_s < WHOLE_S:
        filled = [card for card in cards if card.full_s is None]
        with mock.together():
            for card in cards:
                card.tick(mock)
        for card in filled:
            if card.full_s is not None:
                tell(f"gpu{card.index} ({card.course.name}) is full, {card.full_s - card.course.calm_s:.0f} s into it")
        for entry in daemon.entries(events_key(), after=seen):
            seen = entry.id
            kind, _, stage = entry.event.type.rpartition(".")
            if kind != "flyball.leak":
                continue
            report = entry.event.decode(LeakReport)
            for card in cards:
                if report.resource == "vram" and (report.pid == card.process.pid or report.gpu == f"gpu{card.index}"):
                    card.hear(stage, entry.event, report, tell)
        time.sleep(TICK_S)
    return [problem for card in cards for problem in card.end(tell)]


@contextmanager
def idle() -> "Iterator[subprocess.Popen[bytes]]":
    """A process that does nothing but be there."""
    process = subprocess.Popen(["sleep", "3600"], stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def main() -> int:
    """The whole show."""
    started_s = time.monotonic()

    def tell(line: str) -> None:
        print(f"{time.monotonic() - started_s:6.1f} s  {line}", flush=True)

    with short_directory() as state, ExitStack() as stack:
        state.mkdir(mode=0o700)
        mock = stack.enter_context(MockNvml(state / "nvml", library=build_library(), gpus=len(COURSES)))
        processes = [stack.enter_context(idle()) for _ in COURSES]
        began_s = time.monotonic()
        cards = [Card(i, course, processes[i], began_s) for i, course in enumerate(COURSES)]
        for card in cards:
            card.tick(mock)
        daemon = stack.enter_context(Daemon(state, environ=mock.environment()))
        problems = play(daemon, mock, cards, tell)
    for problem in problems:
        tell(f"FAILED: {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
