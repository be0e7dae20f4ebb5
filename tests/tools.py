"""The programs that tests start. Where one is missing, a test is skipped by name, or fails under strictness."""

import os
import shutil
import tomllib
from pathlib import Path

import pytest

TABLE = Path(__file__).parent.parent / "requirements" / "tools.toml"


def require_tool(name: str) -> str:
    """Return the path of the program `name`, which `requirements/tools.toml` lists.

    Where it is missing the test is skipped, or fails if FLYBALL_TEST_STRICT=1; both name the packages to install.

    :raises KeyError: the table does not list it, so `./flyball test` would never get it.
    """
    packages = " ".join(tomllib.loads(TABLE.read_text())[name])
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
    found = shutil.which(name, path=path)
    if found is not None:
        return found
    reason = f"{name} is missing; try: apt-get install {packages}"
    if os.environ.get("FLYBALL_TEST_STRICT") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
