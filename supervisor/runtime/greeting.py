"""What the daemon says once it is at work: where the page and the bus are, and how to stop it."""

from pathlib import Path
from shlex import quote
from typing import Any
from urllib.parse import urlsplit

import orjson
from msgspec import Struct

from supervisor.bus.keys import events_key
from supervisor.masking import masked
from supervisor.rediscli import line


class Greeting(Struct, frozen=True, kw_only=True):
    """The facts of it; `bus_up` is false where the daemon starts without its bus."""

    host: str
    pid: int
    simulated: bool
    bus_url: str
    bus_kind: str
    bus_up: bool
    api_url: str | None
    #: which requests need the token: changes, all or none
    api_auth: str
    token_file: Path | None
    epoch: int
    shard: int

    def text(self) -> str:
        """For people."""
        mark = "SIMULATED " if self.simulated else ""
        bus = (
            f"lease epoch {self.epoch}, bus: {self.bus_kind}" if self.bus_up else "the bus is away; deciding without it"
        )
        client = line(self.bus_url, ask_password="@" in self.bus_url)
        return (
            f"{mark}Flyball looks after {self.host} ({bus})\n"
            f"  page:  {self.api_url or 'off'}\n"
            f"{self._token_line()}"
            f"  bus:   {client} XREVRANGE '{events_key(self.shard)}' + - COUNT 5\n"
            f"  stop:  Ctrl-C, or kill {self.pid}\n"
        )

    def _token_line(self) -> str:
        """What has to be said beside a request."""
        if self.api_url is None or self.token_file is None or self.api_auth == "none":
            return ""
        what = "every request needs" if self.api_auth == "all" else "changes need"
        return f'  token: {what} curl -H "Authorization: Bearer $(cat {quote(str(self.token_file))})"\n'

    def json(self) -> str:
        """For programs, as one line."""
        parts, file = urlsplit(self.bus_url), self.token_file
        document: dict[str, Any] = {
            "schema_version": 1,
            "host": self.host,
            "pid": self.pid,
            "simulated": self.simulated,
            "bus": {
                "url": masked(self.bus_url),
                "kind": self.bus_kind,
                "socket": parts.path if parts.scheme == "unix" else None,
                "state": "up" if self.bus_up else "away",
            },
            "api": {"url": self.api_url, "auth": self.api_auth, "token_file": file and str(file)},
            "lease": {"epoch": self.epoch},
        }
        return orjson.dumps(document).decode() + "\n"
