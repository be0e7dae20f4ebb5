"""A Prometheus scrapes the daemon each second for a minute, while a card gets hot and another one hangs.

`python tests/shows/metrics.py` says what its queries return, and ends with 1 if anything was not as it must be.
"""

import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.daemon import Daemon, short_directory
from tests.mocknvml.build import build_library
from tests.mocknvml.control import MockNvml
from tests.prometheus.server import Prometheus, complaints, prometheus

SECONDS: Final = 60
CARDS: Final = 8
HOT: Final = 2
HUNG: Final = 5
#: One that falls on the start or the end may be missing.
SCRAPES_LEAST: Final = SECONDS - 2
QUERIES: Final = (
    "min_over_time(up[1m])",
    "count_over_time(up[1m])",
    "max_over_time(scrape_duration_seconds[1m])",
    "scrape_samples_scraped",
    "avg(flyball_gpu_temperature_celsius)",
    "sum(flyball_gpu_memory_used_bytes) / sum(flyball_gpu_memory_total_bytes)",
    "rate(flyball_handler_handled_total[30s])",
    "sum by (state) (flyball_target_state)",
    "flyball_host_memory_available_bytes / flyball_host_memory_total_bytes",
)


def play(daemon: Daemon, mock: MockNvml, scraped: Prometheus, tell: Callable[[str], None]) -> None:
    """The minute; fails as an assertion does."""
    scraped.query_when("up", lambda found: found == {"": 1})
    began_s = time.monotonic()
    tell("the target is up")
    scraped.query_when("sum(flyball_gpu_up)", lambda found: found == {"": CARDS})
    mock.set(HOT, temperature=92)
    scraped.query_when("flyball_target_state{state='CRITICAL'} == 1", lambda found: f"CRITICAL,gpu{HOT}" in found)
    scraped.query_when(f"flyball_target_speed_ratio{{target='gpu{HOT}'}}", lambda found: found == {f"gpu{HOT}": 0})
    tell(f"gpu{HOT} at 92 °C: its state is CRITICAL and its speed 0")
    mock.set(HUNG, hang=1)
    scraped.query_when("flyball_gpu_up == 0", lambda found: [*found] == [f"{HUNG},{mock.uuid(HUNG)}"])
    assert len(scraped.query("flyball_gpu_temperature_celsius")) == CARDS - 1, "what hangs has no figure"
    scraped.query_when(
        f"flyball_target_state{{state='BLIND',target='gpu{HUNG}'}}", lambda found: set(found.values()) == {1}
    )
    scraped.query_when("ALERTS{alertname='FlyballGpuNotRead'}", len)
    tell(f"gpu{HUNG} hangs: it is down, BLIND and without figures, and the alert is pending")
    mock.set(HUNG, hang=0)
    scraped.query_when("sum(flyball_gpu_up)", lambda found: found == {"": CARDS})
    tell(f"gpu{HUNG} is back")
    time.sleep(max(0.0, began_s + SECONDS - time.monotonic()))
    for query in QUERIES:
        found = scraped.query(query)
        assert found, f"{query} returns nothing"
        tell(f"{query}: {', '.join(f'{labels} {value:.4g}'.strip() for labels, value in found.items())}")
    assert scraped.query("min_over_time(up[1m])") == {"": 1}, "a scrape failed"
    assert scraped.query("count_over_time(up[1m])")[""] >= SCRAPES_LEAST, "scrapes are missing"
    with urllib.request.urlopen(f"{daemon.status().api.url}/metrics") as response:
        found_wrong = complaints("metrics", text=response.read())
    assert not found_wrong, found_wrong
    tell("promtool check metrics: clean")


def main() -> int:
    """The minute, with everything that it needs."""
    began_s = time.monotonic()

    def tell(line: str) -> None:
        print(f"{time.monotonic() - began_s:6.1f} s  {line}", flush=True)

    with short_directory() as state:
        state.mkdir(mode=0o700)
        mock = MockNvml(state / "nvml", library=build_library(), gpus=CARDS)
        files = Path(state, "prometheus")
        files.mkdir()
        try:
            with mock, Daemon(state, environ=mock.environment()) as daemon:
                url = daemon.status_when(lambda status: status.gpus and status.api.url).api.url
                assert url is not None, "the API runs"
                with prometheus(files, url.removeprefix("http://")) as scraped:
                    play(daemon, mock, scraped, tell)
        except AssertionError as error:
            tell(f"FAILED: {error}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
