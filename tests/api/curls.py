"""The lines of curl in docs/api.md, run by bash as they stand there against a daemon."""

import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from schemas.publish import ROOT
from supervisor.api.published import PAGE

#: `/api/events` answers until somebody hangs up.
STREAM: Final = "/api/events"
_ORDER: Final = ("allocate", "started", "deallocate", "throttle", "pause", "resume", "stop", "start")


class Line(NamedTuple):
    """A resource, and the line that asks it."""

    method: str
    path: str
    command: str


def lines() -> list[Line]:
    """Those of the page, in an order in which each can be obeyed: what is given back was reserved before."""
    found = [Line(*one) for one in re.findall(r"## (\w+) (\S+)\n.*?```bash\n(.*?)\n```", _page(), re.DOTALL)]
    acts = [line for line in found if line.method == "POST"]
    acts.sort(key=lambda line: _ORDER.index(line.path.rpartition("/")[2]))
    return [*(line for line in found if line.method != "POST"), *acts]


def run(line: Line, url: str, environ: Mapping[str, str]) -> tuple[int, str]:
    """Status and body of the answer; `environ` tells where the token is."""
    preparation = re.search(r"```bash\n(FLYBALL=.*?)```", _page(), re.DOTALL)
    assert preparation, "the page says where to ask and with what"
    with tempfile.TemporaryDirectory() as directory:
        body = Path(directory) / "body"
        script = f"{preparation[1].replace('http://127.0.0.1:8470', url)}{line.command} -o {body} -w '%{{http_code}}'"
        within_s = "2" if line.path == STREAM else "20"
        ran = subprocess.run(
            ["timeout", within_s, "bash", "-euc", script], env=environ, check=False, capture_output=True, text=True
        )
        read = body.read_text() if body.exists() else ""
    return 200 if line.path == STREAM and read else int(ran.stdout or 0), read


def _page() -> str:
    return (ROOT / PAGE).read_text()
