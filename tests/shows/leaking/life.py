"""What all programs of the show share: calls as they come in real traffic, and the truth, told on standard output."""

import argparse
import json
import random
import sys
import threading
import time
from collections.abc import Iterator
from typing import Final

#: The pace changes after so many seconds, between a third and nearly the double of the usual one.
_PACE_S: Final = (5.0, 15.0)
_PACES: Final = (0.3, 1.7)
#: Calls of one burst.
_BURST: Final = (1, 4)


class Life:
    """A program from its begin until its stdin ends.

    `NAME --seed N --calm SECONDS [--port PORT] [--tells]`: with `calm` over, the bug is switched on, as a deploy would.
    It prints JSON lines: `{"on": UNIX_TIME}` then, and what `tell` is given.
    """

    def __init__(self) -> None:
        words = argparse.ArgumentParser()
        words.add_argument("name")
        words.add_argument("--seed", type=int, default=1)
        words.add_argument("--calm", type=float, default=60.0)
        words.add_argument("--port", type=int, default=0)
        words.add_argument("--tells", action="store_true", help="of a batch: how long it is")
        options = words.parse_args()
        self.name: str = options.name
        self.port: int = options.port
        self.tells: bool = options.tells
        self.chance = random.Random(options.seed)
        self.calm_s: float = options.calm
        self._began_s = time.monotonic()
        self._on = False
        self.over = threading.Event()
        threading.Thread(target=self._end_with_stdin, name="stdin", daemon=True).start()

    @property
    def age_s(self) -> float:
        """Seconds since the begin."""
        return time.monotonic() - self._began_s

    def has_bug(self) -> bool:
        """Whether the bug is on by now."""
        if not self._on and self.age_s >= self.calm_s:
            self._on = True
            self.tell(on=time.time())
        return self._on

    def calls(self, calls_a_second: float) -> Iterator[int]:
        """The number of each call when it comes, until the end: in bursts, at a pace that changes."""
        number, pace, until_s = 0, 1.0, 0.0
        mean_burst = sum(_BURST) / 2
        while True:
            if self.age_s >= until_s:
                pace = self.chance.uniform(*_PACES)
                until_s = self.age_s + self.chance.uniform(*_PACE_S)
            if self.over.wait(self.chance.expovariate(pace * calls_a_second / mean_burst)):
                return
            for _ in range(self.chance.randint(*_BURST)):
                yield number
                number += 1

    def tell(self, **what: float) -> None:
        """A line for the show."""
        print(json.dumps(what), flush=True)

    def _end_with_stdin(self) -> None:
        sys.stdin.read()
        self.over.set()
