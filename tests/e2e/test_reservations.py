"""Memory is promised once, kept over restarts and losses, and free again when its owner is gone."""

import json
import subprocess
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from schemas.event import LedgerRead, MemoryOrphaned, MemoryOverused
from schemas.status import MemoryStatus, Status
from schemas.workload import LedgerAnswer, reservation_key
from supervisor.bus.keys import events_key, inbox_key, samples_key, snapshot_key
from tests.daemon import Daemon
from tests.mocknvml.control import GIB, MockNvml, MockProcess
from tests.shows import reservations as show
from tests.tools import require_tool

CONFIG: Final = "[sampling]\ninterval_s = 0.2\n[memory]\nmemory_reserve_mb = 0\n"


@pytest.fixture
def daemon(state: Path, mock: MockNvml) -> Iterator[Daemon]:
    """Over a card of 8 GiB."""
    mock.set(memory_total=8 * GIB, memory_used=0, memory_reserved=0)
    with Daemon(state, CONFIG, environ=mock.environment()) as daemon:
        show.await_capacity(daemon)
        yield daemon


@pytest.fixture
def owner() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that memory is reserved for."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


def post(daemon: Daemon, what: str, **body: Any) -> tuple[int, dict[str, Any]]:
    """Ask the API; status and answer."""
    url = daemon.status_when(lambda status: status.api.url).api.url or ""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=20)
    token = (daemon.state / "token").read_text().strip()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    try:
        connection.request("POST", f"/api/gpu/memory/{what}", json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def row(status: Status) -> MemoryStatus:
    """The card's memory in the status; nothing is known of it before the first sample."""
    nothing = MemoryStatus(target="gpu0", limit_bytes=None, reserved_bytes=0, available_bytes=None)
    return next((row for row in status.memory if row.target == "gpu0"), nothing)


def test_nobody_gets_more_than_there_is_whatever_dies() -> None:
    """A little of Must show 2; `tests/shows/reservations.py` plays all of it."""
    require_tool("gcc")
    said: list[str] = []
    show.play(said.append, claimants=10, rounds=4, kills=3, owners=2, interval_s=0.3)
    assert "killed: both 1 times, its bus 1 times, the daemon 1 times" in said[-3], said


def test_a_reservation_is_kept_over_a_restart_and_ends_with_its_owner(
    daemon: Daemon, owner: "subprocess.Popen[bytes]"
) -> None:
    """The next daemon knows it without being told, and sees that its owner has died meanwhile."""
    status, answer = post(daemon, "allocate", allocation_id="llm_model", size_mb=2048, pid=owner.pid)
    assert (status, answer["available_mb"]) == (201, {"gpu0": 6144})
    assert post(daemon, "allocate", allocation_id="llm_model", size_mb=1)[0] == 409
    daemon.status_when(lambda status: row(status).reservations == ("llm_model",))
    assert "llm_model" in daemon.command("status").stdout
    assert daemon.terminate() == 0
    daemon.start()
    shown = row(daemon.status_when(lambda status: row(status).available_bytes is not None))
    assert (shown.reservations, shown.reserved_bytes, shown.available_bytes) == (("llm_model",), 2 * GIB, 6 * GIB)
    assert daemon.events("flyball.memory.ledger_read") == []
    daemon.kill()
    owner.kill()
    daemon.start()
    expired = daemon.event("flyball.memory.expired").event
    assert expired.text == f"llm_model: 2048 MiB of gpu0 are free again: process {owner.pid} of llm_model has ended"
    assert show.ledger(daemon) == {}


def test_a_ledger_that_a_new_supervisor_finds_is_read(daemon: Daemon, owner: "subprocess.Popen[bytes]") -> None:
    """One without a memory of its own learns what stands, and looks after it."""
    assert post(daemon, "allocate", allocation_id="found", size_mb=1024, pid=owner.pid)[0] == 201
    daemon.kill()  # its bus lives on, and forgets whom it knew
    client = daemon.redis()
    client.delete(snapshot_key(daemon.host, "memory"))
    for stream in (samples_key(), inbox_key(), events_key()):
        client.xgroup_destroy(stream, f"memory.{daemon.host}")
    daemon.start()
    read = daemon.event("flyball.memory.ledger_read").event
    assert [one.allocation_id for one in read.decode(LedgerRead).reservations] == ["found"]
    daemon.status_when(lambda status: row(status).reservations == ("found",))
    owner.kill()
    daemon.event("flyball.memory.expired")


def test_what_a_bus_lost_with_all_its_data_is_promised_still(daemon: Daemon) -> None:
    """Nothing is granted before the ledger stands again, as the handler knows it."""
    assert post(daemon, "allocate", allocation_id="kept", size_mb=8000, ttl_s=600)[0] == 201
    daemon.kill()  # what was answered within the last seconds would be sent again in any case
    daemon.start()
    daemon.status_when(lambda status: row(status).reservations == ("kept",))
    daemon.redis().flushall()
    read = daemon.event("flyball.memory.ledger_read", lambda event: event.decode(LedgerRead).restored).event
    assert read.decode(LedgerRead).restored == ("kept",)
    show.await_capacity(daemon)
    status, answer = post(daemon, "allocate", allocation_id="more", size_mb=500)
    assert (status, answer["available_mb"]) == (409, {"gpu0": 192})
    assert [holder["allocation_id"] for holder in answer["holders"]] == ["kept"]


def test_use_that_nobody_reserved_or_owns_is_told(
    daemon: Daemon, mock: MockNvml, owner: "subprocess.Popen[bytes]"
) -> None:
    """What the driver shows against the ledger: more than reserved, and then by a process that is gone."""
    assert post(daemon, "allocate", allocation_id="llm", size_mb=1024, pid=owner.pid)[0] == 201
    with mock.together():
        mock.set(memory_used=3 * GIB)
        mock.set_processes(0, [MockProcess(owner.pid, 3 * GIB)])
    over = daemon.event("flyball.memory.overused").event
    assert over.text == "llm of llm uses 3072 MiB of gpu0, and has reserved 1024 MiB"
    assert over.decode(MemoryOverused).used_bytes == 3 * GIB
    # its GiB is its own, the two others are no longer to be had
    status, answer = post(daemon, "allocate", allocation_id="more", size_mb=6000)
    assert (status, answer["available_mb"]) == (409, {"gpu0": 5120})
    owner.kill()
    orphaned = daemon.event("flyball.memory.orphaned").event
    assert orphaned.decode(MemoryOrphaned).pids == (owner.pid,)
    ended = [one.decode(MemoryOverused).outcome for one in daemon.events("flyball.memory.overused")]
    assert ended == ["began", "ended"]
    mock.set(memory_used=0)
    mock.set_processes(0, [])
    daemon.event("flyball.memory.orphaned", lambda event: event.decode(MemoryOrphaned).outcome == "ended")


def test_a_card_that_hangs_has_nothing_to_give(daemon: Daemon, mock: MockNvml) -> None:
    """What was free is not known any more after three intervals, and is promised to nobody."""
    daemon.status_when(lambda status: row(status).available_bytes is not None)
    mock.set(0, hang=1)
    daemon.status_when(lambda status: row(status).available_bytes is None)
    daemon.sample(lambda sample: show.measured(daemon) is None)
    status, answer = post(daemon, "allocate", allocation_id="a", size_mb=1)
    assert (status, answer["available_mb"]) == (409, {})
    assert "what is free of gpu0 is not known, for there is no fresh reading of it" in answer["detail"]
    mock.set(0, hang=0)
    show.await_capacity(daemon)
    assert post(daemon, "allocate", allocation_id="a", size_mb=1)[0] == 201


def test_one_after_the_other_starts_up(daemon: Daemon) -> None:
    """`exclusive_start` over the API, and the key that it all stands in."""
    first = {"allocation_id": "first", "size_mb": 1, "ttl_s": 60, "exclusive_start": True}
    assert post(daemon, "allocate", **first)[0] == 201
    status, answer = post(daemon, "allocate", **{**first, "allocation_id": "second"})
    assert (status, answer["outcome"]) == (409, "denied")
    assert "first of first is in its start-up on gpu0" in answer["detail"]
    assert post(daemon, "started", allocation_id="first")[0] == 200
    assert post(daemon, "allocate", **{**first, "allocation_id": "second"})[0] == 201
    assert post(daemon, "deallocate", allocation_id="first")[0] == 200
    assert post(daemon, "deallocate", allocation_id="first")[0] == 404
    assert daemon.redis().hkeys(reservation_key(daemon.host)) == [b"second"]
    told = [event.decode(LedgerAnswer).outcome for event in daemon.events() if event.type.startswith("flyball.memory.")]
    assert told == ["reserved", "denied", "started", "reserved", "released"]
