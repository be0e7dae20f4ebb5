"""Fifty programs race for 10 GB on a card of 8 GB, while the daemon and its bus are killed; and owners are killed.

`python tests/shows/reservations.py` plays 200 rounds with 20 kills (some minutes), says what happened, and ends with 1
if a promise was broken: the sum that was granted never exceeds the limit; where nothing was killed it is all that fits;
what stands in the ledger is what the programs were told, each once; and what belongs to a process that was killed is
gone within two samples. Half of the programs ask through HTTP, the others through the inbox. The tests play a little.
"""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

import msgspec
import redis

from schemas.sample import Sample
from schemas.workload import LedgerAnswer, Reservation, reservation_key
from supervisor.bus.keys import capacity_key, samples_key
from tests.daemon import Daemon, short_directory
from tests.mocknvml.build import build_library
from tests.mocknvml.control import GIB, MockNvml
from tests.shows.kills import kill_bus, kill_daemon

CLAIMANTS: Final = 50
ROUNDS: Final = 200
KILLS: Final = 20
OWNERS: Final = 10
CARD_MIB: Final = 8192
#: Fifty of them are 10 GB.
SIZE_MIB: Final = 205
PROGRAM: Final = Path(__file__).parents[1] / "programs" / "claimant.py"
_PATIENCE_S: Final = 60.0


class Claimant:
    """One program; a context manager that ends it."""

    def __init__(self, daemon: Daemon, kind: str, port: int, mib: int) -> None:
        command = [sys.executable, "-S", str(PROGRAM), kind, str(daemon.state), daemon.host, str(port), str(mib)]
        self._process = subprocess.Popen(
            command, env={"PATH": os.environ["PATH"]}, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.pid = self._process.pid

    def begin(self, verb: str, name: str) -> None:
        """Let it ask."""
        assert self._process.stdin is not None, "it is a pipe"
        self._process.stdin.write(f"{verb} {name}\n")
        self._process.stdin.flush()

    def outcome(self) -> tuple[str, str]:
        """The name of what it asked for, and what it was told."""
        assert self._process.stdout is not None, "it is a pipe"
        name, _, outcome = self._process.stdout.readline().strip().partition(" ")
        assert outcome, "a claimant ended"
        return name, outcome

    def kill(self) -> None:
        """SIGKILL; it is not asked for yet, as by a parent that sleeps."""
        self._process.send_signal(signal.SIGKILL)

    def __enter__(self) -> Self:
        """It runs already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave no process behind."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.kill()
        self._process.wait()


class Race(NamedTuple):
    """How often how much was granted, and what died."""

    rounds: int
    mib: int
    granted: int
    most: int
    full: int
    killed: Counter[str]

    def __str__(self) -> str:
        """For people."""
        killed = ", ".join(f"{whom} {times} times" for whom, times in sorted(self.killed.items())) or "nothing"
        return (
            f"{self.rounds} rounds: {self.granted} reservations of {self.mib} MiB granted, at most {self.most} at once "
            f"({self.most * self.mib} of {CARD_MIB} MiB), all that fits in {self.full} rounds; killed: {killed}"
        )


def kill_both(daemon: Daemon) -> None:
    """The daemon, and its bus at once."""
    os.kill(daemon.bus_pid, signal.SIGKILL)
    daemon.kill()
    daemon.start()


VICTIMS: Final[Sequence[tuple[str, Callable[[Daemon], None]]]] = (
    ("the daemon", kill_daemon), ("its bus", kill_bus), ("both", kill_both),
)  # fmt: skip


def race(
    daemon: Daemon, port: int, tell: Callable[[str], None], *, claimants: int, rounds: int, kills: int, seed: int = 1
) -> Race:
    """So many programs, each asking in every round and giving back what it got.

    :raises AssertionError: a promise was broken.
    """
    chance = random.Random(seed)
    size = SIZE_MIB * CLAIMANTS // claimants
    fits = CARD_MIB // size
    deadly = set(chance.sample(range(2 * rounds), kills))  # every round has two halves
    granted = most = full = 0
    killed: Counter[str] = Counter()
    with ExitStack() as stack:
        programs = [
            stack.enter_context(Claimant(daemon, ("http", "inbox")[number % 2], port, size))
            for number in range(claimants)
        ]
        await_capacity(daemon)
        for number in range(rounds):
            names = [f"r{number}.c{at}" for at in range(claimants)]
            whom = _play(daemon, programs, "reserve", names, chance, killed if 2 * number in deadly else None)
            holding = _told(programs, "reserved")
            standing = ledger(daemon)
            assert set(standing) == set(holding), f"round {number}: {sorted(set(standing) ^ set(holding))} differ"
            assert sum(one.parts["gpu0"] for one in standing.values()) <= CARD_MIB << 20, f"round {number}: too much"
            assert whom or len(holding) == fits, f"round {number}: {len(holding)} granted, {fits} fit"
            assert all(standing[name].pid == holding[name].pid for name in holding), f"round {number}: of others"
            granted, most, full = granted + len(holding), max(most, len(holding)), full + (len(holding) == fits)
            owners = list(holding.values())
            then = _play(daemon, owners, "release", list(holding), chance, killed if 2 * number + 1 in deadly else None)
            assert len(_told(owners, "released")) == len(owners)
            assert ledger(daemon) == {}, f"round {number}: something stands"
            if whom or then:
                await_capacity(daemon, other_than=measured(daemon))  # the last one may be of who was killed
                dead = ", ".join(filter(None, (whom, then)))
                tell(f"round {number:3}: killed {dead}; {len(holding)} of {claimants} got {size} MiB, all gave back")
    return Race(rounds, size, granted, most, full, killed)


def _play(
    daemon: Daemon, programs: Sequence[Claimant], verb: str, names: Sequence[str], chance: random.Random,
    killed: "Counter[str] | None",
) -> str:  # fmt: skip
    """Let all ask at once, and kill somebody meanwhile; whom."""
    for program, name in zip(programs, names, strict=True):
        program.begin(verb, name)
    if killed is None or not programs:
        return ""
    whom, kill = VICTIMS[killed.total() % len(VICTIMS)]
    time.sleep(chance.uniform(0, 0.1))  # in the middle of it
    kill(daemon)
    killed[whom] += 1
    return f"{whom} while they {verb}"


def _told(programs: Sequence[Claimant], outcome: str) -> dict[str, Claimant]:
    """Those who were told this, by what they had asked for."""
    return {name: program for program in programs for name, told in [program.outcome()] if told == outcome}


def ledger(daemon: Daemon) -> dict[str, Reservation]:
    """What stands."""
    entries = daemon.redis().hgetall(reservation_key(daemon.host))
    return {name.decode(): msgspec.json.decode(text, type=Reservation) for name, text in entries.items()}


def measured(daemon: Daemon) -> bytes | None:
    """The sample from which the bus knows what is free; None while it does not, or is away."""
    try:
        sample: bytes | None = daemon.redis().hget(capacity_key(daemon.host, "gpu0"), "sample")
    except redis.RedisError:
        return None
    return sample


def await_capacity(daemon: Daemon, other_than: bytes | None = None) -> None:
    """What is free is known, from another sample than that: after a start one is needed first."""
    deadline = time.monotonic() + _PATIENCE_S
    while measured(daemon) in (None, other_than):
        assert time.monotonic() < deadline, f"what is free of gpu0 is not known:\n{daemon.errors}"
        time.sleep(0.01)


def examine(daemon: Daemon) -> int:
    """Every reservation was granted once and ended once, in this order; how many there were.

    :raises AssertionError: one was not.
    """
    events = [event for event in daemon.events() if event.type.startswith("flyball.memory.")]
    ids = Counter(event.id for event in daemon.events())
    assert not (twice := [id_ for id_, times in ids.items() if times > 1]), f"events came twice: {twice}"
    stories: dict[str, list[str]] = {}
    for event in events:
        what = event.type.rpartition(".")[2]
        if what in ("reserved", "released", "expired"):
            one = event.decode(LedgerAnswer).reservation
            assert one is not None, event.text
            stories.setdefault(one.request, []).append(what)
    for request, story in stories.items():
        assert story in (["reserved", "released"], ["reserved", "expired"]), f"{request}: {story}"
    return len(stories)


def bereave(daemon: Daemon, port: int, tell: Callable[[str], None], *, owners: int, seed: int = 1) -> float:
    """Kill owners at any moment of a tick; the most samples that were taken before what they held was free again.

    :raises AssertionError: it was not within two samples.
    """
    chance, worst, longest_s = random.Random(seed), 0, 0.0
    for number in range(owners):
        with Claimant(daemon, ("http", "inbox")[number % 2], port, 1024) as owner:
            await_capacity(daemon)
            owner.begin("reserve", f"owner{number}")
            assert owner.outcome()[1] == "reserved"
            time.sleep(chance.uniform(0, 1))
            after, sampled = daemon.position(), daemon.position(samples_key())
            owner.kill()
            began_s = time.monotonic()
            entry = daemon.event("flyball.memory.expired", after=after)
            longest_s = max(longest_s, time.monotonic() - began_s)
            assert f"process {owner.pid} of" in entry.event.text, entry.event.text
            assert ledger(daemon) == {}
            cause = entry.event.decode(LedgerAnswer).request
            ticks = [
                one.event.id
                for one in daemon.entries(samples_key(), after=sampled)
                if _is_full(one.event.decode(Sample))
            ]
            worst = max(worst, ticks.index(cause) + 1)
            assert worst <= 2, f"it took {worst} samples until {entry.event.text}"
    tell(f"{owners} owners killed: what they held was free with sample {worst} after that, {longest_s:.2f} s at most")
    return longest_s


def _is_full(sample: Sample) -> bool:
    return sample.scope == "full"


def play(
    tell: Callable[[str], None],
    *,
    claimants: int,
    rounds: int,
    kills: int,
    owners: int,
    interval_s: float,
    seed: int = 1,
) -> None:
    """The race, the owners, and what must hold of all that was told.

    :raises AssertionError: a promise was broken.
    """
    config = f"[sampling]\ninterval_s = {interval_s}\n[memory]\nmemory_reserve_mb = 0\n"
    with short_directory() as state, socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        taken.close()
        state.mkdir(mode=0o700)
        mock = MockNvml(state / "nvml", library=build_library())
        mock.set(memory_total=8 * GIB, memory_used=0, memory_reserved=0)
        with mock, Daemon(state, config, environ={**mock.environment(), "FLYBALL_API__PORT": str(port)}) as daemon:
            tell(str(race(daemon, port, tell, claimants=claimants, rounds=rounds, kills=kills, seed=seed)))
            bereave(daemon, port, tell, owners=owners, seed=seed)
            tell(f"{examine(daemon)} reservations, each granted once and ended once")


def main() -> int:
    """All of it."""
    began_s = time.monotonic()

    def tell(line: str) -> None:
        print(f"{time.monotonic() - began_s:6.1f} s  {line}", flush=True)

    try:
        play(tell, claimants=CLAIMANTS, rounds=ROUNDS, kills=KILLS, owners=OWNERS, interval_s=1.0)
    except AssertionError as error:
        tell(f"FAILED: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
