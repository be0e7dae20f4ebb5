"""What every source promises, whatever it reads."""

import os
from abc import ABC, abstractmethod
from pathlib import Path

import psutil

from schemas.sample import Pressure
from supervisor.clock import SystemClock
from supervisor.config import Config, Match, WorkloadSection
from supervisor.identity import boot_id
from supervisor.sampling.assemble import raise_descriptor_limit, real_sources, simulated_sources
from supervisor.sampling.host import ProcHost
from supervisor.sampling.portable import PsutilHost, PsutilProcesses
from supervisor.sampling.processes import ProcProcesses
from supervisor.sampling.source import HostSource, ProcessSource

TRAINER = WorkloadSection(name="trainer", match=Match(cmdline="train.py"))


class HostContract(ABC):
    @abstractmethod
    def source(self) -> HostSource: ...

    def test_figures_are_in_range(self) -> None:
        source = self.source()
        source.read()
        host = source.read()
        source.close()
        assert host.cpu_count
        assert host.memory_used_ratio is not None
        assert 0 < host.memory_used_ratio <= 1
        assert host.load_1m is not None
        assert host.cpu_busy_ratio is None or 0 <= host.cpu_busy_ratio <= 1
        assert host.pressure is None or isinstance(host.pressure, Pressure)

    def test_memory_alone_is_the_same_figure(self) -> None:
        source = self.source()
        assert source.memory().memory_total_bytes == source.read().memory_total_bytes
        assert source.memory().cpu_count is None
        source.close()

    def test_closing_twice_is_fine(self) -> None:
        source = self.source()
        source.read()
        source.close()
        source.close()


class TestProcHost(HostContract):
    def source(self) -> HostSource:
        return ProcHost()


class TestPsutilHost(HostContract):
    def source(self) -> HostSource:
        return PsutilHost()


class ProcessContract(ABC):
    @abstractmethod
    def source(self, *workloads: WorkloadSection, top: int = 20) -> ProcessSource: ...

    @abstractmethod
    def start_time_s(self) -> float:
        """Our own start time, as this source counts it."""

    def test_we_see_ourselves(self) -> None:
        source = self.source(top=0)
        (process,) = source.read({os.getpid()}, {})
        source.close()
        us = psutil.Process()
        assert process.pid == us.pid
        assert process.user == us.username()
        assert process.rss_bytes
        assert process.vms_bytes
        assert process.threads
        assert process.open_handles
        assert process.cpu_seconds
        assert process.start_time_s == self.start_time_s()

    def test_the_largest_by_rss(self) -> None:
        source = self.source(top=2)
        chosen = source.read((), {})
        every = self.source(top=1000)
        everything = every.read((), {})
        source.close()
        every.close()
        assert len(chosen) == 2
        assert (
            min(process.rss_bytes or 0 for process in chosen) * 2
            > sorted(process.rss_bytes or 0 for process in everything)[-2]
        )

    def test_declared_and_registered(self) -> None:
        source = self.source(WorkloadSection(name="tests", match=Match(cmdline="no such program anywhere")), top=0)
        registered = {os.getpid(): (self.start_time_s(), "trainer")}
        # Servers that other tests left running are our children, and so of the same workload.
        family = {os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))}
        found = {process.pid: process.workload for process in source.read((), registered)}
        assert os.getpid() in found.keys() <= family
        assert set(found.values()) == {"trainer"}
        assert source.read((), {os.getpid(): (1.0, "impostor")}) == ()
        source.close()

    def test_a_declaration_that_fits_us_does_not_take_us(self) -> None:
        source = self.source(WorkloadSection(name="tests", match=Match(user=psutil.Process().username())), top=0)
        source.read((), {})
        processes = source.read({os.getpid()}, {})
        source.close()
        assert {process.workload for process in processes} >= {"", "tests"}
        assert next(process for process in processes if process.pid == os.getpid()).workload == ""

    def test_closing_twice_is_fine(self) -> None:
        source = self.source()
        source.read((), {})
        source.close()
        source.close()


class TestProcProcesses(ProcessContract):
    def source(self, *workloads: WorkloadSection, top: int = 20) -> ProcessSource:
        return ProcProcesses(workloads, top=top)

    def start_time_s(self) -> float:
        with open("/proc/self/stat", "rb") as file:  # noqa: PTH123
            return int(file.read().rpartition(b") ")[2].split()[19]) / os.sysconf("SC_CLK_TCK")


class TestPsutilProcesses(ProcessContract):
    def source(self, *workloads: WorkloadSection, top: int = 20) -> ProcessSource:
        return PsutilProcesses(workloads, top=top)

    def start_time_s(self) -> float:
        return psutil.Process().create_time()


async def test_simulated_cards_stand_in_the_real_machine() -> None:
    sources = simulated_sources(Config(), SystemClock(), lambda index: 1.0)
    await sources.gpus.start()
    assert len((await sources.gpus.read()).gpus) == 8
    assert sources.host.read().memory_total_bytes == psutil.virtual_memory().total
    await sources.gpus.stop()
    sources.host.close()
    sources.processes.close()


def test_the_real_sources_are_put_together_without_touching_a_driver() -> None:
    sources = real_sources(Config(workload=(TRAINER,)), SystemClock())
    assert sources.host.read().memory_total_bytes
    sources.host.close()
    sources.processes.close()


def test_the_id_of_this_boot_stays(tmp_path: Path) -> None:
    assert boot_id() == boot_id()
    elsewhere = boot_id(tmp_path)
    assert elsewhere == boot_id(tmp_path)
    assert len(elsewhere) == len(boot_id()) == 36


def test_the_limit_of_open_files_never_sinks() -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        assert raise_descriptor_limit() == resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= before[0]
        assert raise_descriptor_limit(1) == resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= before[0]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
