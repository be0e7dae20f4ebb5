"""Whatever schemathesis makes of our OpenAPI document, the daemon behind it answers as that says."""

import os
import re
from pathlib import Path
from typing import Final

import pytest

from tests.api.client import Client
from tests.api.fuzz import fuzz
from tests.daemon import Daemon
from tests.mocknvml.control import MockNvml

#: Requests of each operation beside those that are always tried; tests/shows/api.py tries many more.
EXAMPLES: Final = int(os.environ.get("FLYBALL_API_EXAMPLES", "4"))


@pytest.mark.timeout(60 + 3 * EXAMPLES)
def test_no_check_fails(state: Path, mock: MockNvml) -> None:
    with Daemon(state, environ=mock.environment()) as daemon:
        daemon.event("flyball.directive.issued", lambda event: event.subject == "gpu0")
        api = Client(daemon)
        ran = fuzz(api.url, api.token, EXAMPLES, within_s=50 + 3 * EXAMPLES)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        tried = re.search(r"(\d+) generated", ran.stdout)
        assert tried and int(tried[1]) > 500, ran.stdout
        assert api.get("/livez").status == 200
