"""What live series take in memory, measured in a process that does nothing else."""

import multiprocessing
import os
import pickle
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from handlers.leak.policy import Subject
from handlers.leak.settings import Settings

MIB = 2**20
#: fed one by one; the others are copies with objects of their own
FED = 10


def megabytes(subjects: int, samples: int) -> float:
    """By how much RSS grows with that many processes of four series, three counters and a gauge each, MB."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_grown, subjects, samples).result()


def _grown(subjects: int, samples: int) -> float:
    packed = [pickle.dumps(_fed(seed, samples)) for seed in range(FED)]
    kept: list[Sequence[Subject]] = [[pickle.loads(each) for each in packed]]
    before = _resident()
    kept += [[pickle.loads(each) for each in packed] for _ in range(subjects // FED)]
    return (_resident() - before) / MIB


def _fed(seed: int, samples: int) -> Subject:
    """One that has seen enough that nothing in it grows any more; part of them leak."""
    subject = Subject(Settings())
    for n in range(samples):
        step = (n * (seed + 7)) % 11
        levels = {
            "rss": (200 + n * 0.01 * (seed % 3) + step) * MIB, "vms": (900 + n // 50) * MIB, "threads": 20 + step % 2,
            "handles": 60 + step,
        }  # fmt: skip
        counts = {"requests": n * 3.0 + step, "errors": float(n // 9), "jobs": float(n // 40)}
        subject.observe(n * 1.0, levels, counts, {"sessions": 30.0 + step})  # type: ignore[arg-type]
    return subject


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
