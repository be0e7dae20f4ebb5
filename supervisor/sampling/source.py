"""The interface between the sampler and what it reads: real hardware, a mock driver, or a simulated machine."""

from collections.abc import Collection, Mapping
from typing import Protocol

from msgspec import Struct

from schemas.sample import Counted, Gpu, GpuBackend, Host, Process

#: The processes to look at: pid → (start time as `Process` counts it, name of the workload that joined). A name that
#: begins with `@` is no workload's, and holds only where the process belongs to none.
Registered = Mapping[int, tuple[float, str]]


class GpuReadings(Struct, frozen=True):
    """What the cards said; a card that did not answer in time is there with reading `blind`."""

    backend: GpuBackend
    gpus: tuple[Gpu, ...] = ()


class GpuSource(Protocol):
    """Reads cards. `read` never raises and never takes longer than its deadlines: trouble becomes a reading."""

    async def start(self) -> None:
        """Open what is needed; a missing GPU or library is not an error but a `GpuBackend` state."""
        ...

    async def read(self, only: Collection[int] | None = None) -> GpuReadings:
        """Read all cards, or those whose index is in `only`."""
        ...

    async def stop(self) -> None:
        """Release everything within a second, whatever the driver does."""
        ...


class HostSource(Protocol):
    """Reads the machine around the cards, cheaply enough to be called on the event loop."""

    def read(self) -> Host:
        """CPU, load, RAM, swap, pressure, cgroup."""
        ...

    def memory(self) -> Host:
        """Only the memory figures, for fast sampling."""
        ...

    def close(self) -> None:
        """Close every cached descriptor."""
        ...


class ProcessSource(Protocol):
    """Reads processes, cheaply enough to be called on the event loop."""

    #: how many of the largest are read; may be changed between two reads
    top: int

    def read(self, on_gpu: Collection[int], registered: Registered) -> tuple[Process, ...]:
        """Those on a GPU, those registered or declared as workloads with their children, and the largest by RSS.

        Start times of `registered` are what programs said: they may name no process that there is.
        """
        ...

    def close(self) -> None:
        """Close every cached descriptor."""
        ...


class CounterBoard(Protocol):
    """What workloads tell of themselves; asked for in the background, so that no tick waits for it."""

    def start(self) -> None:
        """Begin to ask."""
        ...

    async def once(self) -> None:
        """Ask everybody once, within bounds, where it was not started."""
        ...

    def counted(self) -> tuple[Counted, ...]:
        """What each told last, without any I/O."""
        ...

    async def stop(self) -> None:
        """End what is under way, within a second."""
        ...
