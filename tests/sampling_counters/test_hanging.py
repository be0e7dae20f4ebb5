"""Files on a mount that hangs: they cost their own source its figures, and nobody waits for them.

No real mount hangs here, since whoever looks at the processes that wait for one may hang with them: a read of the files
concerned waits in its thread as it would in the kernel.
"""

import asyncio
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.clock import SystemClock
from supervisor.config import WorkloadSection
from supervisor.configuration.counters import CounterSection
from supervisor.sampling.counters.assemble import counter_board, counter_source
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


class Mount:
    """A directory whose files may hang."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._answers = threading.Event()
        self._answers.set()
        self._read = os.read

    def read(self, descriptor: int, most: int) -> bytes:
        """As `os.read`."""
        if self.path in Path(f"/proc/self/fd/{descriptor}").readlink().parents:
            self._answers.wait()
        return self._read(descriptor, most)

    def hang(self) -> None:
        """From now on, nobody gets an answer."""
        self._answers.clear()

    def answer(self) -> None:
        """Who waits gets an answer."""
        self._answers.set()


@pytest.fixture
def mount(behind: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mount]:
    mount = Mount(behind)
    monkeypatch.setattr(os, "read", mount.read)
    yield mount
    mount.answer()


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
