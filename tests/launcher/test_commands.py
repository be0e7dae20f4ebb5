"""What the launcher hands over, and what `./flyball test` makes of its checks."""

import os

import pytest

from tests.launcher.conftest import ROOT, Checkout

pytestmark = pytest.mark.usefixtures("uv")


def test_the_launcher_is_a_program() -> None:
    assert os.access(ROOT / "flyball", os.X_OK)
    assert (ROOT / "flyball").read_text().startswith("#!/usr/bin/env python3\n")


def test_words_environment_and_exit_status_pass_through(checkout: Checkout) -> None:
    checkout.environment["FLYBALL_COLOUR"] = "green"
    done = checkout.run("throttle", "gpu0", "--for", "10 m", "")
    assert done.stdout.splitlines() == [
        "flyball got <throttle>",
        "flyball got <gpu0>",
        "flyball got <--for>",
        "flyball got <10 m>",
        "flyball got <>",
        "flyball sees FLYBALL_COLOUR=green",
    ]
    (checkout.root / "flyball.fails").touch()
    assert checkout.run("status").returncode == 7


def test_every_check_runs_though_one_fails_and_a_table_closes(checkout: Checkout) -> None:
    (checkout.root / "mypy.fails").touch()
    done = checkout.run("test")
    assert done.returncode == 1
    results = {line[:20].strip(): line[21:28].strip() for line in done.stdout.splitlines()[-5:]}
    assert results == {
        "ruff check": "passed",
        "ruff format --check": "passed",
        "mypy": "FAILED",
        "lint-imports": "passed",
        "pytest": "passed",
    }
    assert done.stdout.splitlines()[-1].endswith("pytest sees FLYBALL_COLOUR=")


def test_all_checks_passing_is_success(checkout: Checkout) -> None:
    assert checkout.run("test").returncode == 0


def test_arguments_to_test_mean_pytest_alone(checkout: Checkout) -> None:
    (checkout.root / "pytest.fails").touch()
    done = checkout.run("test", "tests/bus", "-k", "x or y")
    assert done.returncode == 7
    assert done.stdout.splitlines()[:-1] == ["pytest got <tests/bus>", "pytest got <-k>", "pytest got <x or y>"]


def test_each_missing_tool_is_named(checkout: Checkout) -> None:
    tools = 'no-such-server = ["no-such-package"]\nnor-this = ["a", "b"]\n'
    (checkout.root / "requirements/tools.toml").write_text(tools)
    done = checkout.run("test")
    assert done.returncode == 0
    assert "no no-such-server: " in done.stderr
    assert "sudo apt-get install no-such-package\n" in done.stderr
    assert "sudo apt-get install a b\n" in done.stderr
