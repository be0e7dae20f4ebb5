"""A real Prometheus scrapes the real daemon, and its tools have nothing against what we tell it."""

import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon import Daemon, short_directory
from tests.mocknvml.build import build_library
from tests.mocknvml.control import MockNvml
from tests.prometheus.server import ALERTS, Prometheus, complaints, prometheus
from tests.tools import require_tool

GPUS = 2


@pytest.fixture(scope="module")
def mock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MockNvml]:
    require_tool("gcc")
    directory = tmp_path_factory.mktemp("mock")
    with MockNvml(directory / "nvml", library=build_library(directory / "library"), gpus=GPUS) as mock:
        yield mock


@pytest.fixture(scope="module")
def daemon(mock: MockNvml) -> Iterator[Daemon]:
    require_tool("prometheus")
    with short_directory() as state, Daemon(state, environ=mock.environment()) as daemon:
        daemon.status_when(lambda status: status.gpus and status.api.url)
        yield daemon


@pytest.fixture(scope="module")
def address(daemon: Daemon) -> str:
    url = daemon.status().api.url
    assert url is not None
    return url.removeprefix("http://")


@pytest.fixture(scope="module")
def scraped(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with prometheus(tmp_path_factory.mktemp("prometheus"), address) as server:
        yield server


def test_the_target_is_up_and_queries_return(scraped: Prometheus, daemon: Daemon) -> None:
    scraped.query_when("count_over_time(up[1m])", lambda found: found.get("", 0) >= 5)
    (target,) = scraped.api("targets")["activeTargets"]
    assert (target["health"], target["lastError"]) == ("up", "")
    assert scraped.query("min_over_time(up[1m])") == {"": 1}
    assert set(scraped.query("flyball_gpu_up").values()) == {1}
    uuids = {gpu.uuid for gpu in daemon.status().gpus}
    named = scraped.query("flyball_gpu_temperature_celsius * on (gpu, uuid) group_left (name) flyball_gpu_info")
    assert len(named) == GPUS
    assert {name.split(",")[2] for name in named} == uuids
    assert scraped.query("rate(flyball_handler_handled_total{handler='throttle'}[1m]) > 0")
    assert scraped.query("flyball_target_state == 1").keys() == {"OPTIMAL,gpu0", "OPTIMAL,gpu1", "OPTIMAL,host"}


def test_an_error_that_the_driver_tells_is_counted(scraped: Prometheus, mock: MockNvml) -> None:
    mock.xid(gpu=0, code=31, count=2)
    scraped.query_when("flyball_gpu_xid_errors_total", lambda found: found == {f"0,{mock.uuid(0)},31": 2})


def test_a_card_that_hangs_is_down_and_has_no_figure(scraped: Prometheus, mock: MockNvml) -> None:
    mock.set(gpu=1, hang=1)
    try:
        scraped.query_when("flyball_gpu_up == 0", lambda found: len(found) == 1)
        assert len(scraped.query("flyball_gpu_temperature_celsius")) == GPUS - 1
        scraped.query_when("ALERTS{alertname='FlyballGpuNotRead'}", len)
    finally:
        mock.set(gpu=1, hang=0)


def test_promtool_finds_nothing_in_the_figures(address: str) -> None:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as response:
        text = response.read()
    assert b"flyball_gpu_up{" in text
    assert complaints("metrics", text=text) == ""
    assert "should not have" in complaints("metrics", text=b"# HELP a_total A.\n# TYPE a_total gauge\na_total 1\nb 1\n")


def test_promtool_finds_nothing_in_what_we_ship(tmp_path: Path) -> None:
    assert complaints("config", str(ALERTS.with_name("prometheus.yml"))) == ""
    assert complaints("rules", str(ALERTS)) == ""
    broken = tmp_path / "broken.yml"
    broken.write_text(ALERTS.read_text().replace("flyball_gpu_up == 0", "flyball_gpu_up == == 0"))
    assert "parse error" in complaints("rules", str(broken))


def test_alerts_come_when_they_should_and_not_before() -> None:
    played = Path(__file__).with_name("alerts.yml")
    done = subprocess.run(
        [require_tool("promtool"), "test", "rules", str(played)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
