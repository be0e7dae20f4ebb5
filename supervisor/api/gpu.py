"""`/api/gpu/status`, `/api/gpu/metrics` and `/api/gpu/throttle/status`: how a card is doing and what is asked of it."""

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from msgspec import Struct

from schemas.demand import Demand
from schemas.event import State
from schemas.sample import Bytes, Gpu, GpuBackend, Ratio, Reading, Sample
from schemas.status import OverrideStatus, TargetStatus
from schemas.workload import Action, Cleanup, Count, Directive, Name, Seconds, Speed, Target
from supervisor.route import Asked, GpuQuery, Refusal, Route
from supervisor.runtime.status import STALE_INTERVALS

_NOT_YET: Final = "nothing has been sampled yet; ask again in a second"


class Targets(Protocol):
    """What stands for each target."""

    def of(self, target: str) -> TargetStatus | None:
        """State and order of a target; None where nobody has ever said anything of it."""
        ...

    def directive(self, target: str) -> Directive | None:
        """The standing directive, None where there was none."""
        ...

    def demands(self, target: str) -> Sequence[Demand]:
        """What is demanded of it."""
        ...


class GpuStatus(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One card now; a figure that is not known is not there, and where `reading` is not fresh none is.

    `state` and `why` are the judgement of who watches it (null: nobody has judged it yet); `action`, `speed` and
    `reason` are the order that stands for it.
    """

    target: Target
    index: Count
    uuid: str
    name: str
    pci_bus_id: str
    simulated: bool
    sample_id: str
    #: when the sample was taken
    time: str
    sample_age_s: Seconds
    reading: Reading
    state: State | None
    why: str
    #: whether the order is to be slower than full speed
    is_throttled: bool
    action: Action
    speed: Speed
    seq: Count
    #: why the order was given
    reason: str
    override: OverrideStatus | None = None
    temperature_celsius: float | None = None
    temperature_margin_celsius: float | None = None
    memory_total_bytes: Bytes | None = None
    memory_used_bytes: Bytes | None = None
    memory_free_bytes: Bytes | None = None
    memory_used_ratio: Ratio | None = None
    utilization_ratio: Ratio | None = None
    power_watts: float | None = None
    throttle_reasons: tuple[str, ...] = ()


class AllGpus(Struct, frozen=True, kw_only=True):
    """Every card now; where there is none, `gpu_backend` says why."""

    host: Name
    time: str
    gpu_backend: GpuBackend
    gpus: tuple[GpuStatus, ...]


class GpuMetrics(Struct, frozen=True, kw_only=True):
    """All that was last read of one card."""

    host: Name
    sample_id: str
    time: str
    sample_age_s: Seconds
    interval_s: Seconds
    simulated: bool
    gpu: Gpu


class Wanted(Struct, frozen=True, kw_only=True):
    """What one issuer demands."""

    issuer: str
    action: Action
    speed: Speed
    cleanup: Cleanup
    reason: str


class ThrottleStatus(Struct, frozen=True, kw_only=True):
    """What is asked of those who work on one card: the slowest of the demands, unless an operator overrides."""

    target: Target
    #: whether to run slower than at full speed, or to pause
    should_throttle: bool
    #: by which full speed is to be multiplied
    speed: Speed
    action: Action
    cleanup: Cleanup
    state: State | None
    why: str
    reason: str
    #: since when the order stands; empty where none was ever given
    since: str
    seq: Count
    demands: tuple[Wanted, ...]
    override: OverrideStatus | None


def routes(targets: Targets, monotonic_s: Callable[[], float]) -> list[Route]:
    """`monotonic_s` is the sampler's clock."""

    def status(asked: Asked) -> GpuStatus:
        gpu = asked.gpu()
        sample = _sampled(asked)
        return _status(gpu, sample, _age_s(sample), targets.of(f"gpu{gpu.index}"))

    def all_of_them(asked: Asked) -> AllGpus:
        sample = _sampled(asked)
        age_s = _age_s(sample)
        cards = tuple(_status(gpu, sample, age_s, targets.of(f"gpu{gpu.index}")) for gpu in sample.gpus)
        return AllGpus(host=sample.host, time=sample.time, gpu_backend=sample.gpu_backend, gpus=cards)

    def metrics(asked: Asked) -> GpuMetrics:
        gpu, sample = asked.gpu(), _sampled(asked)
        age_s = _age_s(sample)
        return GpuMetrics(
            host=sample.host, sample_id=sample.id, time=sample.time, sample_age_s=age_s, interval_s=sample.interval_s,
            simulated=sample.simulated, gpu=_without_figures(gpu, why) if (why := _stale(sample, age_s)) else gpu,
        )  # fmt: skip

    def throttle(asked: Asked) -> ThrottleStatus:
        gpu, sample = asked.gpu(), _sampled(asked)
        name = f"gpu{gpu.index}"
        order, directive = targets.of(name), targets.directive(name)
        state, why = _judgement(gpu, _stale(sample, _age_s(sample)), order)
        return ThrottleStatus(
            target=name,
            should_throttle=order is not None and order.action != "run",
            speed=order.speed if order else 1.0,
            action=order.action if order else "run",
            cleanup=directive.cleanup if directive else "none",
            state=state,
            why=why,
            reason=directive.reason if directive else "",
            since=directive.time if directive else "",
            seq=directive.seq if directive else 0,
            demands=tuple(_wanted(demand) for demand in targets.demands(name)),
            override=order.override if order else None,
        )

    def _age_s(sample: Sample) -> float:
        return round(max(0.0, monotonic_s() - sample.monotonic_s), 3)

    def _status(gpu: Gpu, sample: Sample, age_s: float, order: TargetStatus | None) -> GpuStatus:
        stale = _stale(sample, age_s)
        state, why = _judgement(gpu, stale, order)
        directive = targets.directive(f"gpu{gpu.index}")
        return GpuStatus(
            target=f"gpu{gpu.index}", index=gpu.index, uuid=gpu.uuid, name=gpu.name, pci_bus_id=gpu.pci_bus_id,
            simulated=sample.simulated, sample_id=sample.id, time=sample.time, sample_age_s=age_s,
            reading="blind" if stale and gpu.reading == "fresh" else gpu.reading, state=state, why=why,
            is_throttled=order is not None and order.action != "run",
            action=order.action if order else "run", speed=order.speed if order else 1.0, seq=order.seq if order else 0,
            reason=directive.reason if directive else "", override=order.override if order else None,
            **({} if stale or gpu.reading != "fresh" else _figures(gpu)),
        )  # fmt: skip

    return [
        Route(
            method="GET", path="/api/gpu/status", summary="How a card is doing, and what stands for it.",
            query=GpuQuery, answer=GpuStatus, call=status, problems=_PROBLEMS,
        ),
        Route(
            method="GET", path="/api/gpu/status/all", summary="How every card is doing, and what stands for it.",
            answer=AllGpus, call=all_of_them, problems={503: _NOT_YET},
        ),
        Route(
            method="GET", path="/api/gpu/metrics", summary="All that was last read of a card, and how old it is.",
            query=GpuQuery, answer=GpuMetrics, call=metrics, problems=_PROBLEMS,
        ),
        Route(
            method="GET", path="/api/gpu/throttle/status",
            summary="Whether to slow down on a card, by how much, and who wants it.",
            query=GpuQuery, answer=ThrottleStatus, call=throttle, problems=_PROBLEMS,
        ),
    ]  # fmt: skip


_PROBLEMS: Final = {404: "There is no such card.", 503: "Nothing has been sampled yet."}


def _sampled(asked: Asked) -> Sample:
    if asked.latest is None:
        raise Refusal(503, _NOT_YET)
    return asked.latest


def _stale(sample: Sample, age_s: float) -> str:
    """Why nothing in a sample holds any more; empty where it does."""
    if age_s <= STALE_INTERVALS * sample.interval_s:
        return ""
    return f"the last sample is {age_s:.1f} s old"


def _judgement(gpu: Gpu, stale: str, order: TargetStatus | None) -> tuple[State | None, str]:
    """State and why. What was not read is BLIND even where nobody has said so yet, or who should is gone."""
    state, why = (order.state, order.reason) if order else (None, "nobody has judged it yet")
    if stale or gpu.reading != "fresh":
        return "BLIND", why if state == "BLIND" else stale or gpu.reason or f"its reading is {gpu.reading}"
    return state, why


def _figures(gpu: Gpu) -> dict[str, Any]:
    total, used = gpu.memory_total_bytes, gpu.memory_used_bytes
    return {
        "temperature_celsius": gpu.temperature_celsius,
        "temperature_margin_celsius": gpu.temperature_margin_celsius,
        "memory_total_bytes": total,
        "memory_used_bytes": used,
        "memory_free_bytes": None if total is None or used is None else max(0, total - used),
        "memory_used_ratio": None if gpu.memory_used_ratio is None else round(gpu.memory_used_ratio, 4),
        "utilization_ratio": gpu.utilization_ratio,
        "power_watts": gpu.power_watts,
        "throttle_reasons": gpu.throttle_reasons,
    }


def _without_figures(gpu: Gpu, why: str) -> Gpu:
    """The identity alone, as a card has it that cannot be read."""
    if gpu.reading != "fresh":
        return gpu
    return Gpu(index=gpu.index, uuid=gpu.uuid, name=gpu.name, pci_bus_id=gpu.pci_bus_id, reading="blind", reason=why)


def _wanted(demand: Demand) -> Wanted:
    return Wanted(
        issuer=demand.issuer, action=demand.action, speed=demand.speed, cleanup=demand.cleanup, reason=demand.reason
    )
