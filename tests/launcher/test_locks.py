"""The lock files: fresh, hashed, without addresses, and consistent with each other and with both pyproject.toml."""

import re
import tomllib
from pathlib import Path

import pytest

from requirements import lock
from tests.launcher.conftest import ROOT

every_lock = pytest.mark.parametrize("name", lock.LOCKS)


def pins(name: str) -> dict[str, str]:
    """The packages of a lock, each with its version and hashes; for which platforms it holds is left out."""
    text = re.sub(r"^\s*#.*\n", "", (lock.HERE / f"{name}.lock").read_text(), flags=re.MULTILINE)
    entries = re.sub(r" ; .*?(?= \\\n)", "", text).replace("\\\n", "").splitlines()
    return dict(entry.split("==", 1) for entry in entries)


@every_lock
def test_a_lock_was_written_from_its_inputs_of_now(name: str) -> None:
    assert not lock.is_stale(name), "try: python3 requirements/lock.py"


@pytest.mark.parametrize("changed", ["build.in", "run.in", "test.in", "run.lock"])
def test_a_changed_input_makes_a_lock_stale(changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (*lock.HERE.glob("*.in"), *lock.HERE.glob("*.lock")):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(lock, "HERE", tmp_path)
    assert not lock.is_stale("test")
    with (tmp_path / changed).open("a") as file:
        file.write("one-more-package\n")
    assert lock.is_stale("test")


@every_lock
def test_every_package_of_a_lock_has_its_hashes(name: str) -> None:
    assert pins(name)
    for package, rest in pins(name).items():
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", rest), package


@every_lock
def test_a_lock_holds_no_address(name: str) -> None:
    text = (lock.HERE / f"{name}.lock").read_text()
    assert not re.findall(r"\S*(?:://|file:|--index|--extra-index|--find-links| @ |\.whl|\.tar\.gz)\S*", text)


def test_the_lock_for_tests_holds_everything_of_the_lock_for_running() -> None:
    # The launcher relies on it: an environment for tests is one for running too.
    run, test = pins("run"), pins("test")
    assert {package: test.get(package) for package in run} == run


def test_the_build_backend_of_both_packages_is_the_locked_one() -> None:
    wanted = [line for line in (lock.HERE / "build.in").read_text().splitlines() if not line.startswith("#")]
    for path in (ROOT, ROOT / "sdk"):
        assert tomllib.loads((path / "pyproject.toml").read_text())["build-system"]["requires"] == wanted


def test_the_sdk_asks_for_nothing_that_is_not_locked() -> None:
    dependencies = tomllib.loads((ROOT / "sdk/pyproject.toml").read_text())["project"]["dependencies"]
    ours = (lock.HERE / "run.in").read_text().replace("[hiredis]", "").splitlines()
    assert set(dependencies) <= set(ours)
