"""The import contracts of pyproject.toml catch what they are there to catch, shown on a house of empty rooms."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.launcher.conftest import ROOT

ROOMS = (
    "schemas/sample.py",
    "supervisor/handler.py",
    "supervisor/bus/publish.py",
    "handlers/throttle/policy.py",
    "handlers/throttle/effects.py",
    "handlers/throttle/handler.py",
    "handlers/alert/policy.py",
    "handlers/alert/effects.py",
    "handlers/alert/handler.py",
    "flyball/wire.py",
)


@pytest.fixture
def house(tmp_path: Path) -> Path:
    for room in ROOMS:
        (tmp_path / room).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / room).touch()
    for folder in {parent for room in ROOMS for parent in (tmp_path / room).parents} - {tmp_path, *tmp_path.parents}:
        (folder / "__init__.py").touch()
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    return tmp_path


def lint_imports(house: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    environment = {"PYTHONPATH": str(house), "COLUMNS": "200"}
    return subprocess.run(command, cwd=house, env=environment, capture_output=True, text=True, check=False)


def test_what_the_design_allows_passes(house: Path) -> None:
    (house / "handlers/throttle/policy.py").write_text("import dataclasses, math\nfrom schemas import sample\n")
    (house / "handlers/throttle/handler.py").write_text(
        "from handlers.throttle import effects, policy\nfrom schemas import sample\nfrom supervisor import handler\n"
    )
    (house / "handlers/throttle/effects.py").write_text("import os, redis\n")
    (house / "supervisor/bus/publish.py").write_text("import redis\nfrom schemas import sample\n")
    (house / "flyball/wire.py").write_text("import redis\n")
    done = lint_imports(house)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("room", "line", "contract"),
    [
        ("schemas/sample.py", "import supervisor.handler", "schemas imports nothing of ours"),
        ("schemas/sample.py", "import flyball.wire", "schemas imports nothing of ours"),
        ("supervisor/bus/publish.py", "import handlers.throttle.policy", "the supervisor never imports a handler"),
        ("supervisor/handler.py", "import flyball", "the supervisor never imports a handler or the SDK"),
        ("handlers/throttle/effects.py", "import supervisor.bus.publish", "handlers import supervisor.handler and"),
        ("handlers/throttle/handler.py", "import flyball.wire", "handlers import supervisor.handler and schemas only"),
        ("handlers/throttle/handler.py", "import handlers.alert.policy", "one handler does not import another"),
        ("handlers/alert/policy.py", "import supervisor.handler", "a policy imports schemas only"),
        ("handlers/alert/policy.py", "import handlers.alert.effects", "a policy imports schemas only"),
        ("handlers/alert/policy.py", "import handlers.throttle.handler", "a policy imports schemas only"),
        ("handlers/alert/policy.py", "import time", "a policy has no I/O and no clock"),
        ("handlers/alert/policy.py", "from redis.asyncio import Redis", "a policy has no I/O and no clock"),
        ("flyball/wire.py", "import schemas.sample", "the SDK imports nothing of the supervisor's"),
    ],
)
def test_what_the_design_forbids_breaks_its_contract(house: Path, room: str, line: str, contract: str) -> None:
    (house / room).write_text(f"{line}\n")
    done = lint_imports(house)
    assert done.returncode == 1, done.stderr
    broken = [result for result in done.stdout.splitlines() if result.endswith(" BROKEN")]
    assert any(result.startswith(contract) for result in broken), done.stdout
