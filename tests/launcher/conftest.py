"""A small checkout for each test: the real launcher, locks of one line, and a uv that notes what it is told."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

UV = """#!/bin/sh
echo "$*" >> "{log}"
case "$*" in
venv*)
    for place; do :; done
    /bin/mkdir -p "$place/bin"
    /bin/ln -s "{python}" "$place/bin/python"
    ;;
*--require-hashes*)
    if [ -p "{reached}" ]; then
        echo > "{reached}"
        read -r _ < "{opened}"
    fi
    ;;
*--editable*)
    for program in flyball ruff mypy lint-imports pytest; do
        /bin/cp "{program}" .venv/bin/$program
    done
    ;;
esac
"""

# Stands in for every program that the launcher may start: says what it was given, and exits as a file says.
PROGRAM = """#!/bin/sh
name="${0##*/}"
for word; do echo "$name got <$word>"; done
echo "$name sees FLYBALL_COLOUR=$FLYBALL_COLOUR"
if [ -e "$(/usr/bin/dirname "$0")/../../$name.fails" ]; then exit 7; fi
"""


@dataclass
class Checkout:
    """A checkout that `./flyball` can be started in.

    :param root: where it lies.
    :param path: the folder that is the launcher's whole PATH.
    """

    root: Path
    path: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def uv_log(self) -> Path:
        return self.path / "uv.log"

    def uv_calls(self) -> list[str]:
        """What uv was told so far: the word after `uv`, or after `uv pip`."""
        return self.uv_log.read_text().splitlines() if self.uv_log.exists() else []

    def forget_uv_calls(self) -> None:
        self.uv_log.unlink(missing_ok=True)

    def popen(self, *words: str) -> subprocess.Popen[str]:
        """Start the launcher with `words`."""
        return subprocess.Popen(
            [sys.executable, self.root / "flyball", *words],
            cwd=self.root,
            env={"PATH": str(self.path), "HOME": str(self.root), "LANG": "C.UTF-8", **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Start the launcher with `words` and wait for its end."""
        with self.popen(*words) as process:
            output, errors = process.communicate()
        return subprocess.CompletedProcess(words, process.returncode, output, errors)


@dataclass
class Gate:
    """Stops uv in the middle of an install: two pipes with names."""

    reached: Path
    opened: Path

    def put_up(self) -> None:
        os.mkfifo(self.opened)
        os.mkfifo(self.reached)

    def wait_until_reached(self) -> None:
        self.reached.read_text()

    def open(self) -> None:
        """Let uv go on, and stop nobody after it."""
        self.reached.unlink()
        self.opened.write_text("\n")


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    root, path = tmp_path / "checkout", tmp_path / "bin"
    for folder in (root / "sdk", root / "requirements", path):
        folder.mkdir(parents=True)
    (root / "flyball").write_bytes((ROOT / "flyball").read_bytes())
    for name in ("pyproject.toml", "sdk/pyproject.toml", "requirements/run.in", "requirements/tools.toml"):
        (root / name).write_text("")
    for name in ("run", "test"):
        (root / f"requirements/{name}.lock").write_text("leaf==1\n")
    return Checkout(root, path)


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "reached", tmp_path / "opened")


@pytest.fixture
def uv(checkout: Checkout, gate: Gate, tmp_path: Path) -> Iterator[Path]:
    """A uv on the launcher's PATH that installs a stand-in for every program."""
    program = tmp_path / "program"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    uv = checkout.path / "uv"
    uv.write_text(
        UV.format(log=checkout.uv_log, python=sys.executable, program=program, reached=gate.reached, opened=gate.opened)
    )
    uv.chmod(0o755)
    yield uv
