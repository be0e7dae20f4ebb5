"""Our detector of leaks in the contract of `bench/leakbench/given/run_online.py`: `leakbench_adapter:Detector`.

It is the engine that the daemon runs, with the settings that it has where nobody sets any. It is told nothing but the
samples; here are only other names and units.
"""

from collections.abc import Mapping
from typing import Any, Final, TypedDict

from handlers.leak.policy import Subject
from handlers.leak.settings import Settings
from schemas.leak import Resource, Verdict

MIB: Final = 2**20
#: column → resource, and how many of its units one of the column is
COLUMNS: Final[Mapping[str, tuple[Resource, int]]] = {
    "rss_mb": ("rss", MIB), "vms_mb": ("vms", MIB), "threads": ("threads", 1), "fds": ("handles", 1),
    "vram_mb": ("vram", MIB),
}  # fmt: skip
NAMES: Final = {resource: column.removesuffix("_mb") for column, (resource, _) in COLUMNS.items()}
UNITS: Final = dict(COLUMNS.values())


class Alarm(TypedDict):
    """What the runner takes, and the amount a call's 95 % interval, which it does not score; memory in MB."""

    resource: str
    driver: str | None
    per_call: float | None
    per_call_low: float | None
    per_call_high: float | None
    rate_per_h: float | None
    severity: str
    since_s: float | None


class Detector:
    """One process, from its first sample."""

    def __init__(self, settings: Settings | None = None) -> None:
        self._subject = Subject(settings or Settings())

    def observe(self, sample: Mapping[str, Any]) -> list[Alarm]:
        """What is confirmed, and, as information only, what is suspected."""
        verdicts = self._subject.observe(*observation(sample))
        return [alarm(verdict) for verdict in verdicts if verdict.stage in ("suspected", "confirmed")]


def observation(
    sample: Mapping[str, Any],
) -> tuple[float, dict[Resource, float], dict[str, float], dict[str, float]]:
    """A sample in the engine's units: time, levels, counters, gauges; without what was not measured."""
    levels = {
        resource: sample[column] * unit for column, (resource, unit) in COLUMNS.items() if sample[column] is not None
    }
    counts = {name: value for name, value in sample["calls"].items() if value is not None}
    gauges = {name: value for name, value in sample["gauges"].items() if value is not None}
    return sample["t_s"], levels, counts, gauges


def alarm(verdict: Verdict) -> Alarm:
    """A verdict in the contract's words; address space is no leak of its own, and never more than information."""
    unit, cause, rate = UNITS[verdict.resource], verdict.cause, verdict.rate_per_s
    amount = cause.per_call if cause is not None else None
    counts = verdict.stage == "confirmed" and verdict.resource != "vms"
    return {
        "resource": NAMES[verdict.resource],
        "driver": cause.driver if cause is not None else None,
        "per_call": amount.value / unit if amount is not None else None,
        "per_call_low": amount.low / unit if amount is not None else None,
        "per_call_high": amount.high / unit if amount is not None else None,
        "rate_per_h": rate.value * 3600 / unit if rate is not None else None,
        "severity": "warn" if counts else "info",
        "since_s": verdict.since_s,
    }
