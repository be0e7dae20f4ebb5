"""What is remembered of each card's faults: plain data that can be stored."""

from typing import Final

from msgspec import Struct

from schemas.demand import Demand
from schemas.event import FaultAction, FaultKind, GpuError
from schemas.sample import RecoveryAction

VERSION: Final = 1


class Standing(Struct, kw_only=True):
    """A fault that lasts until something ends it; `held_s` is when it was last seen to."""

    fault: GpuError
    #: as people write it
    since: str
    since_s: float
    held_s: float
    #: of an XID: the card was lost or its driver unloaded since, so whatever it was is over
    repaired: bool = False


class Window(Struct, kw_only=True):
    """Repeats of one fault that are folded: `amount` of them, or seconds of a slowdown, are not said yet."""

    fault: GpuError
    begun_s: float
    amount: float = 0.0
    said: bool = False


class Record(Struct, kw_only=True):
    """One fault and its repeats, for people who look now."""

    kind: FaultKind
    xid: int | None
    action: FaultAction
    fault_class: str
    advice: str
    count: int
    since: str
    last: str


class Counters(Struct, frozen=True):
    """A card's cumulative counters as they were last read; None where that is not known, or void."""

    hw_thermal_ns: int | None = None
    power_brake_ns: int | None = None
    ecc_uncorrected: int | None = None


class Card(Struct, kw_only=True):
    """What is known of one card, by its UUID."""

    uuid: str
    index: int
    pci_bus_id: str = ""
    #: whether the last samples had it, and whether it was ever read
    listed: bool = True
    absent: int = 0
    seen_well: bool = False
    #: lost, and not read since
    gone: bool = False
    #: since when every sample has read it
    well_since_s: float | None = None
    verdict: RecoveryAction = "none"
    #: whether its driver gives verdicts at all
    judged: bool = False
    counters: Counters = Counters()
    standing: dict[FaultKind, Standing] = {}
    windows: dict[str, Window] = {}
    records: dict[str, Record] = {}
    #: XIDs ever heard, by number
    totals: dict[int, int] = {}

    @property
    def target(self) -> str:
        """What directives call it."""
        return f"gpu{self.index}"


class Faults(Struct, kw_only=True):
    """The state of the policy."""

    version: int = VERSION
    boot_id: str = ""
    monotonic_s: float = 0.0
    #: of the last sample: its id, and its time as people write it
    cause: str = ""
    time: str = ""
    simulated: bool = False
    cards: dict[str, Card] = {}
    #: what is demanded, by target
    demands: dict[str, Demand] = {}
