"""The README's two programs do what it says, and what it points at exists."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import redis

from supervisor.identity import host_name
from tests.busservers import BusServer, one_bus_server
from tests.daemon import Daemon, short_directory
from tests.mocknvml.build import build_library
from tests.mocknvml.control import MockNvml
from tests.tools import require_tool

__all__ = ["one_bus_server"]

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
#: The programs find it out by themselves.
HOST = host_name()


def block(kind: str) -> str:
    """The code block behind the mark `tested: <kind>`."""
    found = re.search(rf"<!-- tested: {kind} -->\n```\w+\n(.*?)```", README, re.DOTALL)
    assert found, f"the README has no block marked {kind}"
    return found[1]


def directive(seq: int, action: str, speed: float) -> dict[str, str]:
    """A directive's hash."""
    return {
        "id": f"d{seq}", "seq": str(seq), "time": "2026-01-01T00:00:00Z", "host": HOST, "target": "gpu0",
        "action": action, "speed": str(speed), "cleanup": "none", "reason": f"because of {seq}", "cause": "",
        "ttl_s": "30",
    }  # fmt: skip


def test_the_python_program_obeys_and_acknowledges(one_bus_server: BusServer) -> None:
    """The ten lines print the reason of what stands, work through their batches and say so on the inbox."""
    with redis.Redis.from_url(one_bus_server.url, decode_responses=True) as bus:
        bus.hset(f"flyball:directive:{{0}}:{HOST}:gpu0", mapping=directive(1, "throttle", 0.8))
        environment = pasted(FLYBALL_URL=one_bus_server.url)
        ran = subprocess.run(
            [sys.executable, "-W", "error", "-c", block("python")],
            env=environment, capture_output=True, text=True, timeout=30, check=True,
        )  # fmt: skip
        types = [fields["type"] for _, fields in bus.xrange("flyball:inbox:{0}")]
    assert ran.stdout == "because of 1\n"
    assert ran.stderr == ""
    assert types[0] == "flyball.workload.join"
    assert types[-1] == "flyball.workload.leave"
    assert {"flyball.workload.acknowledge", "flyball.workload.count"} <= set(types)


def pasted(**added: str) -> dict[str, str]:
    """The environment of a shell into which a reader pastes: it knows no host."""
    known = {name: value for name, value in os.environ.items() if name != "HOST" and not name.startswith("FLYBALL_")}
    return known | added


def state_of(pid: int) -> str:
    """One letter, as in proc(5)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.skipif(sys.platform != "linux", reason="reads the state of a process from /proc")
def test_the_shell_program_stops_and_continues_a_process(one_bus_server: BusServer, tmp_path: Path) -> None:
    """The five lines freeze a process on pause and let it go on afterwards."""
    require_tool("redis-cli")
    victim = subprocess.Popen(["sleep", "60"])
    assert one_bus_server.path.name == "bus.sock"
    environment = pasted(PID=str(victim.pid), FLYBALL_STATE_DIR=str(one_bus_server.directory))
    with redis.Redis.from_url(one_bus_server.url, decode_responses=True) as bus:
        bus.hset(f"flyball:directive:{{0}}:{HOST}:gpu0", mapping=directive(1, "throttle", 0.8))
    obeying = subprocess.Popen(
        ["bash", "-c", block("shell")], env=environment, stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        assert obeying.stdout is not None
        assert obeying.stdout.readline() == b"because of 1\n"
        with redis.Redis.from_url(one_bus_server.url, decode_responses=True) as bus:
            channel = f"flyball:pause:{HOST}:gpu0"
            deliver(bus, channel, '{"id":"a","action":"pause","speed":0}')
            assert os.waitid(os.P_PID, victim.pid, os.WSTOPPED) is not None
            assert state_of(victim.pid) == "T"
            deliver(bus, channel, '{"id":"b","action":"throttle","speed":0.5}')
            assert os.waitid(os.P_PID, victim.pid, os.WCONTINUED) is not None
            assert state_of(victim.pid) != "T"
    finally:
        os.killpg(obeying.pid, signal.SIGKILL)
        obeying.wait()
        assert obeying.stdout is not None
        obeying.stdout.close()
        victim.kill()
        victim.wait()


def deliver(bus: "redis.Redis", channel: str, message: str) -> None:
    """Publish until somebody hears it: the subscriber has just been started."""
    while not bus.publish(channel, message):
        pass


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon as a reader would have it, over a card that is mocked."""
    require_tool("gcc")
    directory = tmp_path_factory.mktemp("nvml")
    with (
        MockNvml(directory / "mock", library=build_library(directory / "library")) as mock,
        short_directory() as state,
        Daemon(state, environ={**mock.environment(), "FLYBALL_HOST__NAME": HOST}) as daemon,
    ):
        daemon.status_when(lambda status: any(one.available_bytes for one in status.memory))
        yield daemon


def test_memory_is_reserved_as_the_readme_shows(daemon: Daemon) -> None:
    """The block prints what is free, is promised memory, and leaves nothing behind in the ledger."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", block("reserve")],
        env=pasted(FLYBALL_URL=daemon.url), capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert re.fullmatch(r"\d+ MiB could be reserved\n", ran.stdout)
    assert ran.stderr == ""
    daemon.event("flyball.memory.released")  # a program that gives back does not wait until it is taken
    kinds = ("flyball.memory.reserved", "flyball.memory.released")
    assert [(event.type, event.subject) for event in daemon.events(*kinds)] == [(kind, "llm_model") for kind in kinds]


def test_every_line_of_curl_is_answered(daemon: Daemon) -> None:
    """With `--fail`, so that an error ends it; a daemon of a test has a port of its own."""
    require_tool("curl")
    url = daemon.status().api.url
    assert url is not None
    script = block("curl").replace("http://127.0.0.1:8470", url).replace("curl -s", "curl -s --fail-with-body")
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env=pasted(FLYBALL_STATE_DIR=str(daemon.state)), capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout
    for said in ('"outcome":"reserved"', '"outcome":"released"', '"temp_normal":70.0', "flyball_gpu_up"):
        assert said in ran.stdout


def test_links_lead_somewhere() -> None:
    """Every relative link and picture of the README exists."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert len(links) > 5
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_commands_exist() -> None:
    """Every `./flyball WORD` of the README is a word of the launcher or of the command line."""
    from supervisor.cli.main import COMMANDS, ENTRY_POINTS

    words = set(re.findall(r"\./flyball ([a-z]+)", README))
    assert {"run", "demo", "status"} <= words
    assert words <= {*COMMANDS, *(entry.name for entry in entry_points(group=ENTRY_POINTS)), "test"}
