"""What happens to a test whose program or GPU is missing."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests import tools
from tests.launcher.conftest import ROOT


@pytest.fixture(autouse=True)
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tools.toml").write_text('sh = ["dash"]\nno-such-server = ["no-such-package", "and-another"]\n')
    monkeypatch.setattr(tools, "TABLE", tmp_path / "tools.toml")


def test_a_program_that_is_there_is_found() -> None:
    assert Path(tools.require_tool("sh")).name == "sh"


def test_a_missing_program_is_a_skip_that_names_its_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLYBALL_TEST_STRICT", raising=False)
    with pytest.raises(
        pytest.skip.Exception, match="no-such-server is missing; try: apt-get install no-such-package and"
    ):
        tools.require_tool("no-such-server")


def test_a_missing_program_is_a_failure_under_strictness(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYBALL_TEST_STRICT", "1")
    with pytest.raises(pytest.fail.Exception, match="no-such-server is missing"):
        tools.require_tool("no-such-server")


def test_a_program_outside_the_table_is_a_mistake_of_the_test() -> None:
    with pytest.raises(KeyError):
        tools.require_tool("ls")


@pytest.mark.parametrize("device", ["missing", "there"])
def test_tests_of_a_gpu_are_skipped_by_name_only_where_there_is_none(tmp_path: Path, device: str) -> None:
    if device == "there":
        (tmp_path / "nvidiactl").touch()
    conftest = (ROOT / "tests/conftest.py").read_text().replace("/dev/nvidiactl", str(tmp_path / "nvidiactl"))
    for name, text in {
        "tests/conftest.py": conftest,
        "tests/gpu/test_clocks.py": "def test_reads_clocks():\n    pass\n",
        "tests/test_rest.py": "def test_rest():\n    pass\n",
        "pytest.ini": "[pytest]\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    command = [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", "tests"]
    environment = {"FLYBALL_TEST_STRICT": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    if device == "there":
        assert "2 passed" in done.stdout
    else:
        assert "1 passed, 1 skipped" in done.stdout
        assert "test_reads_clocks needs an NVIDIA GPU" in done.stdout
