"""What a workload has done so far, as a sample shows it, pure: whether it rests follows from two of them."""

from typing import Final

from handlers.leak.counting import Counting
from handlers.leak.reactions import Activity
from schemas.sample import Sample

#: Begins the name of a source to which a program writes by itself: one that rests writes nothing.
_LINES: Final = "lines "


def activity_of(name: str, sample: Sample, counting: Counting) -> Activity | None:
    """CPU time and counts of all its processes; None where that is not known."""
    own = [process for process in sample.processes if process.workload == name]
    if not own or any(process.cpu_seconds is None for process in own):
        return None
    known_s = sample.monotonic_s
    for source in sample.counted:
        if source.workload != name or source.source.startswith(_LINES):
            continue
        if source.reason or source.age_s is None:
            return None  # what cannot be asked is not known to rest
        known_s = min(known_s, max(0.0, sample.monotonic_s - source.age_s))
    counts: dict[str, float] = {}
    for process in own:
        for counter, count in counting.of_process(process).counts.items():
            counts[f"{process.pid} {counter}"] = count
    cpu_seconds = sum(process.cpu_seconds or 0.0 for process in own)
    return Activity(at_s=sample.monotonic_s, known_s=known_s, cpu_seconds=cpu_seconds, counts=counts)
