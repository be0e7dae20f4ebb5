"""What the supervisor knows of the cards it has seen: a card once seen is never silently gone."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from schemas.sample import Gpu, Reading

_LOG: Final = logging.getLogger(__name__)
#: Stands where a UUID would, for a card that has not told it.
_UNIDENTIFIED: Final = "unidentified-"


@dataclass(slots=True)
class Card:
    """One card; `identity` holds nothing but who it is."""

    identity: Gpu
    reading: Reading = "fresh"
    reason: str = ""
    #: not asked in the ordinary round; a process of its own finds out when it answers again
    quarantined: bool = False
    #: since it was last well; those that failed most are probed last, because they may block the rest
    failed_probes: int = 0
    #: readers that died while reading it; the first death may have been anything
    deaths: int = 0

    @property
    def index(self) -> int:
        """Its place in the driver's list, which is not its identity."""
        return self.identity.index

    def set_reading(self, reading: Reading, reason: str = "") -> bool:
        """Remember how it is read, and log it once when that changed; whether it did."""
        if reading == self.reading and reason == self.reason:
            return False
        if reading == "fresh":
            _LOG.info("gpu%d (%s) answers again", self.index, self.identity.uuid)
        else:
            _LOG.warning("gpu%d (%s) is %s: %s", self.index, self.identity.uuid, reading, reason)
        self.reading, self.reason = reading, reason
        return True

    def quarantine(self, reason: str) -> None:
        """Ask it no more in the ordinary round."""
        self.quarantined = True
        self.set_reading("blind", reason)

    def release(self) -> None:
        """Ask it again: a process of its own has read it in time."""
        self.quarantined = False
        self.failed_probes = self.deaths = 0

    def unread(self) -> Gpu:
        """How it stands in a sample in which it was not read."""
        return msgspec.structs.replace(self.identity, reading=self.reading, reason=self.reason)


class Cards:
    """All cards ever seen, by UUID."""

    def __init__(self) -> None:
        self._by_uuid: dict[str, Card] = {}

    def __iter__(self) -> Iterator[Card]:
        """In the order of their index."""
        return iter(sorted(self._by_uuid.values(), key=lambda card: card.index))

    def at(self, index: int) -> Card | None:
        """The card at this place of the driver's list."""
        return next((card for card in self._by_uuid.values() if card.index == index), None)

    def troubled(self) -> list[Card]:
        """Those that only a fresh process can judge."""
        return [card for card in self if card.quarantined or card.reading == "lost"]

    def learn(self, gpu: Gpu) -> Card:
        """The card that `gpu` is about, new or known; a known one may have moved to another index."""
        card = self._by_uuid.get(gpu.uuid)
        if card is not None and card.index == gpu.index:
            return card
        other = self.at(gpu.index)
        if other is not None and other is not card:
            if other.identity.uuid.startswith(_UNIDENTIFIED):
                del self._by_uuid[other.identity.uuid]
            else:  # an index is a label: the one who lost its place gets one that nobody has
                free = max(known.index for known in self._by_uuid.values()) + 1
                other.identity = msgspec.structs.replace(other.identity, index=free)
        identity = Gpu(index=gpu.index, uuid=gpu.uuid, name=gpu.name, pci_bus_id=gpu.pci_bus_id)
        if card is None:
            card = self._by_uuid[gpu.uuid] = Card(identity)
        card.identity = identity
        return card

    def unidentified(self, index: int) -> Card:
        """The card at `index`, which has not told who it is unless we know from before."""
        return self.at(index) or self.learn(Gpu(index=index, uuid=f"{_UNIDENTIFIED}{index}"))
