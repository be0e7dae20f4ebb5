"""A plain client of a daemon's API, for tests that are no coroutines."""

import http.client
import json
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from tests.daemon import Daemon


class Answer(NamedTuple):
    """What came back; `document` is the JSON in it, or None."""

    status: int
    headers: Mapping[str, str]
    document: Any
    body: bytes

    @property
    def detail(self) -> str:
        """What a problem says."""
        assert self.headers["content-type"] == "application/problem+json", self
        assert self.document["status"] == self.status
        detail: str = self.document["detail"]
        return detail


class Client:
    """Asks with the daemon's token, unless told otherwise."""

    def __init__(self, daemon: Daemon) -> None:
        self.url = next(line.split()[1] for line in daemon.output if line.startswith("  page:"))
        self.token = (daemon.state / "token").read_text().strip()

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, None, headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        return self.ask("POST", path, body, headers)

    def put(self, path: str, body: Any, **headers: str) -> Answer:
        return self.ask("PUT", path, body, headers)

    def ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        """Bytes are sent as they are, anything else as JSON; `_` in a header's name stands for `-`."""
        given = {name.replace("_", "-"): value for name, value in (headers or {}).items()}
        sent = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        own = {"Authorization": f"Bearer {self.token}"} | ({} if sent is None else {"Content-Type": "application/json"})
        address = urlsplit(self.url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=20)
        try:
            connection.request(method, path, sent, own | given)
            response = connection.getresponse()
            received = response.read()
        finally:
            connection.close()
        told = {name.lower(): value for name, value in response.getheaders()}
        is_json = "json" in told.get("content-type", "")
        return Answer(response.status, told, json.loads(received) if is_json else None, received)
