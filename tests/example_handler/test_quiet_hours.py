"""docs/example-handler as its users have it: installed by pip, found by the daemon, and tested by its own tests."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec
import pytest

from schemas.demand import Demand
from supervisor.bus.keys import demands_key
from tests.daemon import Daemon, short_directory
from tests.mocknvml.build import build_library
from tests.mocknvml.control import MockNvml
from tests.tools import require_tool

ROOT: Final = Path(__file__).parents[2]
CHANGED: Final = "org.example.quiet_hours.changed"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, since a build leaves its traces beside what it builds."""
    copy = tmp_path_factory.mktemp("example") / "flyball-quiet-hours"
    shutil.copytree(ROOT / "docs" / "example-handler", copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.fixture(scope="module")
def installed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What makes it seen, without touching the environment in which the tests run."""
    place = tmp_path_factory.mktemp("site")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps",
         "--no-build-isolation", "--target", place, source],
        check=True, timeout=50,
    )  # fmt: skip
    return {"PYTHONPATH": str(place), "TZ": "UTC"}


@pytest.fixture
def mock(tmp_path: Path) -> Iterator[MockNvml]:
    """A cool card."""
    require_tool("gcc")
    with MockNvml(tmp_path / "nvml", library=build_library()) as mock:
        mock.set(0, temperature=40)
        yield mock


def hours(from_h: int, for_h: int) -> str:
    """A section whose hours begin so far from now."""
    begins = datetime.now(UTC) + timedelta(hours=from_h)
    ends = begins + timedelta(hours=for_h)
    return f'[quiet_hours]\nbegins = "{begins:%H:%M}"\nends = "{ends:%H:%M}"\n'


def test_the_daemon_obeys_it(installed: dict[str, str], mock: MockNvml) -> None:
    """Its event, its demand, the directive that follows; a restart says nothing twice, and in the morning all ends."""
    with short_directory() as state, Daemon(state, hours(-1, 6), environ=installed | mock.environment()) as daemon:
        told = daemon.event(CHANGED)
        assert re.fullmatch(r"quiet hours until \d\d:\d\d: gpu0 at speed 0\.4", told.event.text)
        assert told.event.source == f"{daemon.host}/quiet_hours"
        assert told.event.text in daemon.command("events").stdout, "people see it among all others"
        sample = msgspec.json.decode(told.event.data)["cause"]
        assert sample.startswith(f"{daemon.host}/"), "it names the sample at which it was noticed"
        demanded = msgspec.json.decode(
            daemon.redis().hget(demands_key(daemon.host, "gpu0"), "quiet_hours"), type=Demand
        )
        assert (demanded.action, demanded.speed) == ("throttle", 0.4)
        directive = daemon.directive("gpu0")
        assert (directive.action, directive.speed) == ("throttle", 0.4)
        assert directive.reason.startswith("quiet hours from ")
        daemon.status_when(lambda status: any(one.name == "quiet_hours" for one in status.handlers))

        daemon.terminate()
        before = told.id
        daemon.start()
        daemon.event("flyball.directive.issued", lambda event: b"quiet hours from" in event.data, after=before)
        assert len(daemon.events(CHANGED)) == 1
        daemon.terminate()

        (state / "flyball.toml").write_text(hours(5, 1))
        daemon.start()
        over = daemon.event(CHANGED, after=before)
        assert over.event.text == "quiet hours are over: nothing is demanded of gpu0"
        assert daemon.redis().hget(demands_key(daemon.host, "gpu0"), "quiet_hours") is None


def test_its_settings_are_checked_like_ours(installed: dict[str, str]) -> None:
    """Every problem at once, before anything starts."""
    with short_directory() as state:
        daemon = Daemon(state, '[quiet_hours]\nbegins = "10 pm"\nspeeed = 0.5\n', environ=installed)
        ran = daemon.command("run")
    assert ran.returncode == 2
    assert "quiet_hours.begins: '10 pm' is no time of the day; write it as 22:00" in ran.stderr
    assert "quiet_hours.speeed" in ran.stderr


def test_its_own_tests_pass(installed: dict[str, str], source: Path) -> None:
    """As its author runs them, but against what is installed."""
    apart = source.parent / "apart"
    apart.mkdir()
    for name in ("pyproject.toml", "test_quiet_hours.py"):
        shutil.copy(source / name, apart)
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "pytest_asyncio.plugin", "-p", "no:cacheprovider", apart],
        env=os.environ | installed | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}, capture_output=True, text=True,
        timeout=50, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(r"\b1\d passed", ran.stdout)


def test_what_the_pages_point_at_exists() -> None:
    for page in (ROOT / "docs" / "handlers.md", ROOT / "docs" / "example-handler" / "README.md"):
        links = re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text())
        assert len(links) > 2
        assert [link for link in links if not (page.parent / link).exists()] == []
