"""One supervisor a state directory, with real processes as the holders."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP

import msgspec
import pytest

from supervisor.errors import HostTaken, StateDirectoryError
from supervisor.identity import own_identity
from supervisor.runtime.lock import Holder, StateLock

HOLD = """
import sys
from pathlib import Path
from supervisor.identity import own_identity
from supervisor.runtime.lock import StateLock
with StateLock(Path(sys.argv[1]), own_identity(Path(sys.argv[1]), "gpu-box")):
    print("held", flush=True)
    sys.stdin.read()
"""
ROOT = Path(__file__).parents[2]


@contextmanager
def holder(state: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds the lock until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, state], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    assert process.stdin and process.stdout
    try:
        assert process.stdout.readline() == b"held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def lock(state: Path) -> StateLock:
    return StateLock(state, own_identity(state))


def test_a_second_process_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        with pytest.raises(HostTaken, match=f"pid {process.pid} of gpu-box since 2") as caught:
            lock(tmp_path).acquire()
        assert caught.value.exit_code == 2
        assert f"kill {process.pid}" in caught.value.hint


def test_the_lock_ends_with_a_killed_holder(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        process.send_signal(SIGKILL)
        process.wait()
        with lock(tmp_path):
            assert msgspec.json.decode((tmp_path / "lock").read_bytes(), type=Holder).identity.pid == os.getpid()


def test_a_stopped_holder_keeps_the_lock(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        process.send_signal(SIGSTOP)
        try:
            with pytest.raises(HostTaken, match=f"pid {process.pid} "):
                lock(tmp_path).acquire()
        finally:
            process.send_signal(SIGCONT)


def test_a_clean_end_leaves_the_lock_free(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        process.communicate()
        with lock(tmp_path):
            pass


def test_a_program_that_the_holder_started_does_not_inherit_the_lock(tmp_path: Path) -> None:
    held = lock(tmp_path)
    held.acquire()
    child = subprocess.Popen(
        [sys.executable, "-c", "input(print('up', flush=True))"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False,
    )  # fmt: skip
    assert child.stdout
    try:
        assert child.stdout.readline() == b"up\n"
        held.release()
        with lock(tmp_path):
            assert child.poll() is None
    finally:
        child.communicate(b"\n")


def test_released_and_taken_again_by_the_same_process(tmp_path: Path) -> None:
    again = lock(tmp_path)
    for _ in range(2):
        with again, pytest.raises(HostTaken):
            lock(tmp_path).acquire()
    again.release()


def test_a_holder_that_has_not_written_its_name_is_still_a_holder(tmp_path: Path) -> None:
    with lock(tmp_path):
        os.truncate(tmp_path / "lock", 0)
        with pytest.raises(HostTaken, match="not said its name"):
            lock(tmp_path).acquire()


def test_the_directory_is_made_private(tmp_path: Path) -> None:
    state = tmp_path / "deep" / "state"
    with lock(state):
        assert state.stat().st_mode & 0o777 == 0o700
        assert (state / "lock").stat().st_mode & 0o777 == 0o600


def test_a_directory_that_cannot_be_made_says_what_to_do(tmp_path: Path) -> None:
    identity = own_identity(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(StateDirectoryError, match=r"Not a directory.*FLYBALL_STATE_DIR") as caught:
        StateLock(tmp_path / "file" / "state", identity).acquire()
    assert caught.value.exit_code == 2
