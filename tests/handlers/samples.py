"""Samples, commands and contexts as the handlers' tests need them, on a clock of their own."""

from collections.abc import Sequence
from typing import Any

import msgspec

from schemas.envelope import Event
from schemas.sample import Gpu, GpuBackend, Host, Process, Sample
from supervisor.handler import Context, Stream

HOST = "gpu-box"
BOOT = "0f1e2d3c-0000-4000-8000-000000000001"
WALL_S = 1_795_000_000.0
GIB = 2**30


def gpu(temperature: float | None = 45.0, memory_percent: float | None = 10.0, index: int = 0, **fields: Any) -> Gpu:
    """A card of 100 GiB, so that a percent is a GiB."""
    return Gpu(
        index=index,
        uuid=fields.pop("uuid", f"GPU-{index}"),
        temperature_celsius=temperature,
        memory_total_bytes=None if memory_percent is None else 100 * GIB,
        memory_used_bytes=None if memory_percent is None else int(memory_percent * GIB),
        **fields,
    )


def host(memory_percent: float) -> Host:
    """A machine with so much of its RAM in use."""
    return Host(memory_total_bytes=100 * GIB, memory_available_bytes=int((100 - memory_percent) * GIB))


def sample(
    second: float,
    gpus: Sequence[Gpu] = (),
    *,
    figures: Host | None = None,
    processes: Sequence[Process] = (),
    backend: GpuBackend | None = None,
    **fields: Any,
) -> Sample:
    """One tick of `HOST`, `second` seconds after boot."""
    return Sample(
        host=fields.pop("host", HOST),
        boot_id=fields.pop("boot_id", BOOT),
        tick=int(second * 10),
        time="2026-11-21T12:00:00.000Z",
        monotonic_s=second,
        interval_s=fields.pop("interval_s", 1.0),
        gpus=tuple(gpus),
        host_figures=figures,
        processes=tuple(processes),
        gpu_backend=backend or GpuBackend("ok"),
        **fields,
    )


def sampled(sample: Sample) -> Event:
    """The sample as its stream carries it."""
    return Event(
        sample.id, "flyball.host.sampled", f"{sample.host}/sampler", sample.host, sample.time, "",
        msgspec.json.encode(sample),
    )  # fmt: skip


def event(type: str, data: object, *, id: str = "e1", source: str = f"{HOST}/test") -> Event:
    """Any other entry."""
    return Event(id, type, source, "", "2026-11-21T12:00:00.000Z", "", msgspec.json.encode(data))


def context(second: float = 0.0, stream: Stream = "samples", **fields: Any) -> Context:
    """What surrounds an input, `second` seconds after boot; the wall clock runs along from `WALL_S`."""
    return Context(
        host=fields.pop("host", HOST),
        boot_id=fields.pop("boot_id", BOOT),
        stream=stream,
        entry=fields.pop("entry", f"{int((WALL_S + second) * 1000)}-0"),
        wall_s=WALL_S + second,
        monotonic_s=second,
        **fields,
    )
