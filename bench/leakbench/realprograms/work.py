"""What every real program here has in common: calls at random moments, counters that it prints, an onset."""

import json
import random
import time
from collections.abc import Callable
from typing import Any

KB, MB = 1 << 10, 1 << 20
Call = Callable[[], object]


class Work:
    """What every program here has: calls with rates, counters, gauges, a warm-up."""

    resources: tuple[str, ...] = ()
    driver: str | None = None
    tolerated: tuple[str, ...] = ("vms",)
    #: MB a call where a regression would not find what stays
    stays: float | None = None

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.leaking = False
        self.kept: list[Any] = []
        self.gauges: dict[str, int] = {}
        self.calls: dict[str, tuple[float, Call]] = {"ping": (rng.uniform(2, 7), self.ping)}
        self.prepare()

    def prepare(self) -> None:
        """Enter the calls."""

    def ping(self) -> None:
        """A call that costs nothing."""

    def block(self, low: int, high: int) -> bytearray:
        """So many kB, touched."""
        return bytearray(self.rng.randbytes(64)) * (self.rng.randint(low, high) * KB // 64)

    def scratch(self, low: int = 50, high: int = 400) -> None:
        """Memory for the length of a call."""
        self.block(low, high)


def run(work: Work, seconds: float) -> None:
    """Warm up, work, and say what was done; what is called `beat` is the program's own clock and not counted."""
    rng, begin = work.rng, time.monotonic()
    warm = []
    for _ in range(rng.randint(10, 60)):
        warm.append(work.block(200, 900))
        time.sleep(0.05)
    counts = dict.fromkeys(work.calls, 0)
    due = {name: time.monotonic() + rng.expovariate(rate) for name, (rate, _) in work.calls.items()}
    onset, said = rng.uniform(0.12, 0.22) * seconds, 0.0
    while (now := time.monotonic()) - begin < seconds:
        work.leaking = work.driver is not None and now - begin > onset
        busy = 0.4 if (now - begin) % 31 > 24 else 1.0
        for name, (rate, call) in work.calls.items():
            if now >= due[name]:
                call()
                counts[name] += 1
                due[name] = now + rng.expovariate(rate * (busy if name != "beat" else 1.0))
        if now - said > 0.125:
            said = now
            line = {"calls": {k: v for k, v in counts.items() if k != "beat"}, "gauges": work.gauges}
            print(json.dumps({**line, "leaking": work.leaking}), flush=True)
        time.sleep(max(0.0, min(0.03, min(due.values()) - time.monotonic())))
    warm.clear()
