"""Ties the faults of the cards to the runtime: samples of our host and operators' words in; events and demands out."""

from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec

from handlers.faults import policy
from handlers.faults.policy import Outcome
from handlers.faults.settings import Settings
from handlers.faults.standing import ISSUER
from handlers.faults.state import VERSION, Faults
from schemas.demand import Demand
from schemas.envelope import Event
from schemas.event import GpuRecovered, OverrideChanged
from supervisor.handler import (
    Context,
    Decisions,
    Declared,
    Draft,
    Handler,
    Stream,
    Withdrawal,
    read_snapshot,
    sample_of,
)

_SAMPLED = "flyball.host.sampled"


class FaultWatch(Handler):
    """Says what goes wrong with a card and what to do, and pauses it where nothing can run until that is done."""

    name: ClassVar[str] = ISSUER
    streams: ClassVar[tuple[Stream, ...]] = ("samples", "events")
    types: ClassVar[frozenset[str]] = frozenset({_SAMPLED, "flyball.override.changed"})
    settings = Settings

    def __init__(self, settings: Settings, declared: Sequence[Declared]) -> None:
        self._settings = settings
        self._faults = Faults()

    async def handle(self, event: Event, context: Context) -> Decisions | None:
        """Look for faults in a sample of our host, or take note of an operator who lets a target run.

        :raises MalformedEntry: when it is neither; nothing has changed then.
        """
        if event.type == _SAMPLED:
            sample = sample_of(event)
            if sample.host != context.host:
                return None
            return _decisions(policy.observe(self._faults, sample, event.id, self._settings))
        if event.source.partition("/")[0] != context.host:
            return None
        return _decisions(policy.resumed(self._faults, event.decode(OverrideChanged), event.id))

    def missed(self, stream: Stream, context: Context) -> Decisions | None:
        """Samples were lost: rates over them are void."""
        if stream == "samples":
            policy.void_rates(self._faults)
        return None

    def demands(self) -> Sequence[Demand]:
        """The pauses that stand."""
        return list(self._faults.demands.values())

    def snapshot(self) -> bytes:
        """The whole state of the policy."""
        return msgspec.msgpack.encode(self._faults)

    def restore(self, snapshot: bytes) -> None:
        """Take it up.

        :raises ValueError: when it is of another version or damaged.
        """
        self._faults = read_snapshot(snapshot, Faults, VERSION)

    def reconfigure(self, settings: Any) -> bool:
        """Take up other settings; what stands already keeps what was recommended for it."""
        self._settings = settings
        return True

    def view(self) -> dict[str, Any]:
        """`faults`: the last ones of each target; `xids`: how many each target ever had, by number."""
        return {"faults": policy.view(self._faults), "xids": policy.xid_totals(self._faults)}


def _decisions(outcome: Outcome) -> Decisions | None:
    if not outcome:
        return None
    return Decisions(
        events=[Draft(_type_of(fact.event), fact.event.target, fact.text, fact.event) for fact in outcome.facts],
        demands=[*outcome.demands, *(Withdrawal(ISSUER, target) for target in outcome.withdrawn)],
    )


def _type_of(event: object) -> str:
    return "flyball.gpu.recovered" if isinstance(event, GpuRecovered) else "flyball.gpu.error"
