"""Drives the mock driver library: what its cards say, and how they misbehave, while programs use it."""

import contextlib
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

GIB: Final = 1 << 30
_RECORD: Final = struct.Struct("56sQ")

#: What a card says unless a test says otherwise; the names are those of `VALUES` in nvml.c.
DEFAULT_VALUES: Final[Mapping[str, int]] = {
    "temperature": 45,  # °C
    "margin": 40,  # °C to the nearest slowdown
    "memory_total": 80 * GIB,
    "memory_used": 8 * GIB,
    "memory_reserved": GIB // 2,
    "utilization": 50,  # %
    "memory_utilization": 25,  # %
    "power_mw": 300_000,
    "power_limit_mw": 700_000,
    "clock_sm_mhz": 1980,
    "clock_memory_mhz": 2619,
    "fan": 30,  # %
    "throttle_reasons": 0,
    "field_230": 0,  # recovery action
    "field_269": 0,  # ns of software thermal slowdown
    "field_270": 0,  # ns of hardware thermal slowdown
    "field_271": 0,  # ns of power brake
    "ecc_corrected": 0,
    "ecc_uncorrected": 0,
    "remapped_corrected": 0,
    "remapped_uncorrected": 0,
    "remapped_pending": 0,
    "remapped_failed": 0,
    "event_types": 8,  # nvmlEventTypeXidCriticalError
    "latency_us": 0,  # of each call
    "hang": 0,  # 1: calls block inside the library
    "hang_pid": 0,  # the only process that hangs, 0: all
    "lost": 0,  # 1: the card fell off the bus
    "crash": 0,  # 1: calls kill the program that makes them
}


@dataclass(frozen=True)
class MockProcess:
    """A process on a card; memory None is what the driver calls not available."""

    pid: int
    memory_used_bytes: int | None = None
    kind: Literal["compute", "graphics"] = "compute"


@dataclass
class _Card:
    uuid: str
    name: str
    pci: str
    values: dict[str, int] = field(default_factory=lambda: dict(DEFAULT_VALUES))
    processes: tuple[MockProcess, ...] = ()
    results: dict[str, int] = field(default_factory=dict)


class MockNvml:
    """The state file of the mock library; each method that changes something replaces the file in one step.

    ::

        with MockNvml(tmp_path / "nvml", library=build_library(), gpus=8) as mock:
            child = subprocess.Popen(command, env=os.environ | mock.environment())
            mock.set(gpu=3, temperature=92)
            mock.set(gpu=3, hang=1)

    Leaving it lets go of everything that hangs.
    """

    def __init__(self, path: Path, *, library: Path, gpus: int = 1) -> None:
        """`path` is the state file, `library` the directory that `build_library` returned; at most 16 `gpus`."""
        self.path = path
        self.calls_path = path.with_name(path.name + ".calls")
        self.driver = "575.57.08"
        self.hang_init = False
        #: A card that hangs holds a lock that calls to every other card of the same process wait for.
        self.shared_lock = False
        self._library = library
        self._count = gpus
        self._cards = [
            _Card(f"GPU-00000000-0000-0000-0000-{index:012d}", "Mock H100", f"00000000:{index + 1:02X}:00.0")
            for index in range(16)
        ]
        self._results: dict[str, int] = {}
        self._xids: list[tuple[int, int, int, int]] = []
        self._batch = False
        self.write()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.hang_init = False
        self.set(hang=0)

    def environment(self) -> dict[str, str]:
        """What a program needs in its environment to load the mock library and find this file."""
        inherited = os.environ.get("LD_LIBRARY_PATH")
        return {
            "LD_LIBRARY_PATH": f"{self._library}:{inherited}" if inherited else str(self._library),
            "FLYBALL_MOCK_NVML": str(self.path),
            "FLYBALL_MOCK_NVML_CALLS": str(self.calls_path),
        }

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Changes made inside become visible at once when it ends."""
        self._batch = True
        try:
            yield
        finally:
            self._batch = False
            self.write()

    def uuid(self, gpu: int) -> str:
        """The identity of a card."""
        return self._cards[gpu].uuid

    def set(self, gpu: int | Iterable[int] | None = None, **values: int | bool | None) -> None:
        """Set values (names and units: `DEFAULT_VALUES`) of one card, several, or all; None: not supported.

        :raises KeyError: for a name that there is not.
        """
        if unknown := values.keys() - DEFAULT_VALUES.keys():
            raise KeyError(f"no such value: {sorted(unknown)}")
        chosen = range(16) if gpu is None else [gpu] if isinstance(gpu, int) else gpu
        for index in chosen:
            for name, value in values.items():
                if value is None:
                    self._cards[index].values.pop(name, None)
                else:
                    self._cards[index].values[name] = int(value)
        self.write()

    def set_identity(self, gpu: int, *, uuid: str = "", name: str = "") -> None:
        """Put another card, or one of another name, at this index."""
        card = self._cards[gpu]
        card.uuid, card.name = uuid or card.uuid, name or card.name
        self.write()

    def set_processes(self, gpu: int, processes: Iterable[MockProcess]) -> None:
        """What the card's process lists hold; at most 256."""
        self._cards[gpu].processes = tuple(processes)
        self.write()

    def set_count(self, gpus: int) -> None:
        """How many cards the driver lists."""
        self._count = gpus
        self.write()

    def fail(self, function: str, code: int, gpu: int | None = None) -> None:
        """Let a function return this NVML code, for one card or for all calls; 0 ends it."""
        (self._results if gpu is None else self._cards[gpu].results)[function] = code
        self.write()

    def xid(self, gpu: int, code: int, count: int = 1) -> None:
        """Raise so many XID events, for event sets that exist by now."""
        first = self._xids[-1][1] + 1 if self._xids else 1
        self._xids = [*self._xids[-63:], (first, first + count - 1, gpu, code)]
        self.write()

    def calls(self) -> dict[str, int]:
        """Calls so far by function, of all programs that used this file."""
        if not self.calls_path.exists():
            return {}
        records = _RECORD.iter_unpack(self.calls_path.read_bytes())
        return {name.rstrip(b"\0").decode(): count for name, count in records if count}

    def write(self) -> None:
        """Replace the file in one step, so that no reader sees half of it."""
        if self._batch:
            return
        fresh = self.path.with_name(self.path.name + ".new")
        fresh.write_text("\n".join(self._lines()) + "\n")
        fresh.replace(self.path)

    def _lines(self) -> Iterator[str]:
        yield f"driver={self.driver}"
        yield f"count={self._count}"
        yield f"hang_init={int(self.hang_init)}"
        yield f"shared_lock={int(self.shared_lock)}"
        yield from (f"call.{function}={code}" for function, code in self._results.items())
        yield from (f"xid={first} {last} {gpu} {code}" for first, last, gpu, code in self._xids)
        for index, card in enumerate(self._cards):
            prefix = f"gpu{index}."
            yield f"{prefix}uuid={card.uuid}"
            yield f"{prefix}name={card.name}"
            yield f"{prefix}pci={card.pci}"
            yield from (f"{prefix}{name}={value}" for name, value in card.values.items())
            yield from (f"{prefix}call.{function}={code}" for function, code in card.results.items())
            for process in card.processes:
                memory = "na" if process.memory_used_bytes is None else process.memory_used_bytes
                yield f"{prefix}process={process.pid} {memory} {process.kind}"
