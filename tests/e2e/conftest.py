"""A state directory, a mock driver, and what the tests of the whole have in common."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon import short_directory
from tests.mocknvml.build import build_library
from tests.mocknvml.control import MockNvml
from tests.tools import require_tool


@pytest.fixture
def state() -> Iterator[Path]:
    """A place for a state directory."""
    with short_directory() as directory:
        yield directory


@pytest.fixture
def mock(tmp_path: Path) -> Iterator[MockNvml]:
    """A driver with one card."""
    require_tool("gcc")
    with MockNvml(tmp_path / "nvml", library=build_library()) as mock:
        yield mock
