"""A small workload that obeys, to look at: `python -m flyball.example trainer --gpus 0,1`.

It works through steps that do nothing but wait, and prints what it hears and how fast it goes.
"""

import argparse
import itertools
import signal
import sys
import time
from types import FrameType

import flyball


def main() -> None:
    """Work until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m flyball.example", description="A small workload that obeys.")
    parser.add_argument("name", nargs="?", default="example")
    parser.add_argument("--gpus", default="0", help="the cards that it claims to use, such as 0,1")
    parser.add_argument("--step-s", type=float, default=0.05, help="how long a step takes at full speed")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, _end)
    gpus = [int(index) for index in arguments.gpus.split(",") if index]
    try:
        _work(arguments.name, gpus, arguments.step_s)
    except KeyboardInterrupt:
        return


def _work(name: str, gpus: list[int], step_s: float) -> None:
    with flyball.Workload(name, gpus=gpus) as workload:
        workload.on_change(lambda directive: _say(name, directive))
        for _ in workload.pace(itertools.count()):
            time.sleep(step_s)
            workload.count("steps")


def _say(name: str, directive: flyball.Directive) -> None:
    order = f"{directive.target} {directive.action}, speed {directive.speed:g}"
    sys.stdout.write(f"{name}: {order} ({directive.reason})\n")
    sys.stdout.flush()


def _end(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
