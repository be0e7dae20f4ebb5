"""What the daemon costs: CPU and memory of `flyball run` with 8 mock cards and 200 processes at 1 Hz, for 5 minutes.

Supervisor and NVML reader count together, without the bus. The peers run at the same time over the same mock driver
library and the same processes: nvitop-exporter, scraped each second, and a plain loop of psutil, pynvml and XADD.
CPU is user and system time over the window as a share of one core. Memory is the proportional set size (PSS); growth is
told of it and of the resident set, since PSS also grows when somebody else who had the same libraries in memory ends.
"""

import os
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import psutil

from bench import report
from bench.peers.environment import program
from bench.report import Report, at_most, percentile
from bench.running import daemon, first_sample_s
from bench.sampling import sleeping
from bench.server import private_server
from tests.mocknvml.build import build_library
from tests.mocknvml.control import GIB, MockNvml, MockProcess

GPUS: Final = 8
PROCESSES: Final = 200
#: So many of the processes share a card; nvitop-exporter looks at those only.
ON_A_CARD: Final = 8
#: Imports and first looks are over by then.
SETTLE_S: Final = 15.0
#: How often memory is looked at.
LOOK_EVERY_S: Final = 5.0
#: What the growth of a process that does not grow comes to, from page to page.
STEADY_MB: Final = 1.0
_READY_WITHIN_S: Final = 20.0
_SERVERS: Final = ("redis-server", "valkey-server")


class Figures(NamedTuple):
    """What a program cost; growth is from the median of the window's first quarter to that of its last one."""

    cpu_percent: float
    pss_mb: float
    growth_mb: float
    pss_growth_mb: float


class Usage:
    """CPU and memory of a process and its children over a window, without those that `counts` passes over."""

    def __init__(self, pid: int, counts: Callable[[psutil.Process], bool]) -> None:
        root = psutil.Process(pid)
        self._processes = [each for each in (root, *root.children(recursive=True)) if counts(each)]
        self._begun_s, self._cpu_s = time.monotonic(), self._cpu()
        self.pss_mb: list[float] = []
        self.rss_mb: list[float] = []
        self.look()

    def look(self) -> None:
        """Take down how much memory it holds."""
        memory = [each.memory_full_info() for each in self._processes]
        self.pss_mb.append(sum(each.pss for each in memory) / 1e6)
        self.rss_mb.append(sum(each.rss for each in memory) / 1e6)

    def figures(self) -> "Figures":
        """What it came to so far."""
        cpu = 100 * (self._cpu() - self._cpu_s) / (time.monotonic() - self._begun_s)
        return Figures(cpu, percentile(self.pss_mb, 0.5), _growth(self.rss_mb), _growth(self.pss_mb))

    def _cpu(self) -> float:
        times = [each.cpu_times() for each in self._processes]
        return sum(each.user + each.system for each in times)


def _growth(sizes_mb: Sequence[float]) -> float:
    """From the median of the first quarter to that of the last one."""
    quarter = max(1, len(sizes_mb) // 4)
    return percentile(sizes_mb[-quarter:], 0.5) - percentile(sizes_mb[:quarter], 0.5)


@contextmanager
def machine(directory: Path) -> Iterator[dict[str, str]]:
    """Eight mock cards, each shared by some of the processes that sleep; what a program needs in its environment."""
    with (
        MockNvml(directory / "nvml", library=build_library(directory / "library"), gpus=GPUS) as mock,
        sleeping(PROCESSES) as pids,
    ):
        for index in range(GPUS):
            mock.set_processes(index, [MockProcess(pid, GIB) for pid in pids[ON_A_CARD * index :][:ON_A_CARD]])
        yield mock.environment()


@contextmanager
def exporter(environment: Mapping[str, str]) -> Iterator[tuple[int, Callable[[], None]] | None]:
    """Pid of nvitop-exporter and what scrapes it; None where it is missing."""
    path = program("nvitop-exporter")
    if path is None:
        yield None
        return
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [path, "--port", str(port)], env=os.environ | environment,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip

    def scrape() -> None:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
            if b"GPU-00000000" not in response.read():
                raise RuntimeError("nvitop-exporter tells nothing of the mock cards")

    try:
        _await_port(port)
        yield process.pid, scrape
    finally:
        process.terminate()
        process.wait()


@contextmanager
def plain_loop(environment: Mapping[str, str], url: str) -> Iterator[int | None]:
    """Pid of the plain loop; None where its environment is missing."""
    python = program("python")
    if python is None:
        yield None
        return
    script = Path(__file__).parent / "peers" / "plain_loop.py"
    process = subprocess.Popen([python, script, url], env=os.environ | environment, stdin=subprocess.DEVNULL)
    try:
        yield process.pid
        if process.poll() is not None:
            raise RuntimeError("the plain loop ended; what it said stands above")
    finally:
        process.terminate()
        process.wait()


def _await_port(port: int) -> None:
    deadline_s = time.monotonic() + _READY_WITHIN_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.05)
        else:
            return


def measure(directory: Path, *, settle_s: float, window_s: float) -> dict[str, Figures]:
    """All of them at the same time, so that a busy machine is busy for each."""
    with ExitStack() as stack:
        environment = stack.enter_context(machine(directory))
        url = stack.enter_context(private_server())
        begun_s = time.time()
        ours = stack.enter_context(daemon(directory / "s", environment))
        first_sample_s(directory / "s", begun_s)
        nvitop = stack.enter_context(exporter(environment))
        plain = stack.enter_context(plain_loop(environment, url))
        scrape = nvitop[1] if nvitop else lambda: None
        _each_second(settle_s, scrape)
        usages = {
            "ours": Usage(ours, lambda process: process.name() not in _SERVERS),
            "bus": Usage(ours, lambda process: process.name() in _SERVERS),
        }
        if nvitop:
            usages["nvitop-exporter"] = Usage(nvitop[0], lambda process: True)
        if plain:
            usages["plain loop"] = Usage(plain, lambda process: True)
        _each_second(window_s, scrape, list(usages.values()))
        return {name: usage.figures() for name, usage in usages.items()}


def _each_second(seconds: float, scrape: Callable[[], None], usages: list[Usage] | None = None) -> None:
    """Scrape each second, and look at the memory now and then."""
    begun_s = due_s = look_s = time.monotonic()
    while due_s < begun_s + seconds:
        scrape()
        if usages and due_s >= look_s:
            look_s += LOOK_EVERY_S
            for usage in usages:
                usage.look()
        due_s += 1.0
        time.sleep(max(0.0, due_s - time.monotonic()))


def add_rows(rows: Report, figures: Mapping[str, Figures]) -> None:
    """The figures by name."""
    cpu, pss, growth, pss_growth = figures["ours"]
    what = f"{GPUS} cards, {PROCESSES} processes ({GPUS * ON_A_CARD} on cards), 1 Hz"
    rows.add(what, "CPU", "% of a core", ours=cpu, goal=at_most(1))
    rows.add(what, "PSS", "MB", ours=pss, goal=at_most(90))
    rows.add(what, "growth of RSS", "MB", ours=growth, goal=at_most(STEADY_MB))
    rows.add(what, "growth of PSS", "MB", ours=pss_growth, goal=at_most(STEADY_MB))
    for peer in ("nvitop-exporter", "plain loop"):
        its = figures.get(peer, (None, None))
        rows.add(f"{what}, beside {peer}", "CPU", "% of a core", ours=cpu, peer=its[0], goal=at_most(0.45, "peer"))
        rows.add(f"{what}, beside {peer}", "PSS", "MB", ours=pss, peer=its[1])
    rows.add("its bus", "CPU", "% of a core", ours=figures["bus"][0])
    rows.add("its bus", "PSS", "MB", ours=figures["bus"][1])


def main() -> None:
    """Measure and print."""
    options = report.options("CPU and memory of the daemon, beside nvitop-exporter and a plain loop")
    rows = Report("daemon", options)
    with tempfile.TemporaryDirectory(prefix="fb-") as directory:
        figures = measure(Path(directory), settle_s=SETTLE_S, window_s=25 if options.quick else 300)
    add_rows(rows, figures)
    rows.finish()


if __name__ == "__main__":
    main()
