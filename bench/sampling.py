"""What a tick costs with 1,000 real processes on the machine, and how many NVML calls it makes of a card.

The floor is the bare cached reads of the same processes in the same run: one pread of `stat` and one count of open
descriptors each, parsed by nobody. The peer is `psutil.process_iter` with the same figures.
"""

import asyncio
import gc
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psutil

from bench import report
from bench.report import Report, at_most, percentile
from supervisor.config import Match, WorkloadSection
from supervisor.sampling.assemble import raise_descriptor_limit
from supervisor.sampling.host import ProcHost
from supervisor.sampling.nvml.source import NvmlSource
from supervisor.sampling.processes import ProcProcesses
from tests.mocknvml.build import build_library
from tests.mocknvml.control import MockNvml

PROCESSES: Final = 1000
#: as psutil names what a `Process` holds
PSUTIL_FIGURES: Final = [
    "pid", "create_time", "name", "username", "memory_info", "num_threads", "num_fds", "cpu_times",
]  # fmt: skip


@contextmanager
def sleeping(count: int) -> Iterator[list[int]]:
    """So many processes that do nothing."""
    pids: list[int] = []
    try:
        for _ in range(count):
            pids.append(os.posix_spawnp("sleep", ["sleep", "3600"], os.environ))
        yield pids
    finally:
        for pid in pids:
            os.kill(pid, 9)
        for pid in pids:
            os.waitpid(pid, 0)


def floor_read(pids: list[int], descriptors: list[int]) -> None:
    """The bare cached reads."""
    for pid, descriptor in zip(pids, descriptors, strict=True):
        os.pread(descriptor, 1024, 0)
        os.stat(f"/proc/{pid}/fd").st_size  # noqa: B018, PTH116 - the floor is bare


def in_turn(rounds: int, *actions: Callable[[], object]) -> list[list[float]]:
    """Milliseconds of each action, run in turn so that a busy machine is busy for all of them."""
    times: list[list[float]] = [[] for _ in actions]
    gc.collect()
    for _ in range(rounds):
        for action, spent in zip(actions, times, strict=True):
            begun = time.perf_counter()
            action()
            spent.append(1000 * (time.perf_counter() - begun))
    return times


def processes(rows: Report, *, rounds: int) -> None:
    """1,000 processes: the 20 largest published, as by default; and all of them, as a declared workload's."""
    raise_descriptor_limit()
    with sleeping(PROCESSES) as pids:
        descriptors = [os.open(f"/proc/{pid}/stat", os.O_RDONLY) for pid in pids]
        default = ProcProcesses(top=20)
        every = ProcProcesses([WorkloadSection(name="sleepers", match=Match(cmdline="^sleep 3600"))], top=20)
        try:
            for source in (default, every):
                source.read((), {})
                source.read((), {})
            published = len(every.read((), {}))
            floor, ours, all_ours = in_turn(
                rounds,
                lambda: floor_read(pids, descriptors),
                lambda: default.read((), {}),
                lambda: every.read((), {}),
            )
            (peer,) = in_turn(max(3, rounds // 20), lambda: list(psutil.process_iter(PSUTIL_FIGURES)))
        finally:
            default.close()
            every.close()
            for descriptor in descriptors:
                os.close(descriptor)
    for figure, share in (("p50", 0.5), ("p99", 0.99)):
        rows.add(
            f"{PROCESSES:,} processes in a tick, the 20 largest in full (peer: psutil.process_iter)",
            figure,
            "ms",
            ours=percentile(ours, share),
            floor=percentile(floor, share),
            peer=percentile(peer, share),
            goal=at_most(1.3, "floor") if figure == "p50" else None,
        )
    rows.add(
        f"the same, {published:,} in full, as a declared workload's",
        "p50",
        "ms",
        ours=percentile(all_ours, 0.5),
        floor=percentile(floor, 0.5),
        peer=percentile(peer, 0.5),
    )


def a_host(rows: Report, *, rounds: int) -> None:
    """The host's figures, and a tick of the whole machine with 200 processes."""
    with sleeping(200):
        host, few = ProcHost(), ProcProcesses(top=20)
        try:
            host.read()
            few.read((), {})
            of_host, together = in_turn(rounds, host.read, lambda: (host.read(), few.read((), {})))
        finally:
            host.close()
            few.close()
    rows.add("CPU, load, RAM, swap, pressure, cgroup", "p50", "ms", ours=percentile(of_host, 0.5))
    rows.add("the host and 200 processes", "p50", "ms", ours=percentile(together, 0.5), goal=at_most(3))


async def nvml_calls(rows: Report, *, ticks: int, gpus: int = 8) -> None:
    """NVML calls a tick and card, counted by the mock driver library."""
    with tempfile.TemporaryDirectory() as directory:
        library = build_library(Path(directory, "library"))
        with MockNvml(Path(directory, "state"), library=library, gpus=gpus) as mock:
            source = NvmlSource(environment=os.environ | mock.environment())
            try:
                await source.start()
                for _ in range(100):
                    if (await source.read()).gpus:
                        break
                    await asyncio.sleep(0.05)
                before, begun = sum(mock.calls().values()), children_cpu_s()
                for _ in range(ticks):
                    readings = await source.read()
                    if len(readings.gpus) != gpus or any(gpu.reading != "fresh" for gpu in readings.gpus):
                        raise RuntimeError(f"the mock cards were not read: {readings}")
                calls, spent = sum(mock.calls().values()) - before, children_cpu_s() - begun
            finally:
                await source.stop()
    rows.add(f"NVML, {gpus} mock cards", "calls a tick and card", "calls", ours=calls / ticks / gpus)
    rows.add(f"NVML, {gpus} mock cards", "CPU of the reader a tick", "ms", ours=1000 * spent / ticks)


def children_cpu_s() -> float:
    """CPU time of the processes that we have started and that still run."""
    times = [child.cpu_times() for child in psutil.Process().children(recursive=True)]
    return sum(each.user + each.system for each in times)


def main() -> None:
    """Measure and print."""
    options = report.options("what a tick of the sampler costs")
    rows = Report("sampling", options)
    processes(rows, rounds=20 if options.quick else 200)
    a_host(rows, rounds=50 if options.quick else 500)
    asyncio.run(nvml_calls(rows, ticks=20 if options.quick else 300))
    rows.finish()


if __name__ == "__main__":
    main()
