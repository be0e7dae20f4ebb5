"""A program that obeys through the SDK and keeps what it should not, and that measures for how long it stood still.

`python -m tests.programs.leaker NAME`; it prints `began`, and at each line on stdin the longest gap since the line
before in seconds, whether tracemalloc runs, and how many sessions it keeps. It ends when stdin does.
"""

import argparse
import sys
import threading
import time
import tracemalloc

import flyball
from tests.programs.hoarder import Gap


class Session:
    """What is remembered."""

    def __init__(self, number: int) -> None:
        self.facts = {"numbers": [number]}
        self.body = bytearray(2000)  # remembered here


KEPT: list[Session] = []


def remember(number: int) -> None:
    """The leak."""
    KEPT.append(Session(number))


def work(rate_hz: float, *, forget: bool) -> None:
    """Remember, `rate_hz` times a second or as quickly as it goes; for good unless it is to `forget`."""
    number = 0
    while True:
        remember(number)
        number += 1
        if forget:
            KEPT.clear()
        if rate_hz:
            time.sleep(1 / rate_hz)


def main() -> None:
    """Leak until stdin ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--rate", type=float, default=500, help="sessions a second; 0: as many as it can")
    parser.add_argument("--ballast", type=int, default=0, help="objects that are there from the begin")
    parser.add_argument("--forget", action="store_true", help="keep nothing")
    parser.add_argument("--trace", action="store_true", help="use tracemalloc itself")
    parser.add_argument("--silent", action="store_true", help="answer no request for evidence")
    options = parser.parse_args()
    ballast = [{"n": [n]} for n in range(options.ballast // 2)]
    with flyball.Workload(options.name, evidence=not options.silent):
        if options.trace:
            tracemalloc.start(3)
        threading.Thread(target=work, args=(options.rate,), kwargs={"forget": options.forget}, daemon=True).start()
        gap = Gap()
        print("began", flush=True)
        for _ in sys.stdin:
            print(gap.take(), tracemalloc.is_tracing(), len(KEPT), flush=True)
    del ballast


if __name__ == "__main__":
    main()
