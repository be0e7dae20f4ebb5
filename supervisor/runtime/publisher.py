"""Takes samples from the sampler to the bus, or to the spool and to the handlers in process while the bus is away."""

import asyncio
import time
from collections import deque
from collections.abc import Callable

import msgspec

from schemas.envelope import Event
from schemas.sample import Sample
from supervisor.bus.connection import Connection
from supervisor.errors import BusError, Fenced
from supervisor.handler import Stream
from supervisor.runtime.link import RESEND_S, Link

_to_json = msgspec.json.Encoder().encode


def to_event(sample: Sample) -> Event:
    """The sample in its envelope."""
    return Event(
        sample.id, "flyball.host.sampled", f"{sample.host}/sampler", sample.host, sample.time, _sentence(sample),
        _to_json(sample),
    )  # fmt: skip


class Publisher:
    """The owner of the stream of samples. `run` is a task of the caller's."""

    def __init__(self, link: Link, connection: Connection, say_locally: Callable[[Stream, Event], None]) -> None:
        """`say_locally` hands a sample to the handlers in process."""
        self._link = link
        self._connection = connection
        self._say_locally = say_locally
        self._epoch = link.epoch
        self._queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self._recent: deque[tuple[float, Event]] = deque()
        link.when_lost.append(self._on_lost)

    def deliver(self, sample: Sample) -> None:
        """Take a sample over; never blocks."""
        self._queue.put_nowait(to_event(sample))

    def stop(self) -> None:
        """End after what was delivered."""
        self._queue.put_nowait(None)

    async def run(self) -> None:
        """Publish until `stop`.

        :raises Fenced: another supervisor took the lease.
        """
        while (event := await self._queue.get()) is not None:
            if self._link.up:
                if self._epoch != self._link.epoch:
                    # The bus was away since: a broken connection that nobody has used must not look like another loss.
                    await self._connection.close()
                    self._epoch = self._link.epoch
                try:
                    await self._connection.open()
                    await self._connection.ask(*self._link.publish_command(self._connection, event))
                    self._note(event)
                    continue
                except Fenced:
                    raise
                except BusError as error:
                    self._link.lost(error)
            self._link.hold_sample(event)
            self._say_locally("samples", event)

    def _note(self, event: Event) -> None:
        now_s = time.monotonic()
        self._recent.append((now_s, event))
        while self._recent[0][0] < now_s - RESEND_S:
            self._recent.popleft()

    def _on_lost(self) -> None:
        """The last samples go out again, before those that follow; the server drops what it has."""
        for _, event in self._recent:
            self._link.hold_sample(event)
        self._recent.clear()

    async def close(self) -> None:
        """Hang up."""
        await self._connection.close()


def _sentence(sample: Sample) -> str:
    parts = []
    if sample.gpus:
        readings = [gpu.temperature_celsius for gpu in sample.gpus if gpu.temperature_celsius is not None]
        hottest = f", hottest {max(readings):g} °C" if readings else ""
        parts.append(f"{len(sample.gpus)} GPU{'s' if len(sample.gpus) > 1 else ''}{hottest}")
    elif sample.scope == "full":
        parts.append("no GPU")
    figures = sample.host_figures
    if figures and figures.memory_used_ratio is not None:
        parts.append(f"RAM {figures.memory_used_ratio:.0%} in use")
    return ("SIMULATED " if sample.simulated else "") + ", ".join(parts)
