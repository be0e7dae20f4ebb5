"""Puts the latest state of the host together: for `flyball status`, `/api/status` and the status key."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from schemas.demand import Demand
from schemas.sample import GpuBackend, Sample
from schemas.status import (
    ApiStatus,
    BusStatus,
    FaultStatus,
    HandlerStatus,
    LeaseStatus,
    MemoryStatus,
    OverrideStatus,
    Status,
    TargetStatus,
    WorkloadStatus,
)
from supervisor.clock import Clock, rfc3339
from supervisor.runtime.link import Link
from supervisor.runtime.standing import Standing, wanted
from supervisor.runtime.views import Views

#: Without a full sample for so many intervals, the state is unknown.
STALE_INTERVALS: Final = 3
_NOT_YET: Final = GpuBackend("unavailable", "starting", "Ask again in a second")


class Parts(Struct, frozen=True, kw_only=True):
    """Where the state comes from."""

    host: str
    pid: int
    version: str
    simulated: bool
    bus_url: str
    bus_kind: Callable[[], str]
    api_url: Callable[[], str | None]
    clock: Clock
    link: Link
    standing: Standing
    views: Views
    handler_status: Callable[[], Sequence[HandlerStatus]]
    latest: Callable[[], Sample | None]


def current_status(parts: Parts) -> Status:
    """The state now."""
    now_s = parts.clock.monotonic()
    link, sample = parts.link, parts.latest()
    age_s = None if sample is None else max(0.0, now_s - sample.monotonic_s)
    merged, demands = parts.views.merged(), parts.views.demands()
    counts = link.spool.counts()
    faults = msgspec.convert(merged.get("faults", {}), dict[str, tuple[FaultStatus, ...]])
    return Status(
        host=parts.host,
        time=rfc3339(parts.clock.wall()),
        simulated=parts.simulated,
        version=parts.version,
        pid=parts.pid,
        bus=BusStatus(
            url=parts.bus_url,
            kind=parts.bus_kind(),
            state="up" if link.up else "away",
            away_s=None if link.away_since_s is None else round(now_s - link.away_since_s, 3),
            spooled=counts.samples + counts.commits,
        ),
        api=ApiStatus(parts.api_url()),
        lease=LeaseStatus(link.epoch),
        sample_id="" if sample is None else sample.id,
        sample_age_s=None if age_s is None else round(age_s, 3),
        sample_interval_s=None if sample is None else sample.interval_s,
        gpu_backend=GpuBackend("unavailable", "starting", "Ask again in a second")
        if sample is None
        else sample.gpu_backend,
        gpus=() if sample is None else sample.gpus,
        host_memory=None if sample is None else sample.host_figures,
        targets=target_statuses(parts, merged, demands),
        memory=msgspec.convert(merged.get("memory", ()), tuple[MemoryStatus, ...]),
        workloads=tuple(msgspec.convert(merged.get("workloads", []), list[WorkloadStatus])),
        handlers=tuple(parts.handler_status()),
        faults=faults,
        xids=merged.get("xids", {}),
        problems=(
            *_problems(parts),
            *(fault.problem for every in faults.values() for fault in every if fault.problem),
            *merged.get("problems", ()),
            *parts.views.troubles(),
        ),
    )


def not_ready(parts: Parts) -> list[str]:
    """What is missing before this supervisor does its job, one sentence each; empty when it does."""
    return _problems(parts)


def _problems(parts: Parts) -> list[str]:
    problems = []
    if not parts.link.up:
        problems.append(f"the bus is away: {parts.link.trouble}")
    sample = parts.latest()
    if sample is None:
        return [*problems, "there is no sample yet"]
    if (age_s := parts.clock.monotonic() - sample.monotonic_s) > STALE_INTERVALS * sample.interval_s:
        problems.append(f"the last sample is {age_s:.1f} s old")
    backend = sample.gpu_backend
    if backend.state == "stopped":
        problems.append(f"GPUs are not read: {backend.reason}; {backend.hint}")
    return problems


def target_statuses(parts: Parts, merged: Mapping[str, Any], demands: Sequence[Demand]) -> tuple[TargetStatus, ...]:
    """Every target with a state or a directive; while the bus is away, what it would be told.

    `merged` and `demands` are what `parts.views` says.
    """
    standing = parts.standing
    states: Mapping[str, Any] = merged.get("targets", {})
    overrides: Mapping[str, Any] = merged.get("overrides", {})
    instead = {} if parts.link.up else wanted(demands)
    rows = []
    for target in sorted({*states, *standing.targets()}, key=_order):
        state = states.get(target, {})
        directive = standing.of(target)
        order = instead.get(target) or directive
        override = overrides.get(target)
        rows.append(
            TargetStatus(
                target=target,
                state=state.get("state"),
                action=order.action if order else "run",
                speed=order.speed if order else 1.0,
                reason=state.get("reason") or (order.reason if order else ""),
                seq=directive.seq if directive else 0,
                override=None if override is None else msgspec.convert(override, OverrideStatus),
            )
        )
    return tuple(rows)


def _order(target: str) -> tuple[int, int, str]:
    if target.startswith("gpu"):
        return 0, int(target[3:]), target
    return (1, 0, target) if target == "host" else (2, 0, target)
