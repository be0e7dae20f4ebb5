"""The greeting says what has to be said beside a request; never the token itself."""

import json
from pathlib import Path
from typing import Any

import pytest

from supervisor.runtime.greeting import Greeting


def greeting(**changes: Any) -> Greeting:
    fields = {
        "host": "box", "pid": 7, "simulated": False, "bus_url": "unix:///run/bus.sock", "bus_kind": "redis",
        "bus_up": True, "api_url": "http://127.0.0.1:8470", "api_auth": "changes",
        "token_file": Path("/var/lib/my state/token"), "epoch": 1, "shard": 0, **changes,
    }  # fmt: skip
    return Greeting(**fields)


@pytest.mark.parametrize(("auth", "what"), [("changes", "changes need"), ("all", "every request needs")])
def test_it_says_where_the_token_lies(auth: str, what: str) -> None:
    line = f"""  token: {what} curl -H "Authorization: Bearer $(cat '/var/lib/my state/token')"\n"""
    assert line in greeting(api_auth=auth).text()
    assert json.loads(greeting(api_auth=auth).json())["api"] == {
        "url": "http://127.0.0.1:8470", "auth": auth, "token_file": "/var/lib/my state/token",
    }  # fmt: skip


@pytest.mark.parametrize("changes", [{"api_auth": "none"}, {"api_url": None}])
def test_where_none_is_needed_it_says_nothing(changes: dict[str, Any]) -> None:
    assert "token" not in greeting(**changes).text()
