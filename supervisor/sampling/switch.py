"""The switch between the sampler and the cards: while monitoring is stopped nobody asks them, and all are blind."""

from collections.abc import Collection

from schemas.sample import Gpu, GpuBackend
from supervisor.sampling.guarded import GuardedGpus
from supervisor.sampling.source import GpuReadings


class SwitchedGpus:
    """As `GuardedGpus`, with a switch that holds from the next read on."""

    def __init__(self, gpus: GuardedGpus) -> None:
        """Takes `gpus` over; they are read."""
        self._gpus = gpus
        self._known: dict[int, Gpu] = {}
        self._off: GpuBackend | None = None
        self._unread: GpuReadings | None = None

    def turn_off(self, backend: GpuBackend) -> None:
        """Ask no card any more; `backend` says who wants that and how to end it."""
        self._off = backend

    def turn_on(self) -> None:
        """Ask them again."""
        self._off = None

    def begin(self, only: Collection[int] | None = None) -> None:
        """As `GuardedGpus.begin`, or nothing."""
        if self._off is None:
            self._gpus.begin(only)
        else:
            self._unread = GpuReadings(self._off, self._blind(self._off, only))

    async def end(self, *, bound_s: float | None = None) -> GpuReadings:
        """What the read that was begun brought; of cards that nobody asked, who they are."""
        if self._unread is not None:
            readings, self._unread = self._unread, None
            return readings
        readings = await self._gpus.end(bound_s=bound_s)
        self._known.update((gpu.index, gpu) for gpu in readings.gpus)
        return readings

    async def stop(self) -> None:
        """As `GuardedGpus.stop`."""
        await self._gpus.stop()

    def _blind(self, backend: GpuBackend, only: Collection[int] | None) -> tuple[Gpu, ...]:
        return tuple(
            Gpu(
                index=index, uuid=gpu.uuid, name=gpu.name, pci_bus_id=gpu.pci_bus_id, reading="blind",
                reason=backend.reason,
            )
            for index, gpu in sorted(self._known.items())
            if only is None or index in only
        )  # fmt: skip
