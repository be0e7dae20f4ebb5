"""`flyball status`: what this host looks like now, as its supervisor last reported it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import msgspec

from schemas.sample import Gpu
from schemas.status import MemoryStatus, Status, TargetStatus, WorkloadStatus
from supervisor.cli.latest import Latest, latest
from supervisor.cli.options import as_json, configured, supervision
from supervisor.cli.output import duration, painted, table

#: Nagios' word for it, too: nobody knows.
UNKNOWN = 3


@click.command(epilog="Example: flyball status --json | jq '.targets[] | {target, state, speed}'")
@as_json
@configured
def command(as_json: bool, config_file: Path | None, flags: Mapping[str, Any]) -> int:
    """Show what this host looks like now.

    The supervisor's own report is read from the bus, or from the state directory while the bus is away. Without a
    fresh report the state is unknown, and the exit code is 3.
    """
    found = latest(*supervision(config_file, flags))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found.json()), indent=2))
    else:
        click.echo("\n".join(_page(found)))
    return 0 if found.state == "known" else UNKNOWN


def _page(found: Latest) -> Iterator[str]:
    status = found.status
    if found.state != "known":
        yield painted(f"{found.host}: unknown", "red") + f" · {found.trouble}"
        yield "Start a supervisor with `flyball run`." if status is None else "What it last said is below, and stale."
    if status is None:
        return
    yield from _head(found, status)
    if status.targets:
        yield ""
        yield _targets(status)
    if any(one.reservations for one in status.memory):
        yield ""
        yield _reserved(status.memory)
    if status.workloads:
        yield ""
        yield _workloads(status.workloads)
    if status.handlers:
        yield ""
        yield table(
            ("HANDLER", "STATE", "LAG", "HANDLED", "RESULTS", "FAILED", "RESTARTS", "LAST ERROR"),
            (
                (
                    one.name, one.state, "?" if one.lag is None else str(one.lag), str(one.handled), str(one.results),
                    str(one.failed), str(one.restarts), one.last_error,
                )
                for one in status.handlers
            ),
        )  # fmt: skip
    for problem in status.problems:
        yield painted("! ", "yellow") + problem


def _head(found: Latest, status: Status) -> Iterator[str]:
    sampled = "no sample yet" if status.sample_age_s is None else f"sampled {duration(status.sample_age_s)} before that"
    age = "at an unreadable time" if found.age_s is None else f"{duration(found.age_s)} ago"
    marks = (painted(" SIMULATED", "yellow") if status.simulated else "") + (
        painted(" STALE", "red") if found.state == "stale" else ""
    )
    yield painted(status.host, "bold") + f"{marks} · reported {age}, {sampled}"
    bus = f"bus      {status.bus.url} ({status.bus.kind})"
    if found.source == "file":
        yield (
            bus
            + painted(" is away", "red")
            + (f": {found.trouble}" if found.state == "known" and found.trouble else "")
        )
    else:
        spooled = f", {status.bus.spooled} entries wait on disk" if status.bus.spooled else ""
        yield bus + ("" if status.bus.state == "up" else painted(f" {status.bus.state}", "red")) + spooled
    yield f"page     {status.api.url or 'off'}"
    backend = status.gpu_backend
    why = ": ".join(part for part in (backend.reason, backend.hint) if part)
    yield f"GPUs     {len(status.gpus)}" + (
        "" if backend.state == "ok" else f", {backend.state} ({why})" if why else ""
    )


def _targets(status: Status) -> str:
    cards = {f"gpu{gpu.index}": gpu for gpu in status.gpus}
    return table(
        ("TARGET", "STATE", "SPEED", "TEMP", "MEMORY", "WHY"),
        (
            (
                one.target, one.state or "-", "paused" if one.action == "pause" else f"{one.speed:.0%}",
                _temperature(cards.get(one.target)), _memory(one.target, cards, status), _why(one),
            )
            for one in status.targets
        ),
    )  # fmt: skip


def _temperature(gpu: Gpu | None) -> str:
    return "-" if gpu is None or gpu.temperature_celsius is None else f"{gpu.temperature_celsius:.0f} °C"


def _memory(target: str, cards: Mapping[str, Gpu], status: Status) -> str:
    source = status.host_memory if target == "host" else cards.get(target)
    ratio = None if source is None else source.memory_used_ratio
    return "-" if ratio is None else f"{ratio:.0%}"


def _why(one: TargetStatus) -> str:
    if one.override is None:
        return one.reason
    forced = ", forced" if one.override.forced else ""
    return f"{one.reason} [{one.override.operator} until {one.override.until}{forced}]"


def _reserved(memory: tuple[MemoryStatus, ...]) -> str:
    return table(
        ("MEMORY", "LIMIT", "RESERVED", "AVAILABLE", "RESERVATIONS"),
        (
            (
                one.target, _mib(one.limit_bytes), _mib(one.reserved_bytes), _mib(one.available_bytes),
                " ".join(one.reservations) or "-",
            )
            for one in memory
        ),
    )  # fmt: skip


def _mib(size: int | None) -> str:
    return "unknown" if size is None else f"{size / 2**20:.0f} MiB"


def _workloads(workloads: tuple[WorkloadStatus, ...]) -> str:
    return table(
        ("WORKLOAD", "STATE", "PIDS", "TARGETS", "PRIORITY", "MAY"),
        (
            (
                one.name, one.state, " ".join(map(str, one.pids)) or "-", " ".join(one.targets) or "-",
                str(one.priority), " ".join(one.may) or "-",
            )
            for one in workloads
        ),
    )  # fmt: skip
