"""The API of the running daemon: what is asked for holds at once, and what happens to the daemon is shown."""

import asyncio
import itertools
import stat
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from schemas.event import OverrideChanged
from supervisor.bus.keys import samples_key
from supervisor.sampling.assemble import raise_descriptor_limit
from tests.api.client import Client
from tests.busservers import start_bus_server
from tests.daemon import Daemon
from tests.mocknvml.control import MockNvml

#: An ordinary interval of sampling, for a cadence that can be measured within a test.
INTERVAL_S: Final = 0.2
IDLE: Final = 1_000


@pytest.fixture
def mocked(tmp_path: Path, mock: MockNvml) -> Iterator[MockNvml]:
    """The mock driver, back to what it was afterwards."""
    yield mock
    mock.set(0, hang=0)


@pytest.fixture
def own(state: Path, mocked: MockNvml) -> Iterator[Daemon]:
    """A daemon that a test may hurt."""
    with Daemon(state, f"[sampling]\ninterval_s = {INTERVAL_S}\n", environ=mocked.environment()) as daemon:
        daemon.event("flyball.directive.issued", lambda event: event.subject == "gpu0")
        yield daemon


def test_an_order_is_shown_as_soon_as_it_is_given(api: Client, daemon: Daemon) -> None:
    before = api.get("/api/gpu/status").document
    assert (before["state"], before["action"], before["is_throttled"]) == ("OPTIMAL", "run", False)
    position = daemon.position()
    for speed in (0.5, 0.25, 0.75):
        asked = api.post("/api/targets/gpu0/throttle", {"speed": speed, "for_s": 60})
        assert asked.status == 200
        assert asked.document["event"]["outcome"] == "started"
        assert asked.document["text"].startswith("api 127.0.0.1 throttled gpu0 to speed ")
        now = api.get("/api/gpu/status").document
        assert (now["action"], now["speed"], now["is_throttled"]) == ("throttle", speed, True)
        assert now["seq"] > before["seq"]
        assert now["override"]["operator"] == "api 127.0.0.1"
        wanted = api.get("/api/gpu/throttle/status").document
        assert (wanted["should_throttle"], wanted["speed"], wanted["seq"]) == (True, speed, now["seq"])
        assert {one["issuer"]: one["speed"] for one in wanted["demands"]} == {"operator": speed, "throttle": 1.0}
    resumed = api.post("/api/targets/gpu0/resume")
    assert (resumed.status, resumed.document["event"]["outcome"]) == (200, "ended")
    assert api.get("/api/gpu/status").document["action"] == "run"
    again = api.post("/api/targets/gpu0/resume")
    assert (again.status, again.document["event"]["outcome"]) == (409, "refused")
    assert "no override stands on gpu0" in again.detail
    told = daemon.events("flyball.override.changed", after=position)
    assert [event.decode(OverrideChanged).outcome for event in told] == [*["started"] * 3, "ended", "refused"]
    assert {event.decode(OverrideChanged).operator for event in told} == {"api 127.0.0.1"}


def test_a_workload_is_paused_by_its_name(api: Client) -> None:
    asked = api.post("/api/targets/workload.trainer/pause", {"for_s": 5})
    assert asked.status == 200
    assert "nobody has joined under that name" in asked.document["text"]
    assert api.post("/api/targets/workload.trainer/resume").status == 200


def test_a_card_that_hangs_is_blind_with_its_reason(own: Daemon, mocked: MockNvml) -> None:
    api = Client(own)
    assert api.get("/api/gpu/status").document["temperature_celsius"] == 45.0
    mocked.set(0, hang=1)
    own.status_when(lambda status: any(target.state == "BLIND" for target in status.targets))
    status = api.get("/api/gpu/status").document
    assert (status["state"], status["reading"], status["action"]) == ("BLIND", "blind", "run")
    assert "no answer" in status["why"]
    assert "temperature_celsius" not in status
    assert api.get("/api/gpu/metrics").document["gpu"]["reading"] == "blind"


def test_while_the_bus_is_away_nothing_is_promised(state: Path, mocked: MockNvml) -> None:
    """What was read is still shown; a request is refused with 503, and may be repeated later."""
    with start_bus_server("embedded") as bus:
        environ = {**mocked.environment(), "FLYBALL_BUS__URL": bus.url}
        with Daemon(state, f"[sampling]\ninterval_s = {INTERVAL_S}\n", environ=environ) as daemon:
            daemon.event("flyball.directive.issued", lambda event: event.subject == "gpu0")
            api = Client(daemon)
            bus.kill()
            refused = api.post("/api/targets/gpu0/pause", {"for_s": 5})
            assert refused.status == 503
            assert refused.headers["retry-after"] == "1"
            assert "is away" in refused.detail
            first, now = (api.get("/api/gpu/metrics").document for _ in range(2))
            deadline = time.monotonic() + 20
            while now["sample_id"] == first["sample_id"] and time.monotonic() < deadline:
                now = api.get("/api/gpu/metrics").document
            assert now["sample_id"] != first["sample_id"], "sampling goes on"
            assert api.get("/livez").status == 200
            bus.start()
            ask_again = (api.post("/api/targets/gpu0/pause", {"for_s": 5}).status for _ in itertools.count())
            assert 200 in itertools.takewhile(lambda _: time.monotonic() < deadline, ask_again)


def test_where_others_may_ask_everything_needs_the_token(state: Path) -> None:
    """And the greeting says so; a restart keeps the token."""
    with Daemon(state, "[api]\nhost = '0.0.0.0'\n") as daemon:
        assert any("every request needs" in line and str(state / "token") in line for line in daemon.output)
        assert stat.S_IMODE((state / "token").stat().st_mode) == 0o600
        api = Client(daemon)
        assert api.get("/api/status").status == 200
        for path in ("/api/status", "/", "/openapi.json", "/metrics", "/api/events", "/nowhere"):
            assert api.get(path, Authorization="").status == 401, path
        assert [api.get(path, Authorization="").status for path in ("/livez", "/readyz")] == [200, 200]
        assert api.get("/openapi.json").document["paths"]["/api/status"]["get"]["security"]
        assert "listens at 0.0.0.0 unencrypted" in daemon.errors
        assert api.token not in daemon.errors + "".join(daemon.output)
        token = api.token
        assert daemon.terminate() == 0
        daemon.start()
        assert Client(daemon).token == token


def test_a_thousand_who_say_nothing_do_not_slow_the_sampler(own: Daemon) -> None:
    """Nor do they keep others from asking, or the daemon from ending."""
    raise_descriptor_limit()
    api = Client(own)
    with asyncio.Runner() as runner:
        waiting = runner.run(_idle(api.url))
        after = own.position(samples_key())
        own.sample(lambda sample: sample.tick, after=after)
        started = own.position(samples_key())
        answers = [api.get("/api/gpu/status").status for _ in range(50)]
        for _ in range(15):
            after, _ = own.sample(lambda sample: sample.scope == "full", after=after)
        assert answers == [200] * 50
        times = [one.monotonic_s for one in own.samples(after=started) if one.scope == "full"]
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert statistics.median(gaps) < 1.2 * INTERVAL_S
        assert not any(one.gap for one in own.samples(after=started))
        assert own.terminate() == 0
        for writer in waiting:
            writer.close()
        runner.run(asyncio.sleep(0))


async def _idle(url: str) -> list[asyncio.StreamWriter]:
    """Connections of which half never say anything, and half begin a request."""
    port = int(url.rpartition(":")[2])
    writers = []
    for number in range(IDLE):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        if number % 2:
            writer.write(b"POST /api/targets/gpu0/pause HTTP/1.1\r\nHost: localhost\r\n")
        writers.append(writer)
    return writers
