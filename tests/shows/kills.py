"""kill -9, in turn of the daemon and of its bus, under a stream of samples from cards that get hot and cool down.

`python tests/shows/kills.py` does it 20 times (about a minute), says what happened, and ends with 1 if a promise was
broken: no state change without its directive, no event id twice, the retained directive equals the last one that was
said, sequence numbers only grow. The tests do it 6 times.
"""

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from typing import Final

import redis

from tests.daemon import Daemon, short_directory
from tests.mocknvml.build import build_library
from tests.mocknvml.control import MockNvml
from tests.shows.weather import CONFIG, GPUS, Weather, examine, settle

KILLS: Final = 20
_BACK_WITHIN_S: Final = 20.0


def kill_daemon(daemon: Daemon) -> None:
    """The daemon alone: its bus lives on and the next one finds it."""
    bus_pid = daemon.bus_pid
    daemon.kill()
    daemon.start()
    assert daemon.bus_pid == bus_pid, "the bus that lived was not found"


def kill_bus(daemon: Daemon) -> None:
    """The bus alone: the daemon starts another over its data."""
    before = daemon.bus_pid
    os.kill(before, signal.SIGKILL)
    deadline = time.monotonic() + _BACK_WITHIN_S
    while _bus_pid(daemon) in (None, before):
        assert time.monotonic() < deadline, f"the bus did not come back:\n{daemon.errors}"
        time.sleep(0.01)


def play(kills: int, tell: Callable[[str], None], *, seed: int = 1) -> None:
    """So many kills, and what must hold afterwards.

    :raises AssertionError: a promise was broken.
    """
    chance = random.Random(seed)
    with short_directory() as state:
        state.mkdir(mode=0o700)
        mock = MockNvml(state / "nvml", library=build_library(), gpus=GPUS)
        with mock, Daemon(state, CONFIG, environ=mock.environment()) as daemon:
            with Weather(mock, seed):
                daemon.event("flyball.gpu.state_changed")
                for number in range(1, kills + 1):
                    time.sleep(chance.uniform(0, 0.7))  # at any moment of a tick
                    after = daemon.position()
                    kill, whom = (kill_daemon, "the daemon") if number % 2 else (kill_bus, "its bus")
                    kill(daemon)
                    entry = daemon.event("flyball.gpu.state_changed", after=after)
                    tell(f"kill {number:2} of {whom:10} and it goes on: {entry.event.text}")
            settle(daemon)
            tell(str(examine(daemon)))


def _bus_pid(daemon: Daemon) -> int | None:
    """Its process; None while it is not there, or loads its data."""
    try:
        daemon.redis().ping()
        return daemon.bus_pid
    except redis.RedisError:
        return None


def main() -> int:
    """The full number of kills."""
    began_s = time.monotonic()

    def tell(line: str) -> None:
        print(f"{time.monotonic() - began_s:6.1f} s  {line}", flush=True)

    try:
        play(KILLS, tell)
    except AssertionError as error:
        tell(f"FAILED: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
