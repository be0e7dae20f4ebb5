"""A configured Redis goes away and comes back; and supervisors that must not speak: a second one, and one that slept.

`python tests/shows/outage.py` takes Redis away for 30 s, once killed and once stopped, and lets a supervisor sleep for
a minute (about 3 minutes in all); it says what happened and ends with 1 if a promise was broken. The tests do the same
with shorter waits.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

import msgspec

from schemas.event import BusRestored
from schemas.status import Status
from schemas.workload import Directive
from supervisor.bus.keys import lease_key
from supervisor.bus.lease import LEASE_TTL_S
from tests.busservers import BusServer, start_bus_server
from tests.daemon import HOST, Daemon, short_directory
from tests.mocknvml.build import build_library
from tests.mocknvml.control import MockNvml
from tests.shows.weather import CONFIG, GPUS, Weather, assert_samples_complete, examine, settle

How = Literal["killed", "stopped"]
AWAY_S: Final = 30.0
ASLEEP_S: Final = 60.0
Tell = Callable[[str], None]


def take_away(how: How, away_s: float, tell: Tell) -> None:
    """Redis is `killed` and started again, or `stopped` by SIGSTOP and woken, after so many seconds.

    :raises AssertionError: a promise was broken.
    """
    with stage() as (server, mock, state), supervisor(server, mock, state) as daemon:
        with Weather(mock, seed=1):
            daemon.event("flyball.gpu.state_changed")
            before = daemon.position()
            if how == "killed":
                server.kill()
            else:
                server.pause()
            gone_s = time.time()
            tell(f"Redis is {how}")
            seen = watch(state, away_s)
            tell(f"{len(seen)} different states of gpu0 were decided in {away_s:g} s without it: {', '.join(seen)}")
            assert len(seen) > 1, f"decisions stopped: {seen}\n{daemon.errors}"
            back_s = time.time()
            if how == "killed":
                server.start()
            else:
                server.resume()
            restored = daemon.event("flyball.bus.restored", after=before).event
        tell(restored.text)
        settle(daemon)
        outage = restored.decode(BusRestored)
        assert outage.samples_sent > 0
        assert outage.samples_dropped == 0
        findings = examine(daemon)
        assert findings.outages == 1, "one outage was taken for several"
        tell(f"{findings}; {assert_samples_complete(daemon, longest_gap_s=3)} samples without a hole")
        told_late = directives_told_late(daemon, gone_s, back_s)
        assert all(count <= 1 for count in told_late.values()), f"old directives were said: {told_late}"


def stay_second(tell: Tell) -> None:
    """A second supervisor of the host, over the same state directory and over another one, while the first works.

    :raises AssertionError: it spoke, or did not say who is there already.
    """
    with stage() as (server, mock, state), supervisor(server, mock, state) as daemon:
        pid = daemon.status_when(lambda status: status.bus.state == "up").pid
        for place in (state, state.with_name("other")):
            second = daemon.command("run", FLYBALL_STATE_DIR=str(place))
            last_word = second.stderr.strip().splitlines()[-1]
            tell(f"a second one over {place.name}/ ends with {second.returncode}: {last_word}")
            assert second.returncode == 2, second.stderr
            assert f"pid {pid}" in second.stderr, second.stderr
        assert daemon.status().pid == pid
        examine(daemon)


def sleep_and_wake(asleep_s: float, tell: Tell) -> None:
    """The first supervisor is stopped for so long, another one takes over, and the first wakes.

    :raises AssertionError: it spoke out of turn.
    """
    with stage() as (server, mock, state), supervisor(server, mock, state) as first, Weather(mock, seed=2):
        first.event("flyball.gpu.state_changed")
        first.stop()
        asleep_from_s = time.monotonic()
        tell(f"pid {first.pid} is stopped")
        time.sleep(lease_left_s(first))
        with supervisor(server, mock, state.with_name("other")) as second:
            began = second.event("flyball.gpu.state_changed", after=first.position())
            epoch = second.status_when(lambda status: status.pid == second.pid).lease.epoch
            tell(f"pid {second.pid} took over under epoch {epoch}")
            time.sleep(max(0.0, asleep_from_s + asleep_s - time.monotonic()))
            woken = second.position()
            first.cont()
            code = first.wait()
            tell(f"pid {first.pid} woke and ended with {code}: {first.errors.strip().splitlines()[-1]}")
            assert code == 2, first.errors
            second.event("flyball.gpu.state_changed", after=woken)
            epochs = {
                entry.event.decode(Directive).seq >> 32
                for entry in second.entries("flyball:events:{0}", "flyball.directive.issued", after=began.id)
            }
            assert epochs == {epoch}, f"another one spoke: {epochs}"
            status = second.status_when(lambda status: status.time > began.event.time)
            assert status.pid == second.pid, "the one that woke overwrote the state"
            tell(str(examine(second)))


@contextmanager
def stage() -> Iterator[tuple[BusServer, MockNvml, Path]]:
    """A Redis, cards, and a state directory."""
    with start_bus_server("debian") as server, short_directory() as state:
        state.parent.mkdir(exist_ok=True)
        with MockNvml(state.parent / "nvml", library=build_library(), gpus=GPUS) as mock:
            yield server, mock, state


def supervisor(server: BusServer, mock: MockNvml, state: Path) -> Daemon:
    """A daemon that looks after these cards over this Redis."""
    return Daemon(state, CONFIG, environ={**mock.environment(), "FLYBALL_BUS__URL": server.url})


def watch(state: Path, seconds: float) -> list[str]:
    """The states of gpu0 one after the other, as `status.json` tells them while the bus is away."""
    seen: list[str] = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        status = msgspec.json.decode((state / "status.json").read_bytes(), type=Status)
        now = [row.state for row in status.targets if row.target == "gpu0"]
        if status.bus.state == "away" and now and now != seen[-1:]:
            seen += [str(state) for state in now]
        time.sleep(0.05)
    return seen


def lease_left_s(daemon: Daemon) -> float:
    """How long its lease still lives by the server's clock."""
    client = daemon.redis()
    seconds, microseconds = client.time()
    expires_ms = int(client.hget(lease_key(HOST), "expires_ms"))
    left_s = expires_ms / 1000 - seconds - microseconds / 1e6
    assert 0 < left_s <= LEASE_TTL_S, f"its lease lives for {left_s} s"
    return float(left_s) + 0.05


def directives_told_late(daemon: Daemon, gone_s: float, back_s: float) -> dict[str, int]:
    """How many directives of each target were decided in the outage (Unix times), and so told after it."""
    told: dict[str, int] = {}
    for event in daemon.events("flyball.directive.issued"):
        if gone_s < datetime.fromisoformat(event.time).timestamp() < back_s:
            told[event.subject] = told.get(event.subject, 0) + 1
    return told


def main() -> int:
    """Everything with the waits that count."""
    began_s = time.monotonic()

    def tell(line: str) -> None:
        print(f"{time.monotonic() - began_s:6.1f} s  {line}", flush=True)

    try:
        take_away("killed", AWAY_S, tell)
        take_away("stopped", AWAY_S, tell)
        stay_second(tell)
        sleep_and_wake(ASLEEP_S, tell)
    except (AssertionError, subprocess.SubprocessError) as error:
        tell(f"FAILED: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
