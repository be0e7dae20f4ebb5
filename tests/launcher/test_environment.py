"""When the launcher makes, mends or leaves alone its environment."""

import json
from pathlib import Path

import pytest

from tests.launcher.conftest import Checkout, Gate

pytestmark = pytest.mark.usefixtures("uv")

# Notes what a Python process starts, before any of its own code runs.
WATCH = """
import sys

def note(event, arguments):
    if event in {"subprocess.Popen", "os.fork", "os.posix_spawn", "os.system", "os.exec"}:
        with open(NOTES, "a") as notes:
            print(event, file=notes)

sys.addaudithook(note)
"""


def edit_stamp(checkout: Checkout, name: str, value: str) -> None:
    stamp = checkout.root / ".venv/flyball-stamp.json"
    stamp.write_text(json.dumps({**json.loads(stamp.read_text()), name: value}))


def test_first_start_installs_the_lock_by_hash_and_then_our_two_packages(checkout: Checkout) -> None:
    assert checkout.run("status").returncode == 0
    venv, locked, ours = checkout.uv_calls()
    assert venv.startswith("venv ")
    assert f"--require-hashes -r {checkout.root}/requirements/run.lock" in locked
    assert "--no-deps --no-build-isolation" in ours
    assert f"--editable {checkout.root} --editable {checkout.root}/sdk" in ours


def test_second_start_starts_nothing_but_the_command(checkout: Checkout, tmp_path: Path) -> None:
    checkout.run("status")
    checkout.forget_uv_calls()
    notes, site = tmp_path / "notes", tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(f"NOTES = {str(notes)!r}\n{WATCH}")
    checkout.environment["PYTHONPATH"] = str(site)
    assert checkout.run("status").returncode == 0
    assert notes.read_text().split() == ["os.exec"]
    assert checkout.uv_calls() == []


def test_the_environment_for_tests_serves_the_main_job_too(checkout: Checkout) -> None:
    checkout.run("test", "--version")
    checkout.forget_uv_calls()
    checkout.run("run")
    assert checkout.uv_calls() == []


@pytest.mark.parametrize(
    "name", ["requirements/run.lock", "pyproject.toml", "sdk/pyproject.toml", "requirements/run.in"]
)
def test_a_changed_input_is_installed_in_place_once(checkout: Checkout, name: str) -> None:
    checkout.run("status")
    checkout.forget_uv_calls()
    with (checkout.root / name).open("a") as changed:
        changed.write("# changed\n")
    checkout.run("status")
    assert not any(call.startswith("venv") for call in checkout.uv_calls())
    assert any("--require-hashes" in call for call in checkout.uv_calls()) == name.endswith(".lock")
    assert "--editable" in checkout.uv_calls()[-1]
    checkout.forget_uv_calls()
    checkout.run("status")
    assert checkout.uv_calls() == []


@pytest.mark.parametrize("spoilt", ["python", "stamp", "interpreter", "everything"])
def test_an_environment_that_cannot_be_trusted_is_made_anew(checkout: Checkout, spoilt: str) -> None:
    checkout.run("status")
    checkout.forget_uv_calls()
    match spoilt:
        case "python":
            edit_stamp(checkout, "python", "cpython 3.11.0 in /elsewhere")
        case "stamp":
            (checkout.root / ".venv/flyball-stamp.json").write_text('{"python": ')
        case "interpreter":
            (checkout.root / ".venv/bin/python").unlink()
        case "everything":
            (checkout.root / ".venv").rename(checkout.root / "gone")
            (checkout.root / ".venv").write_text("a file in its place")
    assert checkout.run("status").returncode == 0
    assert checkout.uv_calls()[0].startswith("venv ")


def test_a_moved_checkout_is_made_anew(checkout: Checkout) -> None:
    checkout.run("status")
    checkout.forget_uv_calls()
    checkout.root = checkout.root.rename(checkout.root.with_name("moved"))
    assert checkout.run("status").returncode == 0
    assert f"{checkout.root}/.venv" in checkout.uv_calls()[0]


def test_of_two_starts_at_once_one_installs_and_the_other_waits(checkout: Checkout, gate: Gate) -> None:
    gate.put_up()
    with checkout.popen("first") as first:
        gate.wait_until_reached()
        with checkout.popen("second") as second:
            assert second.stderr is not None
            assert "waiting" in second.stderr.readline()
            gate.open()
            assert "second got" not in first.communicate()[0]
            assert "flyball got <second>" in second.communicate()[0]
    assert (first.returncode, second.returncode) == (0, 0)
    assert [call.split()[0] for call in checkout.uv_calls()] == ["venv", "pip", "pip"]


def test_an_install_whose_launcher_was_killed_is_waited_for_and_then_redone(checkout: Checkout, gate: Gate) -> None:
    gate.put_up()
    with checkout.popen("first") as first:
        gate.wait_until_reached()
        first.kill()
        first.wait()
        with checkout.popen("second") as second:  # the killed launcher's uv is still at work
            assert second.stderr is not None
            assert "waiting" in second.stderr.readline()
            gate.open()
            assert "flyball got <second>" in second.communicate()[0]
    assert [call.split()[0] for call in checkout.uv_calls()] == ["venv", "pip", "venv", "pip", "pip"]


def test_a_failed_install_says_what_and_why_and_one_command(checkout: Checkout, uv: Path) -> None:
    uv.write_text('#!/bin/sh\ncase "$*" in venv*) ;; *) echo "no such index" >&2; exit 2 ;; esac\n')
    done = checkout.run("status")
    assert done.returncode == 1
    assert "no such index" in done.stderr
    assert "cannot install into .venv: uv failed (exit 2)" in done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"  try: {uv} pip install ")
    assert done.stdout == ""


def test_a_checkout_that_cannot_be_written_is_one_sentence(checkout: Checkout) -> None:
    (checkout.root / ".flyball.lock").mkdir()  # root is refused too
    done = checkout.run("status")
    assert done.returncode == 1
    assert f"cannot prepare {checkout.root}/.venv: Is a directory" in done.stderr
    assert done.stderr.splitlines()[-1] == f"  try: ls -ld {checkout.root}"


def test_an_interrupted_update_is_not_trusted_though_its_lock_goes_back(checkout: Checkout, gate: Gate) -> None:
    checkout.run("status")
    lock = checkout.root / "requirements/run.lock"
    lock.write_text("leaf==2\n")
    gate.put_up()
    with checkout.popen("status") as interrupted:
        gate.wait_until_reached()
        interrupted.kill()
    gate.open()
    checkout.forget_uv_calls()
    lock.write_text("leaf==1\n")
    assert checkout.run("status").returncode == 0
    assert [call.split()[0] for call in checkout.uv_calls()] == ["venv", "pip", "pip"]
