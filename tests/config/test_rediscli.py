"""The redis-cli line that people are given works as it stands, and holds no password."""

import subprocess

import pytest

from supervisor.rediscli import line
from tests.busservers import start_bus_server
from tests.tools import require_tool


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("unix:///run/fly%20ball/bus.sock", "redis-cli -s '/run/fly ball/bus.sock'"),
        ("unix://me:hunter2@/run/bus.sock?db=2", "redis-cli -s /run/bus.sock -n 2 --user me"),
        ("redis://box", "redis-cli -h box -p 6379"),
        ("redis://:hunter2@box:7/0", "redis-cli -h box -p 7"),
        ("rediss://me:hunter2@[::1]:7/3?password=hunter2", "redis-cli -h ::1 -p 7 --tls -n 3 --user me"),
    ],
)
def test_the_parts_of_an_address_become_options(url: str, words: str) -> None:
    assert line(url) == words
    assert line(url, ask_password=True) == f"{words} --askpass"


def test_it_reaches_the_bus() -> None:
    require_tool("redis-cli")
    with start_bus_server("debian", ["--requirepass", "hunter2"]) as server:
        words = line(f"unix://default:hunter2@{server.path}", ask_password=True)
        shown = subprocess.run(
            f"{words} PING", shell=True, input="hunter2\n", capture_output=True, text=True, timeout=10, check=True
        )
    assert shown.stdout.endswith("PONG\n")
