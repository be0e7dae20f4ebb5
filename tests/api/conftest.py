"""A daemon with a card of the mock driver, as its API shows it; one for all tests of this folder that change little."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.client import Client
from tests.daemon import Daemon, short_directory
from tests.mocknvml.build import build_library
from tests.mocknvml.control import MockNvml
from tests.tools import require_tool


@pytest.fixture(scope="package")
def mock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MockNvml]:
    require_tool("gcc")
    with MockNvml(tmp_path_factory.mktemp("driver") / "nvml", library=build_library()) as mock:
        yield mock


@pytest.fixture(scope="package")
def daemon(mock: MockNvml) -> Iterator[Daemon]:
    with short_directory() as state, Daemon(state, environ=mock.environment()) as daemon:
        daemon.event("flyball.directive.issued", lambda event: event.subject == "gpu0")
        yield daemon


@pytest.fixture
def api(daemon: Daemon) -> Client:
    return Client(daemon)


@pytest.fixture
def state() -> Iterator[Path]:
    """A place for the state directory of a daemon of the test's own."""
    with short_directory() as directory:
        yield directory
