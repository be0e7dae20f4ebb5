"""Cards whose temperature changes all the time, and what must hold of the events that follow, whatever happens."""

import itertools
import random
import threading
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final, NamedTuple, Self

from schemas.envelope import Event
from schemas.event import BusRestored, StateChanged
from schemas.workload import Directive
from tests.daemon import Daemon
from tests.mocknvml.control import MockNvml

#: Quick changes: a sample each tenth of a second, and hardly any wait on the way up.
CONFIG: Final = """
[sampling]
interval_s = 0.1
fast_interval_s = 0.05
[throttle]
policy = "ladder"
throttle_cooldown_seconds = 0.2
critical_pause_seconds = 0.3
blind_intervals = 30
"""
GPUS: Final = 2
_TEMPERATURES: Final = (45, 68, 72, 78, 83, 87, 92)
_STATE_CHANGES: Final = ("flyball.gpu.state_changed", "flyball.host.state_changed")
#: An outage is noticed a little after it began, and over a little before it is said.
_AROUND_S: Final = 3.0


class Weather:
    """Changes the cards' temperatures until it is left, and then cools them down."""

    def __init__(self, mock: MockNvml, seed: int) -> None:
        """`seed` makes it the same each time, as far as the machine is."""
        self._mock = mock
        self._random = random.Random(seed)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._blow, name="weather")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._mock.set(temperature=45)

    def _blow(self) -> None:
        while not self._over.wait(self._random.uniform(0.1, 0.4)):
            self._mock.set(self._random.randrange(GPUS), temperature=self._random.choice(_TEMPERATURES))


class Findings(NamedTuple):
    """How much was looked at."""

    events: int
    state_changes: int
    directives: int
    superseded: int
    outages: int

    def __str__(self) -> str:
        """For people."""
        return (
            f"{self.events} events, {self.state_changes} changes of state, {self.directives} directives "
            f"({self.superseded} changes superseded in {self.outages} outages)"
        )


def settle(daemon: Daemon) -> None:
    """Wait until the cards are cool again and everything has been said."""
    targets = {f"gpu{index}" for index in range(GPUS)}
    daemon.status_when(
        lambda status: (
            status.bus.state == "up"
            and targets <= {row.target for row in status.targets if row.state == "OPTIMAL" and row.action == "run"}
        )
    )


def examine(daemon: Daemon) -> Findings:
    """Every promise about events and directives, on all that is in the stream.

    :raises AssertionError: one was broken.
    """
    events = daemon.events()
    ids = [event.id for event in events]
    twice = {id_ for id_ in ids if ids.count(id_) > 1}
    assert not twice, f"events came twice: {[event.text for event in events if event.id in twice]}"
    _assert_in_order(events)
    _assert_unbroken(events)
    outages = _outages(events)
    directives = [event.decode(Directive) for event in events if event.type == "flyball.directive.issued"]
    for target in {directive.target for directive in directives}:
        seqs = [directive.seq for directive in directives if directive.target == target]
        assert seqs == sorted(set(seqs)), f"seq of {target} went back: {seqs}"
        last = [directive for directive in directives if directive.target == target][-1]
        assert daemon.directive(target) == last, f"what stands for {target} is not what was said last"
    superseded = _assert_directed(events, outages)
    changes = sum(event.type in _STATE_CHANGES for event in events)
    return Findings(len(events), changes, len(directives), superseded, len(outages))


def assert_samples_complete(daemon: Daemon, longest_gap_s: float) -> int:
    """Samples come once and in order, without a hole longer than that; how many there were."""
    samples = [sample for sample in daemon.samples() if sample.scope == "full"]
    times = [sample.monotonic_s for sample in samples]
    assert [sample.tick for sample in samples] == sorted({sample.tick for sample in samples}), "samples out of order"
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert max(gaps) <= longest_gap_s, f"{max(gaps):.1f} s without a sample in the stream"
    return len(samples)


def _assert_in_order(events: Sequence[Event]) -> None:
    """Each source's events are in the order of their times."""
    for source in {event.source for event in events}:
        times = [event.time for event in events if event.source == source]
        assert times == sorted(times), f"events of {source} are out of order"


def _assert_unbroken(events: Sequence[Event]) -> None:
    """Each change of a target's state begins where the one before it ended: none is missing."""
    states: dict[str, str] = {}
    for event in events:
        if event.type in _STATE_CHANGES:
            change = event.decode(StateChanged)
            before = states.get(change.target, change.previous)
            assert change.previous == before, f"a change is missing: {event.text}, but it was {before}"
            states[change.target] = change.state


def _outages(events: Iterable[Event]) -> list[tuple[float, float]]:
    """When the bus was away, in Unix time, generously."""
    outages = []
    for event in events:
        if event.type == "flyball.bus.restored":
            back_s = _seconds(event)
            outages.append((back_s - event.decode(BusRestored).away_s - _AROUND_S, back_s + _AROUND_S))
    return outages


def _assert_directed(events: Sequence[Event], outages: Sequence[tuple[float, float]]) -> int:
    """Each change of state has a directive of the same cause; in an outage a later one may stand for it."""
    superseded = 0
    for position, event in enumerate(events):
        if event.type not in _STATE_CHANGES:
            continue
        change = event.decode(StateChanged)
        following = [
            directive
            for later in events[position:]
            if later.type == "flyball.directive.issued"
            and (directive := later.decode(Directive)).target == change.target
        ]
        assert following, f"no directive after: {event.text}"
        if following[0].cause == change.cause:
            assert (following[0].action, following[0].speed) == (change.action, change.speed), event.text
            continue
        away = any(began_s <= _seconds(event) <= ended_s for began_s, ended_s in outages)
        assert away, f"no directive for: {event.text}; the next is {following[0].reason}"
        superseded += 1
    return superseded


def _seconds(event: Event) -> float:
    return datetime.fromisoformat(event.time).timestamp()
