"""`/metrics`: the figures of this host for Prometheus, in the text format that it asks for.

prometheus-client writes the formats. It is imported when somebody asks for the first time, beside the event loop.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import hdrs, web

from schemas.sample import Gpu
from schemas.status import Status
from supervisor.api.dcgm import DCGM_FAMILIES
from supervisor.api.families import FAMILIES, Family

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

_HEADERS: Final = {hdrs.CACHE_CONTROL: "no-store", hdrs.VARY: hdrs.ACCEPT}


def routes(
    status: Callable[[], Status], stale_after_s: Callable[[], float], *, dcgm_names: bool = False
) -> list[web.RouteDef]:
    """`status` is asked for every request; figures older than `stale_after_s` are unknown, and left out.

    With `dcgm_names` the cards' figures come under the names of dcgm-exporter as well.
    """
    families = FAMILIES + DCGM_FAMILIES if dcgm_names else FAMILIES

    async def scrape(request: web.Request) -> web.Response:
        await asyncio.to_thread(import_module, "prometheus_client.exposition")
        accept = ",".join(request.headers.getall(hdrs.ACCEPT, ()))
        body, content_type = exposition(without_stale(status(), stale_after_s()), families, accept)
        return web.Response(body=body, headers={**_HEADERS, hdrs.CONTENT_TYPE: content_type})

    return [web.get("/metrics", scrape)]


def without_stale(status: Status, stale_after_s: float) -> Status:
    """The status with what is known now alone: of a sample that is too old, which cards there are."""
    if status.sample_age_s is not None and status.sample_age_s <= stale_after_s:
        return status
    gpus = tuple(
        Gpu(index=gpu.index, uuid=gpu.uuid, name=gpu.name, pci_bus_id=gpu.pci_bus_id, reading="blind")
        for gpu in status.gpus
    )
    return msgspec.structs.replace(status, gpus=gpus, host_memory=None)


def exposition(status: Status, families: Sequence[Family], accept: str) -> tuple[bytes, str]:
    """The families in the format that suits the header Accept best, and its content type."""
    from prometheus_client.exposition import choose_encoder

    try:
        encode, content_type = choose_encoder(accept)
    except (TypeError, ValueError):  # a version that is none
        encode, content_type = choose_encoder("")
    return encode(_Collector(status, families)), content_type


class _Collector:
    """What prometheus-client collects from: no registry of the process, whose own figures nobody asked for."""

    def __init__(self, status: Status, families: Sequence[Family]) -> None:
        self._status = status
        self._families = families

    def collect(self) -> "Iterator[Metric]":
        """The families of which there are figures."""
        from prometheus_client.metrics_core import Metric
        from prometheus_client.samples import Sample

        for family in self._families:
            name, labels = family.name, family.labels
            samples = [
                Sample(name, dict(zip(labels, values, strict=True)), float(value))
                for values, value in family.read(self._status)
                if value is not None
            ]
            if samples:
                metric = Metric(family.stem, family.help, family.kind)
                metric.samples = samples
                yield metric
