"""What the launcher says and does where the machine lacks something: a Python, its venv module, uv."""

import ast
import base64
import hashlib
import json
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.launcher.conftest import ROOT, Checkout, Gate

# Runs the launcher on a machine that differs as the first argument says; the others are the launcher's own.
DRIVER = """
import importlib.util, json, os, pathlib, runpy, sys
from importlib.machinery import SourceFileLoader

machine = json.loads(sys.argv[1])
sys.argv = ["./flyball", *sys.argv[2:]]
if "version" in machine:
    sys.version_info = tuple(machine["version"])
    runpy.run_path("./flyball", run_name="__main__")
loader = SourceFileLoader("launcher", "flyball")
launcher = importlib.util.module_from_spec(importlib.util.spec_from_loader("launcher", loader))
loader.exec_module(launcher)
find_spec = importlib.util.find_spec
brought = pathlib.Path(machine["brought"])
importlib.util.find_spec = lambda name: None if name == "ensurepip" and not brought.exists() else find_spec(name)
os.geteuid = lambda: machine["user"]
sys.base_prefix = machine["prefix"]
launcher.POLICY = pathlib.Path(machine["policy"])
try:
    launcher.provide_venv_module()
except launcher.Problem as problem:
    print(problem)
"""

APT_GET = """#!/bin/sh
echo "$*" >> "{log}"
case "$*" in *install*)
    /bin/cat "{policy}" >> "{log}"
    {outcome}
    ;;
esac
"""


class Debian:
    """A machine whose python3 comes without ensurepip and whose apt-get notes what it is told."""

    def __init__(self, checkout: Checkout, *, user: int, prefix: str = "/usr", apt: str = "") -> None:
        self.checkout = checkout
        self.log = checkout.path / "apt.log"
        self.policy = checkout.path / "policy-rc.d"
        brought = checkout.path / "brought"
        self.machine = {"user": user, "prefix": prefix, "brought": str(brought), "policy": str(self.policy)}
        program = checkout.path / "apt-get"
        program.write_text(APT_GET.format(log=self.log, policy=self.policy, outcome=apt or f'echo > "{brought}"'))
        program.chmod(0o755)

    def start(self) -> subprocess.Popen[str]:
        """Start the launcher's search for the venv module."""
        return drive(self.checkout, self.machine)

    def provide_venv_module(self) -> str:
        """What the launcher's search for the venv module says at last."""
        with self.start() as process:
            return process.communicate()[0]


def drive(checkout: Checkout, machine: dict[str, object], *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", DRIVER, json.dumps(machine), *words]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, cwd=checkout.root, env={"PATH": str(checkout.path)}, stdout=pipe, stderr=pipe, text=True
    )


def test_an_old_python_is_told_so_in_one_sentence(checkout: Checkout) -> None:
    with drive(checkout, {"version": [3, 9, 2, "final", 0]}, "run") as process:
        _, errors = process.communicate()
    assert process.returncode == 1
    assert errors == (
        f"flyball: Python 3.11 or newer is needed, and {sys.executable} is 3.9.2\n  try: python3.12 ./flyball run\n"
    )


def test_an_old_python_can_read_the_launcher_that_far() -> None:
    ast.parse((ROOT / "flyball").read_text(), feature_version=(3, 7))


def test_the_launcher_needs_the_standard_library_only() -> None:
    nodes = list(ast.walk(ast.parse((ROOT / "flyball").read_text())))
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported} <= sys.stdlib_module_names


def test_without_root_a_missing_venv_module_is_one_sentence_and_one_command(checkout: Checkout) -> None:
    debian = Debian(checkout, user=1000)
    said = debian.provide_venv_module().splitlines()
    package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
    assert said == [
        f"{sys.executable} comes without venv and pip, which the environment is made with",
        f"  try: sudo apt-get install {package}",
    ]
    assert not debian.log.exists()


def test_root_gets_the_venv_module_by_apt_without_starting_services(checkout: Checkout) -> None:
    debian = Debian(checkout, user=0)
    debian.policy.write_text("the machine's own policy")
    assert debian.provide_venv_module() == ""
    _, install, *policy = debian.log.read_text().splitlines()
    assert install.endswith(f"--no-install-recommends python3.{sys.version_info.minor}-venv")
    assert policy == ["#!/bin/sh", "exit 101"]
    assert debian.policy.read_text() == "the machine's own policy"


def test_an_apt_that_fails_leaves_no_policy_and_says_so(checkout: Checkout) -> None:
    debian = Debian(checkout, user=0, apt="exit 100")
    assert "apt-get could not install it" in debian.provide_venv_module()
    assert not debian.policy.exists()


def test_a_launcher_that_is_terminated_lets_apt_finish_and_leaves_no_policy(checkout: Checkout, gate: Gate) -> None:
    debian = Debian(
        checkout, user=0, apt=f'echo > "{gate.reached}"; read -r _ < "{gate.opened}"; echo done >> "$0.end"'
    )
    gate.put_up()
    with debian.start() as process:
        gate.wait_until_reached()
        process.terminate()
        gate.open()
        process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert (checkout.path / "apt-get.end").read_text() == "done\n"
    assert not debian.policy.exists()


def test_a_python_that_is_not_debians_is_not_mended_by_apt(checkout: Checkout) -> None:
    debian = Debian(checkout, user=0, prefix="/opt/python")
    assert "astral.sh/uv" in debian.provide_venv_module()
    assert not debian.log.exists()


# A build backend for the two packages of the small checkout: an editable wheel of a path and a command.
BACKEND = """
import pathlib, zipfile

def build_editable(folder, config_settings=None, metadata_directory=None):
    name = pathlib.Path("name").read_text()
    info = f"{name}-1.dist-info"
    files = {
        f"{name}.pth": str(pathlib.Path.cwd()),
        f"{info}/METADATA": f"Metadata-Version: 2.1\\nName: {name}\\nVersion: 1\\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        f"{info}/entry_points.txt": pathlib.Path("entry_points.txt").read_text(),
    }
    with zipfile.ZipFile(f"{folder}/{name}-1-py3-none-any.whl", "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)
        wheel.writestr(f"{info}/RECORD", "".join(f"{path},,\\n" for path in [*files, f"{info}/RECORD"]))
    return f"{name}-1-py3-none-any.whl"
"""


def make_wheel(folder: Path) -> str:
    """Write the wheel of a distribution called leaf; returns its SHA-256."""
    folder.mkdir()
    path = folder / "leaf-1-py3-none-any.whl"
    files = {
        "leaf.py": "WORD = 'a locked word'\n",
        "leaf-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: leaf\nVersion: 1\n",
        "leaf-1.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip('=')},\n"
        for name, text in files.items()
    )
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in {**files, "leaf-1.dist-info/RECORD": record}.items():
            wheel.writestr(name, text)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def leaf(checkout: Checkout, tmp_path: Path) -> str:
    """Make the checkout's packages buildable and point pip to an index of one wheel, as a user would; its SHA-256."""
    for name, folder, entry_points in (
        ("supervisor_like", checkout.root, "[console_scripts]\nflyball = ours:main\n"),
        ("sdk_like", checkout.root / "sdk", ""),
    ):
        (folder / "pyproject.toml").write_text(
            f'[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
            f'[project]\nname = "{name}"\nversion = "1"\n'
        )
        (folder / "name").write_text(name)
        (folder / "backend.py").write_text(BACKEND)
        (folder / "entry_points.txt").write_text(entry_points)
    (checkout.root / "ours.py").write_text("import leaf, theirs\n\ndef main():\n    print(leaf.WORD, theirs.WORD)\n")
    (checkout.root / "sdk/theirs.py").write_text("WORD = 'and an editable one'\n")
    checkout.environment |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "wheels")}
    return make_wheel(tmp_path / "wheels")


def test_without_uv_pip_installs_what_the_hash_allows_from_the_users_own_index(checkout: Checkout, leaf: str) -> None:
    lock = checkout.root / "requirements/run.lock"
    lock.write_text(f"leaf==1 --hash=sha256:{'0' * 64}\n")
    refused = checkout.run("status")
    assert refused.returncode == 1
    assert "DO NOT MATCH THE HASHES" in refused.stderr
    assert "cannot install into .venv: python failed (exit 1)" in refused.stderr
    lock.write_text(f"leaf==1 --hash=sha256:{leaf}\n")
    done = checkout.run("status")
    assert done.stdout == "a locked word and an editable one\n", done.stderr
