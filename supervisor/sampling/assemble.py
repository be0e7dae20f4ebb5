"""Puts together the sources that this machine has, as the configuration says."""

import sys
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from supervisor.clock import Clock
from supervisor.config import Config
from supervisor.sampling.source import CounterBoard, GpuSource, HostSource, ProcessSource


class Sources(Struct, frozen=True):
    """What a `Sampler` reads; it takes them over."""

    gpus: GpuSource
    host: HostSource
    processes: ProcessSource
    #: None where no workload has any
    counters: CounterBoard | None = None


def real_sources(config: Config, clock: Clock) -> Sources:
    """This machine: cards through NVML, host and processes from /proc or by psutil."""
    from supervisor.sampling.nvml.source import NvmlSource  # cold imports are slow, and a demo needs none of it

    host, processes = _machine(config)
    sampling = config.sampling
    kernel_log = Path(sampling.kmsg) if sampling.kmsg and sys.platform == "linux" else None
    gpus = NvmlSource(deadline_s=sampling.nvml_deadline_s, kernel_log=kernel_log)
    return Sources(gpus, host, processes, _counters(config, clock))


def simulated_sources(config: Config, clock: Clock, speed: Callable[[int], float], *, seed: int = 0) -> Sources:
    """Eight simulated cards in the real machine; `speed(index)` is as in `SimulatedGpus`."""
    from supervisor.sampling.simulated import SimulatedGpus

    host, processes = _machine(config)
    return Sources(SimulatedGpus(clock, speed=speed, seed=seed), host, processes, _counters(config, clock))


def raise_descriptor_limit(most: int = 65_536) -> int:
    """Raise this process's soft limit of open files towards its hard one, and return what it now is.

    A descriptor stays open for each process on the machine, and the usual soft limit of 1024 is meant for programs
    that use select(2). Programs that we start inherit it. Called once by the daemon, before the sources are made.
    """
    if sys.platform == "win32":
        return most
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most if hard == resource.RLIM_INFINITY else min(most, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return soft


def _counters(config: Config, clock: Clock) -> CounterBoard | None:
    if not any(workload.counters for workload in config.workload):
        return None
    from supervisor.sampling.counters.assemble import counter_board

    return counter_board(config.workload, clock)


def _machine(config: Config) -> tuple[HostSource, ProcessSource]:
    sampling = config.sampling
    if sys.platform == "linux":
        from supervisor.sampling.host import ProcHost
        from supervisor.sampling.processes import ProcProcesses

        return (
            ProcHost(sampling.proc_root, sampling.cgroup_root),
            ProcProcesses(config.workload, top=sampling.top_processes, proc_root=sampling.proc_root),
        )
    else:  # noqa: RET505 - without it, type checkers on Linux call the rest unreachable
        from supervisor.sampling.portable import PsutilHost, PsutilProcesses

        return PsutilHost(), PsutilProcesses(config.workload, top=sampling.top_processes)
