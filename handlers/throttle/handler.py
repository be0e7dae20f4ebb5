"""Ties the ladder to the runtime: samples of our host in; events, demands and a snapshot out."""

from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec

from handlers.throttle import policy
from handlers.throttle.policy import Governor, Move
from handlers.throttle.settings import Settings
from schemas.demand import Demand
from schemas.envelope import Event
from schemas.event import PauseFutile
from supervisor.handler import (
    Context,
    Decisions,
    Declared,
    Draft,
    Edge,
    Handler,
    Stream,
    Withdrawal,
    read_snapshot,
    sample_of,
)

_VERSION = 1


class Throttle(Handler):
    """Keeps each card, and the host's memory, inside its limits by slowing down or pausing who works there."""

    name: ClassVar[str] = policy.ISSUER
    streams: ClassVar[tuple[Stream, ...]] = ("samples",)
    types: ClassVar[frozenset[str]] = frozenset({"flyball.host.sampled"})
    settings = Settings

    def __init__(self, settings: Settings, declared: Sequence[Declared]) -> None:
        self._settings = settings
        self._governor = Governor()
        self._ticked_s: float | None = None
        self._watched_s = 0.0

    async def handle(self, event: Event, context: Context) -> Decisions | None:
        """Move the targets of a sample of our host.

        :raises MalformedEntry: when it is no sample; nothing has changed then.
        """
        sample = sample_of(event)
        if sample.host != context.host:
            return None
        return _decisions(policy.observe(self._governor, sample, event.id, self._settings))

    def tick(self, context: Context) -> Decisions | None:
        """Notice silence, counted from when we ourselves were awake: a start or a SIGSTOP is no one else's silence."""
        now = context.monotonic_s
        limit = self._settings.blind_intervals * self._governor.interval_s
        if self._ticked_s is None or now - self._ticked_s > max(limit, 3.0):
            self._watched_s = now
        self._ticked_s = now
        if context.boot_id != self._governor.boot_id:
            return None
        return _decisions(policy.watch(self._governor, now, self._watched_s, self._settings))

    def missed(self, stream: Stream, context: Context) -> Decisions | None:
        """Samples were lost: cooldowns start again."""
        policy.void_rates(self._governor)
        return None

    def demands(self) -> Sequence[Demand]:
        """What stands of each target that is known."""
        return [ladder.demand for ladder in self._governor.ladders() if ladder.demand is not None]

    def snapshot(self) -> bytes:
        """The whole state of the policy."""
        return msgspec.msgpack.encode(self._governor)

    def restore(self, snapshot: bytes) -> None:
        """Take it up, but believe no figure in it to be still readable.

        :raises ValueError: when it is of another version or damaged.
        """
        governor = read_snapshot(snapshot, Governor, _VERSION)
        policy.restored(governor)
        self._governor = governor

    def edges(self) -> Sequence[Edge]:
        """Where CRITICAL begins."""
        settings = self._settings
        return (
            Edge("temperature_celsius", settings.temp_throttle),
            Edge("memory_used_percent", settings.memory_critical),
            Edge("host_memory_used_percent", settings.memory_critical),
        )

    def reconfigure(self, settings: Settings) -> bool:
        """The next sample is judged by them; where a target stands, and since when, stays."""
        self._settings = settings
        return True

    def view(self) -> dict[str, Any]:
        """State of each target, and since when, why and what it waits for."""
        return {
            "targets": {
                ladder.target: {
                    "state": ladder.state,
                    "reason": policy.standing(ladder, self._governor, self._settings),
                }
                for ladder in self._governor.ladders()
            }
        }


def _decisions(moves: Sequence[Move]) -> Decisions | None:
    if not moves:
        return None
    return Decisions(
        events=[Draft(_type_of(move), move.event.target, move.text, move.event) for move in moves],
        demands=[move.demand or Withdrawal(policy.ISSUER, move.event.target) for move in moves],
    )


def _type_of(move: Move) -> str:
    if isinstance(move.event, PauseFutile):
        return "flyball.pause.futile"
    return "flyball.host.state_changed" if move.event.target == "host" else "flyball.gpu.state_changed"
