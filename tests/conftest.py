"""What holds for every test."""

from pathlib import Path

import pytest

GPU_TESTS = Path(__file__).parent / "gpu"
NVIDIA_DEVICE = Path("/dev/nvidiactl")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests/gpu by name where there is no NVIDIA GPU; a missing GPU is not a missing tool, strict or not."""
    if NVIDIA_DEVICE.exists():
        return
    for item in items:
        if GPU_TESTS in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=f"{item.name} needs an NVIDIA GPU"))
