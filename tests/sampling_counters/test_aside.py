"""A look beside the event loop: in time, one at a time, and left behind where it hangs."""

import asyncio
import errno
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from supervisor.sampling.counters.aside import Aside
from supervisor.sampling.counters.source import Untold
from tests.sampling_counters.serving import until

ROOT = Path(__file__).parent.parent.parent
HANGS = (
    "a look at it is not back after 0.1 s, as on a mount that hangs; mend the mount, or raise timeout_s if it is only "
    "slow"
)


async def test_what_a_look_brings_is_handed_on() -> None:
    aside = Aside(20)
    assert await aside.look(lambda: threading.current_thread().daemon) is True

    def fail(error: Exception) -> None:
        raise error

    with pytest.raises(FileNotFoundError, match="gone"):
        await aside.look(lambda: fail(FileNotFoundError(errno.ENOENT, "gone")))
    with pytest.raises(TimeoutError, match="NFS server"):  # the kernel's own is no hang
        await aside.look(lambda: fail(TimeoutError(errno.ETIMEDOUT, "the NFS server is away")))
    assert await aside.look(lambda: 3) == 3


async def test_a_look_that_hangs_is_the_only_one_until_it_is_back() -> None:
    release, looks = threading.Event(), []
    aside = Aside(0.1)

    def look() -> int:
        looks.append(threading.current_thread())
        release.wait()
        return len(looks)

    loop = asyncio.get_running_loop()
    try:
        with pytest.raises(Untold, match=f"^{HANGS}$"):
            await aside.look(look)
        asked_s = loop.time()
        for _ in range(20):
            with pytest.raises(Untold, match=f"^{HANGS}$"):
                await aside.look(look)
        assert loop.time() - asked_s < 1  # it is not waited for again
        assert len(looks) == 1
    finally:
        release.set()
    looks[0].join()
    assert await aside.look(look) == 2


async def test_who_gives_up_leaves_the_look_behind(caplog: pytest.LogCaptureFixture) -> None:
    """Also what it raises in the end troubles nobody any more."""
    release, began = threading.Event(), threading.Event()
    aside = Aside(20)

    def look() -> None:
        began.set()
        release.wait()
        raise OSError(errno.EIO, "too late")

    looking = asyncio.create_task(aside.look(look))
    await until(began.is_set)
    looking.cancel()
    await asyncio.wait([looking])
    assert looking.cancelled()
    with pytest.raises(Untold, match="not back after 20 s"):
        await aside.look(lambda: 3)
    release.set()
    thread = next((one for one in threading.enumerate() if one.name == "counters-file"), None)
    if thread is not None:
        thread.join()
    assert await aside.look(lambda: 3) == 3
    assert caplog.records == []


def test_the_exit_does_not_wait() -> None:
    code = """
import asyncio, threading
from supervisor.sampling.counters.aside import Aside
from supervisor.sampling.counters.source import Untold
async def main():
    try:
        await Aside(0.1).look(threading.Event().wait)
    except Untold:
        print("left behind", threading.active_count())
asyncio.run(main())
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, timeout=30, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "left behind 2\n", "")
