"""`flyball sample`: looks at this machine without a bus or a supervisor."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import msgspec

from schemas.sample import Counted, Gpu, Host, Sample
from supervisor.cli.options import as_json, configuration, configured
from supervisor.cli.output import table
from supervisor.clock import SystemClock
from supervisor.config import Config
from supervisor.identity import boot_id, host_name
from supervisor.sampling.assemble import real_sources
from supervisor.sampling.sampler import Sampler

_MIB = 1024 * 1024
_SHOWN_PROCESSES = 10


@click.command(epilog="Example: flyball sample --once --json | jq .gpu_backend")
@click.option("--once", is_flag=True, help="Look once; otherwise again each sampling.interval_s, until Ctrl-C.")
@as_json
@configured
def command(once: bool, as_json: bool, config_file: Path | None, flags: Mapping[str, Any]) -> None:
    """Look at this machine: its cards, its memory, its largest processes.

    Needs neither a bus nor a supervisor, and disturbs neither. With --json each sample is one line.
    """
    config = configuration(config_file, flags)
    logging.getLogger("supervisor").addHandler(logging.NullHandler())  # the sample says what was wrong
    asyncio.run(_look(config, _as_line if as_json else _as_text, once=once))


async def _look(config: Config, show: Callable[[Sample], str], *, once: bool) -> None:
    clock = SystemClock()
    sources = real_sources(config, clock)
    sampler = Sampler(
        host=host_name(config.host.name),
        boot_id=boot_id(Path(config.sampling.proc_root)),
        sampling=config.sampling,
        clock=clock,
        gpus=sources.gpus,
        host_source=sources.host,
        processes=sources.processes,
        counters=sources.counters,
        edges=(),
        registered=dict,
    )
    if once:
        click.echo(show(await sampler.once()))
    else:
        await sampler.run(lambda sample: click.echo(show(sample)))


def _as_line(sample: Sample) -> str:
    return msgspec.json.encode(sample).decode()


def _as_text(sample: Sample) -> str:
    return "\n".join(_page(sample))


def _page(sample: Sample) -> Iterator[str]:
    yield f"{sample.host} at {sample.time}"
    backend = sample.gpu_backend
    if backend.state != "ok":
        yield f"GPUs    {backend.state} ({': '.join(part for part in (backend.reason, backend.hint) if part)})"
    if sample.gpus:
        yield table(("GPU", "READING", "TEMP", "MEMORY", "BUSY", "POWER", "NAME"), map(_card, sample.gpus))
    if sample.counted:
        yield table(("WORKLOAD", "COUNTERS", "SOURCE"), map(_counters, sample.counted))
    if sample.host_figures is not None:
        yield _machine(sample.host_figures)
    if sample.processes:
        largest = sorted(sample.processes, key=lambda process: process.rss_bytes or 0, reverse=True)
        rows = (
            (str(one.pid), one.user or "?", _mib(one.rss_bytes), _count(one.open_handles), one.name)
            for one in largest[:_SHOWN_PROCESSES]
        )
        yield table(("PID", "USER", "RSS", "HANDLES", "NAME"), rows)


def _card(gpu: Gpu) -> tuple[str, ...]:
    reading = gpu.reading if not gpu.reason else f"{gpu.reading} ({gpu.reason})"
    return (
        str(gpu.index), reading, _figure(gpu.temperature_celsius, " °C"), _share(gpu.memory_used_ratio),
        _share(gpu.utilization_ratio), _figure(gpu.power_watts, " W"), gpu.name,
    )  # fmt: skip


def _counters(counted: Counted) -> tuple[str, ...]:
    figures = " ".join(f"{name}={value:.15g}" for name, value in {**counted.counts, **counted.gauges}.items())
    return counted.workload, figures or "?", counted.reason or counted.missing or counted.source


def _machine(host: Host) -> str:
    return (
        f"memory  {_share(host.memory_used_ratio)} of {_mib(host.memory_total_bytes)} · "
        f"CPU {_share(host.cpu_busy_ratio)} of {_count(host.cpu_count)} · load {_figure(host.load_1m, '', digits=2)}"
    )


def _figure(value: float | None, unit: str, digits: int = 0) -> str:
    return "?" if value is None else f"{value:.{digits}f}{unit}"


def _share(ratio: float | None) -> str:
    return "?" if ratio is None else f"{ratio:.0%}"


def _mib(size: int | None) -> str:
    return "?" if size is None else f"{size / _MIB:.0f} MiB"


def _count(value: int | None) -> str:
    return "?" if value is None else str(value)
