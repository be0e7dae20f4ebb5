"""Files on a mount that really hangs: they cost their own source its figures, and nobody waits for them."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.sample import Counted, Sample
from supervisor.clock import SystemClock
from supervisor.config import WorkloadSection
from supervisor.configuration.counters import CounterSection
from supervisor.sampling.counters.assemble import counter_board, counter_source
from tests.daemon import Daemon, short_directory
from tests.sampling_counters.mounting import Mount, mounted
from tests.sampling_counters.serving import Server, json_section, until

CLOCK = SystemClock()
HANGS = (
    "a look at it is not back after 0.3 s, as on a mount that hangs; mend the mount, or raise timeout_s if it is only "
    "slow"
)


@pytest.fixture
def behind(tmp_path: Path) -> Path:
    """Where the files of the mount really lie."""
    directory = tmp_path / "behind"
    directory.mkdir()
    (directory / "token").write_text("Bearer one")
    return directory


@pytest.fixture
def mount(behind: Path, tmp_path: Path) -> Iterator[Mount]:
    with mounted(behind, tmp_path / "mount") as mount:
        yield mount


def append(file: Path, done: int) -> None:
    with file.open("ab") as log:
        log.write(json.dumps({"type": "performance", "method_calls": {"add": done}}).encode() + b"\n")


def lines_section(mount: Mount, timeout_s: float = 0.3) -> CounterSection:
    return CounterSection(kind="lines", file=str(mount.path / "log"), every_s=0.2, timeout_s=timeout_s)


def looking() -> int:
    """Threads that look at a file."""
    return sum(1 for one in threading.enumerate() if one.name == "counters-file")


async def test_a_log_that_hangs_is_read_again_when_it_is_back(mount: Mount, behind: Path) -> None:
    """From what was written meanwhile, the last line is told, though a look that came too late has read it."""
    append(behind / "log", 1)
    source = counter_source(lines_section(mount), CLOCK)
    polling = asyncio.create_task(source.run())
    await until(lambda: source.latest)
    mount.hang()
    await until(lambda: source.trouble)
    assert source.trouble == f"lines {mount.path}/log: {HANGS}"
    append(behind / "log", 2)
    append(behind / "log", 3)
    await asyncio.sleep(1)  # five polls
    assert looking() == 1
    mount.answer()
    await until(lambda: not source.trouble)
    assert source.latest is not None
    assert source.latest[1].counts == {"add": 3.0}
    append(behind / "log", 4)
    await until(lambda: source.latest is not None and source.latest[1].counts == {"add": 4.0})
    polling.cancel()
    await asyncio.wait([polling])
    assert polling.cancelled()


async def test_a_token_that_hangs_is_told_and_nobody_is_asked(mount: Mount, behind: Path, server: Server) -> None:
    server.says('{"done": 3}')
    file = str(mount.path / "token")
    source = counter_source(json_section(server.url, authorization_file=file, timeout_s=0.3), CLOCK)
    await source.once()
    assert source.trouble == ""
    mount.hang()
    await source.once()
    await source.once()
    assert source.trouble == f"json {server.url}: authorization_file {file}: {HANGS}"
    assert len(server.asked) == 1
    assert looking() == 1
    (behind / "token").write_text("Bearer two")
    mount.answer()
    await until(lambda: not looking())
    await source.once()
    assert source.trouble == ""
    assert [request.headers["Authorization"] for request in server.asked] == ["Bearer one", "Bearer two"]


async def test_others_are_polled_meanwhile_and_the_end_waits_for_nobody(
    mount: Mount, behind: Path, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    append(behind / "log", 1)
    server.says('{"done": 3}')
    hung = lines_section(mount, timeout_s=60)
    guarded = json_section(f"{server.url}/guarded", authorization_file=str(mount.path / "token"), timeout_s=60)
    well = json_section(server.url, every_s=0.2)
    board = counter_board([WorkloadSection(name="x", counters=(hung, guarded, well))], CLOCK)
    mount.hang()
    loop = asyncio.get_running_loop()
    board.start()
    await until(lambda: looking() == 2)
    before = len(server.asked)
    await until(lambda: len(server.asked) > before + 5)
    stopped_s = loop.time()
    await board.stop()
    assert loop.time() - stopped_s < 1
    assert {request.path for request in server.asked} == {"/"}
    assert [one.levelname for one in caplog.records if one.name.startswith("supervisor.sampling.counters")] == []


CONFIG = """
sampling.interval_s = 0.3
[[workload]]
name = "search"
[[workload.counters]]
kind = "lines"
file = "{mount}/log"
every_s = 0.2
timeout_s = 0.3
[[workload.counters]]
kind = "lines"
file = "{place}/log"
every_s = 0.2
"""


def counted(sample: Sample, where: Path) -> Counted:
    return next(one for one in sample.counted if one.source == f"lines {where}/log")


def test_a_daemon_goes_on_and_ends_in_time(mount: Mount, behind: Path, tmp_path: Path) -> None:
    append(behind / "log", 1)
    append(tmp_path / "log", 1)
    with short_directory() as state, Daemon(state, CONFIG.format(mount=mount.path, place=tmp_path)) as daemon:
        at, _ = daemon.sample(lambda sample: counted(sample, mount.path).counts)
        mount.hang()
        at, sample = daemon.sample(lambda sample: counted(sample, mount.path).reason, after=at)
        assert counted(sample, mount.path).reason == f"lines {mount.path}/log: {HANGS}"
        for done in (2, 3):
            append(tmp_path / "log", done)
            at, _ = daemon.sample(lambda sample: counted(sample, tmp_path).counts == {"add": done}, after=at)  # noqa: B023
        daemon.terminate()  # in time, while the look still hangs
        assert daemon.errors.count("as on a mount that hangs") == 1
