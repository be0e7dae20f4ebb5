"""What a sample says of each process and card: who it is, and its levels."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from schemas.leak import Resource
from schemas.sample import Gpu, Process, Sample
from schemas.workload import Pid, Seconds


class Who(Struct, frozen=True, kw_only=True):
    """A process, or without a pid the card `gpu`."""

    pid: Pid = 0
    start_time_s: Seconds = 0.0
    process: str = ""
    workload: str = ""
    cgroup: str = ""
    gpu: str = ""
    uuid: str = ""

    @property
    def key(self) -> str:
        """Identity, over restarts of the supervisor too."""
        return f"{self.pid}/{self.start_time_s:.2f}" if self.pid else self.uuid

    @property
    def leak(self) -> str:
        """What a report calls it."""
        return f"pid/{self.pid}/{self.start_time_s:.2f}" if self.pid else self.gpu


def cards_of(sample: Sample, pid: int) -> list[Gpu]:
    """The cards on which the process is."""
    return [gpu for gpu in sample.gpus if any(one.pid == pid for one in gpu.processes)]


def levels(process: Process, vram: Mapping[int, int]) -> dict[Resource, float]:
    """What is known of a process; `vram` is what each has on the cards.

    Memory is what is anonymous: mapped files are the kernel's to drop, and a data base that warms its page cache would
    look like a leak. Shared memory that leaks shows in the address space (vms), and in the evidence.
    """
    figures: dict[Resource, Any] = {
        "rss": process.rss_bytes if process.rss_anon_bytes is None else process.rss_anon_bytes,
        "vms": process.vms_bytes,
        "threads": process.threads,
        "handles": process.open_handles,
    }
    if process.pid in vram:
        figures["vram"] = vram[process.pid]
    return {resource: float(level) for resource, level in figures.items() if level is not None}


def vram(gpus: Sequence[Gpu]) -> dict[int, int]:
    """What each process has on all cards; nothing while a card does not answer, which would look like a release."""
    if any(gpu.reading == "blind" for gpu in gpus):
        return {}
    held: dict[int, int] = {}
    for gpu in gpus:
        for process in gpu.processes:
            if process.memory_used_bytes is not None:
                held[process.pid] = held.get(process.pid, 0) + process.memory_used_bytes
    return held


def users(sample: Sample) -> dict[int, set[str]]:
    """The workloads on each card."""
    if not any(gpu.processes for gpu in sample.gpus):
        return {}
    names = {process.pid: process.workload for process in sample.processes if process.workload}
    return {gpu.index: {names[one.pid] for one in gpu.processes if one.pid in names} for gpu in sample.gpus}


def process_named(process: Process) -> Who:
    """Who it is."""
    return Who(
        pid=process.pid, start_time_s=process.start_time_s, process=process.name, workload=process.workload,
        cgroup=process.cgroup,
    )  # fmt: skip


def card_named(gpu: Gpu) -> Who:
    """The same of a card."""
    return Who(gpu=f"gpu{gpu.index}", uuid=gpu.uuid)
