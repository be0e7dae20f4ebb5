"""Reservations through the SDK from the real daemon: granted, denied, waited for, kept over kills, and given back."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
import pytest

import flyball
from flyball import MemoryUnavailable, claim, reservation
from flyball.wire import LedgerAnswer, Reservation, reservation_key
from supervisor.bus.keys import capacity_key
from tests.daemon import Daemon, short_directory
from tests.mocknvml.build import build_library
from tests.mocknvml.control import GIB, MockNvml
from tests.sdk.supervision import PATIENCE_S, Lines
from tests.tools import require_tool

LONG_S: Final = float(PATIENCE_S)
#: 8 GiB on the card, all of which may be reserved.
CONFIG: Final = "sampling.interval_s = 0.3\nmemory.memory_limit_mb = 8192\nmemory.memory_reserve_mb = 0\n"


@contextmanager
def started(directory: Path) -> Iterator[Daemon]:
    """A daemon with one empty card, once the ledger knows what there is."""
    require_tool("gcc")
    with MockNvml(directory / "nvml", library=build_library()) as mock, short_directory() as state:
        mock.set(0, memory_total=16 * GIB, memory_used=0)
        with Daemon(state, CONFIG, environ=mock.environment()) as daemon:
            deadline_s = time.monotonic() + PATIENCE_S
            while not daemon.redis().exists(capacity_key(daemon.host, "gpu0")):
                assert time.monotonic() < deadline_s, "the card was never measured"
                time.sleep(0.02)
            yield daemon


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One for all who do not kill it, and leave nothing in the ledger."""
    with started(tmp_path_factory.mktemp("daemon")) as daemon:
        yield daemon


@pytest.fixture
def mine(tmp_path: Path, nowhere: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """One that may be killed, where the SDK looks for it."""
    with started(tmp_path) as daemon:
        found(daemon, monkeypatch)
        yield daemon


@pytest.fixture
def daemon(shared: Daemon, nowhere: None, monkeypatch: pytest.MonkeyPatch) -> Daemon:
    """The shared one, where the SDK looks for it."""
    found(shared, monkeypatch)
    return shared


def found(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the SDK find it, and say what it has to say."""
    monkeypatch.setenv("FLYBALL_URL", daemon.url)
    monkeypatch.setenv("FLYBALL_HOST", daemon.host)
    monkeypatch.setattr(reservation, "_alone", False)


def ledger(daemon: Daemon) -> dict[str, Reservation]:
    """What stands."""
    entries = daemon.redis().hgetall(reservation_key(daemon.host))
    return {name.decode(): msgspec.json.decode(entry, type=Reservation) for name, entry in entries.items()}


def told(daemon: Daemon, outcome: str, *names: str) -> list[str]:
    """Those of the names of which that was said, in order."""
    said = [event.decode(LedgerAnswer).allocation_id for event in daemon.events(f"flyball.memory.{outcome}")]
    return [name for name in said if name in names]


def until_told(daemon: Daemon, outcome: str, name: str) -> None:
    """Wait until that was said of it."""
    daemon.event(f"flyball.memory.{outcome}", lambda event: event.decode(LedgerAnswer).allocation_id == name)


def test_granted_denied_and_given_back(daemon: Daemon, lines: Lines) -> None:
    with flyball.reserve("llm_model", vram_mb=6144, owner="server") as held:
        assert held.granted
        entry = ledger(daemon)["llm_model"]
        assert (entry.owner, entry.pid, entry.parts) == ("server", os.getpid(), {"gpu0": 6 * GIB})
        daemon.status_when(lambda _: flyball.available() == 2048)
        with pytest.raises(MemoryUnavailable) as denied:
            flyball.reserve("other_model", vram_mb=2049).__enter__()
        for words in ("2049 MiB of gpu0", "2048 MiB of gpu0 can be had", "llm_model (6144 MiB)"):
            assert words in str(denied.value)
        assert denied.value.answer.available == {"gpu0": 2 * GIB}
        with pytest.raises(MemoryUnavailable, match="there is a reservation of that name"):
            flyball.reserve("llm_model", vram_mb=1).__enter__()
        with pytest.raises(MemoryUnavailable, match="no gpu7"):
            flyball.reserve("elsewhere", vram_mb=1, gpu=7).__enter__()
    until_told(daemon, "released", "llm_model")
    assert ledger(daemon) == {}
    assert told(daemon, "reserved", "llm_model") == ["llm_model"]
    assert lines.warnings == []


def test_two_wait_for_their_turn(daemon: Daemon) -> None:
    """Each takes more than half of the card; nobody ever holds it with another one."""
    together, most = [0], [0]
    guard = threading.Lock()

    def work(name: str) -> None:
        with flyball.reserve(name, vram_mb=5000, wait_s=LONG_S):
            with guard:
                together[0] += 1
                most[0] = max(most[0], together[0])
            assert name in ledger(daemon)
            with guard:
                together[0] -= 1

    threads = [threading.Thread(target=work, args=(f"model-{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG_S)
    assert not any(thread.is_alive() for thread in threads)
    assert most == [1]
    names = [f"model-{number}" for number in range(4)]
    assert sorted(told(daemon, "reserved", *names)) == names


HOLD: Final = """
import sys, flyball
with flyball.reserve("killed_model", vram_mb=6144):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_program_held_can_be_had(daemon: Daemon) -> None:
    """Who waits gets it without asking in vain for long."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], env=daemon.workload_environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"held\n"
        with pytest.raises(MemoryUnavailable):
            flyball.reserve("next_model", vram_mb=6144).__enter__()
        program.kill()
        with flyball.reserve("next_model", vram_mb=6144, wait_s=LONG_S) as held:
            assert held.granted
            assert ledger(daemon).keys() == {"next_model"}
    assert told(daemon, "expired", "killed_model") == ["killed_model"]


def test_kills_take_nothing_and_double_nothing(mine: Daemon, lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    """With kill -9 of the daemon, then of its bus: what is held stays held, what is asked meanwhile waits."""
    monkeypatch.setattr(claim, "PATIENCE_S", LONG_S)
    with flyball.reserve("llm_model", vram_mb=6144):
        before = ledger(mine)
        mine.kill()
        back = threading.Thread(target=mine.start)
        back.start()
        with flyball.reserve("small_model", vram_mb=1024, wait_s=LONG_S) as held:
            assert held.granted
            assert ledger(mine).keys() == {"llm_model", "small_model"}
        back.join()
        until_told(mine, "released", "small_model")
        kill_bus(mine)
        assert ledger(mine) == before
        with pytest.raises(MemoryUnavailable):
            flyball.reserve("other_model", vram_mb=6144, wait_s=1).__enter__()
    until_told(mine, "released", "llm_model")
    assert ledger(mine) == {}
    assert told(mine, "released", "llm_model", "small_model") == ["small_model", "llm_model"]
    assert lines.warnings == []


def kill_bus(daemon: Daemon) -> None:
    """Come back when the daemon has a new one."""
    there, deadline_s = daemon.errors.count("the bus is there"), time.monotonic() + PATIENCE_S
    os.kill(daemon.bus_pid, signal.SIGKILL)
    while daemon.errors.count("the bus is there") == there:
        assert time.monotonic() < deadline_s, daemon.errors
        time.sleep(0.02)
    daemon.redis().connection_pool.reset()


async def test_one_start_up_at_a_time(daemon: Daemon) -> None:
    async with flyball.reserve("first", vram_mb=1024, exclusive_start=True) as first:
        with pytest.raises(MemoryUnavailable, match="first of first is in its start-up on gpu0"):
            await flyball.reserve("second", vram_mb=1024, exclusive_start=True).__aenter__()
        first.started()
        async with flyball.reserve("second", vram_mb=1024, exclusive_start=True, wait_s=LONG_S) as second:
            assert second.granted
            assert {name: entry.starting for name, entry in ledger(daemon).items()} == {"first": False, "second": True}
