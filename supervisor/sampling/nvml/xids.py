"""The XIDs that were heard and are in no sample yet; one that several ears heard counts once.

An ear is a reader process, of which there are two while one replaces the other, or the kernel's log. Within
`SAME_WITHIN_S` of the first report, a card has had as many XIDs of a number as the ear that heard the most of them.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from schemas.sample import Xid, XidSource
from supervisor.sampling.kmsg import XidLine

SAME_WITHIN_S: Final = 5.0
_KERNEL_LOG: Final = -1


@dataclass(slots=True)
class _Tally:
    """What was heard of one number of one card lately."""

    begun_s: float
    by_ear: Counter[int] = field(default_factory=Counter)
    counted: int = 0


@dataclass(slots=True)
class _Waiting:
    """What the next sample will say of one number of one card."""

    count: int = 0
    source: XidSource = "kmsg"
    line: XidLine | None = None


class Xids:
    """By card (UUID) and number."""

    def __init__(self) -> None:
        self._serving = 0
        self._tallies: dict[tuple[str, int], _Tally] = {}
        self._waiting: dict[str, dict[int, _Waiting]] = {}

    def serves(self, reader: int) -> None:
        """From now on it is this process that is told by NVML; it has heard of what the one before it had heard of."""
        for tally in self._tallies.values():
            tally.by_ear[reader] = max(tally.by_ear[reader], tally.by_ear[self._serving])
        self._serving = reader

    def heard(self, uuid: str, code: int, reader: int, now_s: float) -> None:
        """The process `reader` was told by NVML."""
        waiting = self._count(uuid, code, reader, now_s)
        if waiting is not None:
            waiting.source = "nvml"

    def logged(self, uuid: str, line: XidLine, now_s: float) -> None:
        """The kernel wrote it into its log."""
        waiting = self._count(uuid, line.code, _KERNEL_LOG, now_s)
        if waiting is not None:
            waiting.line = line

    def take(self, uuid: str) -> tuple[Xid, ...]:
        """What is in no sample yet, which is from now on."""
        return tuple(_xid(code, waiting) for code, waiting in self._waiting.pop(uuid, {}).items())

    def _count(self, uuid: str, code: int, ear: int, now_s: float) -> _Waiting | None:
        """Count one report; None where it is of an XID that is in a sample already."""
        tally = self._tallies.get((uuid, code))
        if tally is None or now_s - tally.begun_s > SAME_WITHIN_S:
            self._forget(now_s)
            tally = self._tallies[uuid, code] = _Tally(now_s)
        tally.by_ear[ear] += 1
        of_card = self._waiting.setdefault(uuid, {})
        if tally.by_ear[ear] > tally.counted:
            tally.counted += 1
            of_card.setdefault(code, _Waiting()).count += 1
        return of_card.get(code)

    def _forget(self, now_s: float) -> None:
        old = [key for key, tally in self._tallies.items() if now_s - tally.begun_s > SAME_WITHIN_S]
        for key in old:
            del self._tallies[key]


def _xid(code: int, waiting: _Waiting) -> Xid:
    line = waiting.line
    if line is None:
        return Xid(code=code, count=waiting.count, source=waiting.source)
    return Xid(
        code=code,
        count=waiting.count,
        source=waiting.source,
        pid=line.pid,
        process=line.process,
        detail=line.detail,
    )
