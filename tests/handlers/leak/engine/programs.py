"""What programs do to their memory and threads, a value a sample, and a Subject that is fed with it."""

import math
import random
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from handlers.leak.policy import Subject
from handlers.leak.settings import Settings
from schemas.leak import Resource, Stage, Verdict

MIB: Final = 2**20
#: The clock of a machine that has been up for a while.
BEGIN_S: Final = 1000.0


class Observed(NamedTuple):
    """What is measured of a program at one moment."""

    levels: Mapping[Resource, float]
    counts: Mapping[str, float] = {}
    gauges: Mapping[str, float] = {}


Program = Callable[[int], Observed]


class Change(NamedTuple):
    """A verdict whose stage has changed, and the sample at which it did."""

    sample: int
    verdict: Verdict


class Life:
    """A subject, and all changes of stage that it has told."""

    def __init__(self, subject: Subject | None = None, *, step_s: float = 1.0) -> None:
        self.subject = subject or Subject(Settings())
        self.step_s = step_s
        self.samples = 0
        self.changes: list[Change] = []

    def feed(self, program: Program, samples: int) -> "Life":
        """Let the program run for so many samples more."""
        for i in range(self.samples, self.samples + samples):
            for verdict in self.subject.observe(BEGIN_S + i * self.step_s, *program(i)):
                self.changes.append(Change(i, verdict))
        self.samples += samples
        return self

    def stage(self, resource: Resource = "rss") -> Stage:
        return self.subject.verdicts[resource].stage

    def confirmed(self, resource: Resource = "rss") -> Verdict:
        """The verdict, which must be a confirmed one."""
        verdict = self.subject.verdicts[resource]
        assert verdict.stage == "confirmed", verdict
        return verdict

    def first(self, stage: Stage, resource: Resource = "rss") -> int | None:
        """The sample at which the stage was first told."""
        for at, verdict in self.changes:
            if (verdict.resource, verdict.stage) == (resource, stage):
                return at
        return None

    def alarms(self) -> list[Change]:
        return [change for change in self.changes if change.verdict.stage == "confirmed"]


def live(program: Program, samples: int, *, step_s: float = 1.0) -> Life:
    return Life(step_s=step_s).feed(program, samples)


def memory(curve: Callable[[int], float], *, noise: float = 0.5, seed: int = 0) -> Program:
    """A program with so many MiB, and white noise."""
    chance = random.Random(seed)
    return lambda i: Observed({"rss": (curve(i) + chance.gauss(0, noise)) * MIB})


def wandering(level: float, *, memory_of_it: float, step: float, seed: int) -> Program:
    """Noise of which each value remembers a share of the one before (first order)."""
    chance, off = random.Random(seed), 0.0

    def program(_: int) -> Observed:
        nonlocal off
        off = memory_of_it * off + chance.gauss(0, step)
        return Observed({"rss": (level + off) * MIB})

    return program


def warming(i: int, *, by: float = 300.0, tau: float = 100.0) -> float:
    """A warm-up that levels off."""
    return 100 + by * (1 - math.exp(-i / tau))


def since(i: int, begin: int) -> int:
    """Samples since `begin`, 0 before."""
    return max(0, i - begin)


def calling(*, begin: int, chance_of_call: float, seed: int, pool: int = 0, bytes_a_thread: float = 0.25) -> Program:
    """From `begin` on each call of X keeps a thread and its memory; the first also starts a pool. Y keeps nothing."""
    chance = random.Random(seed)
    x = y = 0

    def program(i: int) -> Observed:
        nonlocal x, y
        x += i >= begin and chance.random() < chance_of_call
        y += chance.random() < 0.5
        kept = x + (pool if x else 0)
        return Observed(
            {"threads": 6 + kept, "rss": (120 + bytes_a_thread * kept + chance.gauss(0, 0.1)) * MIB}, {"X": x, "Y": y}
        )

    return program
