"""What can be told of a process, also where the kernel hides those of others."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.process import lives, process_start_s


def test_a_process_lives_only_with_its_own_start() -> None:
    started_s = process_start_s(os.getpid())
    assert started_s is not None
    assert lives(os.getpid())
    assert lives(os.getpid(), started_s)
    assert not lives(os.getpid(), started_s + 1)


def test_a_process_that_ended_does_not_live_as_a_zombie_and_after() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started_s = process_start_s(child.pid)
    assert lives(child.pid, started_s)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not lives(child.pid)
    child.communicate()
    assert not lives(child.pid)


@pytest.mark.parametrize("pid", [0, -1, 4_999_812, 2**40])
def test_a_pid_that_nobody_has(pid: int) -> None:
    assert process_start_s(pid) is None
    assert not lives(pid)


def test_a_name_with_brackets_and_spaces_does_not_shift_the_fields(tmp_path: Path) -> None:
    (tmp_path / "5").mkdir()
    (tmp_path / "5" / "stat").write_text("5 (a) S 9) R " + " ".join(str(n) for n in range(4, 53)))
    assert process_start_s(5, tmp_path) == 22 / os.sysconf("SC_CLK_TCK")


def test_one_that_is_not_shown_is_hidden(tmp_path: Path) -> None:
    """As under hidepid=2, where /proc shows no process of another user."""
    with pytest.raises(PermissionError, match=f"process {os.getpid()} is not shown in /proc"):
        process_start_s(os.getpid(), tmp_path)


def test_one_that_may_not_be_read_is_hidden_and_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under hidepid=1, where /proc shows a process of another user and lets nobody look into it."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(PermissionError):
        process_start_s(1)
    assert lives(1)
    assert lives(1, 5.0)
