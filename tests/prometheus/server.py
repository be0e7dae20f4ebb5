"""Debian's prometheus for a test: it scrapes one address each second, on a port of its own, and is gone afterwards."""

import json
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.tools import require_tool

ALERTS: Final = Path(__file__).parents[2] / "deploy" / "prometheus" / "alerts.yml"
PATIENCE_S: Final = 30.0
_CONFIG: Final = """\
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: ["{alerts}"]
scrape_configs:
  - {{job_name: flyball, static_configs: [{{targets: ["{target}"]}}]}}
"""


class Prometheus:
    """Answers queries over what it has scraped."""

    def __init__(self, url: str, log: Path) -> None:
        self.url = url
        self.log = log

    def api(self, path: str, **parameters: str) -> Any:
        """The data that one of its resources answers with."""
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as response:
            document = json.load(response)
        assert document["status"] == "success", document
        return document["data"]

    def query(self, query: str) -> dict[str, float]:
        """An instant query: the values of the labels, but for job and instance, and the figure."""
        found = {}
        for series in self.api("query", query=query)["result"]:
            labels = {
                name: value for name, value in series["metric"].items() if name not in ("job", "instance", "__name__")
            }
            found[",".join(value for _, value in sorted(labels.items()))] = float(series["value"][1])
        return found

    def query_when(self, query: str, accept: Callable[[dict[str, float]], object]) -> dict[str, float]:
        """The first answer to a query that is accepted."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                found = self.query(query)
            except (urllib.error.URLError, ConnectionError):
                found = {}  # it starts
            if accept(found):
                return found
            assert time.monotonic() < deadline, f"{query}: {found}\n{self.log.read_text(errors='replace')}"
            time.sleep(0.1)


@contextmanager
def prometheus(directory: Path, target: str) -> Iterator[Prometheus]:
    """Scrapes `target` (host:port) each second, and looks at our alerts; its files lie in `directory`."""
    config = directory / "prometheus.yml"
    config.write_text(_CONFIG.format(alerts=ALERTS, target=target))
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [
        require_tool("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address={address}", "--log.level=warn",
    ]  # fmt: skip
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield Prometheus(f"http://{address}", directory / "prometheus.log")
    finally:
        process.terminate()
        process.wait()


def complaints(kind: str, *arguments: str, text: bytes | None = None) -> str:
    """What `promtool check <kind>` finds wrong; nothing where all is well."""
    command = [require_tool("promtool"), "check", kind, *arguments]
    done = subprocess.run(command, input=text, capture_output=True, check=False, timeout=PATIENCE_S)
    said = (done.stdout + done.stderr).decode()
    return said if done.returncode or (kind == "metrics" and said) else ""
