"""A card hangs inside the driver, twice in a row: the others keep their cadence, and it is BLIND, never green.

`python tests/shows/hang.py` plays it at 1 s cadence with hangs of 20 s (about a minute), says what happened, and ends
with 1 if anything was not as it must be. The tests play it faster.
"""

import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Final, NamedTuple

from schemas.envelope import Event
from schemas.event import StateChanged
from schemas.sample import Sample
from schemas.workload import Directive
from supervisor.bus.keys import samples_key
from tests.daemon import Daemon, Entry, short_directory
from tests.mocknvml.build import build_library
from tests.mocknvml.control import MockNvml

CARDS: Final = 8
HUNG: Final = 3
COOL_CELSIUS: Final = 40
#: What the issue of the closed loop promises, in intervals.
LARGEST_GAP: Final = 1.5
BLIND_WITHIN: Final = 3


class Times(NamedTuple):
    """Seconds: the cadence, and how long the card hangs and answers in turn."""

    interval_s: float = 1.0
    hang_s: float = 20.0
    between_s: float = 5.0

    @property
    def config(self) -> str:
        """The daemon's configuration; at 1 s these are the defaults."""
        return (
            f"[sampling]\ninterval_s = {self.interval_s}\nnvml_deadline_s = {self.interval_s / 4}\n"
            f"fast_interval_s = {self.interval_s / 10}\n"
        )


def play(daemon: Daemon, mock: MockNvml, times: Times, tell: Callable[[str], None]) -> None:
    """Both hangs; when it returns, the card still hangs.

    :raises AssertionError: when anything is not as it must be.
    """
    mock.set(HUNG, temperature=78)  # not near the edge: no fast samples
    daemon.event("flyball.gpu.state_changed", lambda event: event.decode(StateChanged).state == "THROTTLED")
    for index in range(CARDS):
        daemon.event("flyball.directive.issued", partial(_is_about, f"gpu{index}"))
    tell(f"{CARDS} cards are read, gpu{HUNG} is THROTTLED")
    start = daemon.position(samples_key())
    for turn in ("once", "twice"):
        _hang(daemon, mock, times, tell)
        if turn == "once":
            mock.set(HUNG, hang=0)
            _, sample = daemon.sample(
                lambda sample: sample.gpus[HUNG].reading == "fresh", after=daemon.position(samples_key())
            )
            assert sample.gpus[HUNG].temperature_celsius == COOL_CELSIUS
            _let_pass(daemon, times.between_s)
            tell(f"gpu{HUNG} answers again")
    _assert_cadence(daemon.entries(samples_key(), after=start), times, tell)
    speeds = [
        directive.speed
        for event in daemon.events("flyball.directive.issued")
        if (directive := event.decode(Directive)).target == f"gpu{HUNG}"
    ]
    lowest = speeds.index(0.5)
    assert max(speeds[lowest:]) == 0.5, f"gpu{HUNG} sped up: {speeds}"
    assert daemon.directive(f"gpu{HUNG}").speed == 0.5
    tell(f"gpu{HUNG} never went faster than 0.5")


def _is_about(target: str, event: Event) -> bool:
    return event.subject == target


def _hang(daemon: Daemon, mock: MockNvml, times: Times, tell: Callable[[str], None]) -> None:
    """The card hangs for a while; meanwhile it cools down, which nobody can see."""
    before, events = daemon.position(samples_key()), daemon.position()
    hung_s = time.monotonic()
    mock.set(HUNG, hang=1, temperature=COOL_CELSIUS)
    _, sample = daemon.sample(lambda sample: sample.gpus[HUNG].reading == "blind", after=before)
    blind_s = sample.monotonic_s - hung_s
    assert blind_s <= BLIND_WITHIN * times.interval_s, f"it was seen to be blind after {blind_s:.2f} s"
    event = daemon.event(
        "flyball.gpu.state_changed", lambda event: event.decode(StateChanged).state == "BLIND", after=events
    ).event
    assert event.decode(StateChanged).cause == sample.id, "an earlier or later sample was the cause"
    tell(f"{event.text}; {blind_s:.2f} s after the hang began")
    _let_pass(daemon, times.hang_s - (time.monotonic() - hung_s))


def _let_pass(daemon: Daemon, seconds: float) -> None:
    """Samples of so many seconds come."""
    until_s = time.monotonic() + seconds
    daemon.sample(
        lambda sample: sample.monotonic_s >= until_s, after=daemon.position(samples_key()), within_s=seconds + 30
    )


def _assert_cadence(entries: Sequence[Entry], times: Times, tell: Callable[[str], None]) -> None:
    """Every other card was read in each full sample, and none came late, by the bus's time or by the sampler's."""
    samples = [(int(entry.id.partition("-")[0]) / 1000, entry.event.decode(Sample)) for entry in entries]
    full = [(arrived_s, sample) for arrived_s, sample in samples if sample.scope == "full"]
    unread = [
        (gpu.index, gpu.reason)
        for _, sample in full
        for gpu in sample.gpus
        if gpu.index != HUNG and gpu.reading != "fresh"
    ]
    assert not unread, f"other cards were not read: {unread}"
    assert all(len(sample.gpus) == CARDS for _, sample in full)
    arrived = max(later - earlier for (earlier, _), (later, _) in pairwise(full))
    taken = max(later.monotonic_s - earlier.monotonic_s for (_, earlier), (_, later) in pairwise(full))
    tell(f"{len(full)} samples, largest gap {taken:.2f} s as taken and {arrived:.2f} s as arrived")
    assert max(taken, arrived) <= LARGEST_GAP * times.interval_s, "the others were held up"


def main() -> int:
    """The story at its full length, and the end while the card still hangs."""
    began_s = time.monotonic()

    def tell(line: str) -> None:
        print(f"{time.monotonic() - began_s:6.1f} s  {line}", flush=True)

    times = Times()
    with short_directory() as state:
        state.mkdir(mode=0o700)
        mock = MockNvml(state / "nvml", library=build_library(), gpus=CARDS)
        try:
            with mock, Daemon(state, times.config, environ=mock.environment()) as daemon:
                play(daemon, mock, times, tell)
                asked_s = time.monotonic()
                assert daemon.terminate() == 0
                daemon.assert_nothing_left()
                tell(f"SIGTERM while it hangs: stopped in {time.monotonic() - asked_s:.2f} s, nothing left behind")
        except AssertionError as error:
            tell(f"FAILED: {error}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
