"""Who we are, and whether another supervisor lives: against real processes where they can show it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.workload import NAME_PATTERN
from supervisor.errors import StateDirectoryError
from supervisor.identity import Identity, host_name, is_alive, own_identity
from supervisor.process import process_start_s

OWN = Identity(machine_id="m", boot_id="b", pid=1, start_time_s=1.0, pid_namespace=7, host="here")


def test_we_live_ourselves(tmp_path: Path) -> None:
    own = own_identity(tmp_path)
    assert own.pid == os.getpid()
    assert is_alive(own, own) is True


def test_a_process_that_ended_is_dead_as_a_zombie_and_after(tmp_path: Path) -> None:
    own = own_identity(tmp_path)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    start_time_s = process_start_s(child.pid)
    assert start_time_s is not None and start_time_s >= own.start_time_s
    other = replace(own, pid=child.pid, start_time_s=start_time_s)
    assert is_alive(other, own) is True
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert is_alive(other, own) is False, "a zombie supervises nothing"
    child.communicate()
    assert is_alive(other, own) is False


def test_a_pid_that_was_used_again_is_another_process(tmp_path: Path) -> None:
    own = own_identity(tmp_path)
    assert is_alive(replace(own, start_time_s=own.start_time_s - 1), own) is False


@pytest.mark.parametrize("elsewhere", [{"machine_id": "n"}, {"boot_id": "c"}, {"pid_namespace": 8}])
def test_what_is_elsewhere_cannot_be_told(elsewhere: dict[str, object]) -> None:
    assert is_alive(replace(OWN, **elsewhere), OWN) is None


def test_a_process_that_is_hidden_cannot_be_told(tmp_path: Path) -> None:
    assert is_alive(replace(OWN, pid=os.getpid()), OWN, proc=tmp_path) is None


def test_the_machine_id_is_stable_and_not_shown(tmp_path: Path) -> None:
    machine_id_file = tmp_path / "machine-id.etc"
    machine_id_file.write_text("0123456789abcdef0123456789abcdef\n")
    first = own_identity(tmp_path, machine_id_file=machine_id_file)
    assert first == own_identity(tmp_path, machine_id_file=machine_id_file)
    assert re.fullmatch("[0-9a-f]{32}", first.machine_id)
    assert first.machine_id not in machine_id_file.read_text()
    assert not (tmp_path / "machine-id").exists()


@pytest.mark.parametrize("content", [None, "", "uninitialized\n"])
def test_a_machine_without_an_id_gets_one_that_is_kept(tmp_path: Path, content: str | None) -> None:
    machine_id_file = tmp_path / "machine-id.etc"
    if content is not None:
        machine_id_file.write_text(content)
    state, other_state = tmp_path / "state", tmp_path / "other"
    first = own_identity(state, machine_id_file=machine_id_file)
    assert first == own_identity(state, machine_id_file=machine_id_file)
    assert first.machine_id != own_identity(other_state, machine_id_file=machine_id_file).machine_id


def test_an_id_that_cannot_be_kept_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateDirectoryError, match="FLYBALL_STATE_DIR"):
        own_identity(tmp_path / "file" / "state", machine_id_file=tmp_path / "none")


@given(st.text())
def test_every_host_name_can_stand_in_a_key(name: str) -> None:
    assert re.fullmatch(NAME_PATTERN, host_name(name))


def test_a_usable_name_stays_as_it_is() -> None:
    assert host_name("gpu-box.lab_2") == "gpu-box.lab_2"
    assert host_name("gpu box") == "gpu-box"
