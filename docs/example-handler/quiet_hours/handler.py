"""Ties the quiet hours to the runtime: samples of our host in; demands, events and a snapshot out."""

from collections.abc import Sequence
from datetime import datetime, tzinfo
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

import msgspec

from quiet_hours import policy
from quiet_hours.event import CHANGED, QuietHoursChanged
from quiet_hours.policy import Change, State
from quiet_hours.settings import Settings
from schemas.demand import Demand
from schemas.envelope import Event
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


class QuietHours(Handler):
    """Slows every card down between two times of the day."""

    name: ClassVar[str] = "quiet_hours"
    streams: ClassVar[tuple[Stream, ...]] = ("samples",)
    settings = Settings

    def __init__(self, settings: Settings, declared: Sequence[Declared]) -> None:
        self._settings = settings
        self._state = State()

    async def handle(self, event: Event, context: Context) -> Decisions | None:
        """Look at the time, at every full sample of our host.

        :raises MalformedEntry: when it is no sample; nothing has changed then.
        """
        sample = sample_of(event)
        if sample.host != context.host or sample.scope != "full":
            return None
        cards = [f"gpu{gpu.index}" for gpu in sample.gpus]
        now = datetime.fromtimestamp(context.wall_s, self._zone())
        change = policy.decide(self._state, self._settings, cards, now.time())
        return self._decisions(change, context.host, event.id) if change else None

    def demands(self) -> Sequence[Demand]:
        """What stands, for when it must be said again."""
        return [self._demand(target, speed, "") for target, speed in self._state.speeds.items()]

    def snapshot(self) -> bytes:
        """The whole state of the policy."""
        return msgspec.msgpack.encode(self._state)

    def restore(self, snapshot: bytes) -> None:
        """Take it up.

        :raises ValueError: when it is of another version or damaged.
        """
        self._state = read_snapshot(snapshot, State, policy.VERSION)

    def reconfigure(self, settings: Any) -> bool:
        """Other hours hold from the next sample on."""
        self._settings = settings
        return True

    def _zone(self) -> tzinfo | None:
        return ZoneInfo(self._settings.time_zone) if self._settings.time_zone else None

    def _decisions(self, change: Change, host: str, cause: str) -> Decisions:
        hours, quiet = self._settings, not change.withdrawn
        targets = tuple(change.demanded) if quiet else change.withdrawn
        names = ", ".join(targets)
        text = f"quiet hours until {hours.ends}: {names} at speed {hours.speed:g}"
        if not quiet:
            text = f"quiet hours are over: nothing is demanded of {names}"
        data = QuietHoursChanged(
            quiet=quiet, targets=targets, speed=hours.speed if quiet else 1.0, begins=hours.begins, ends=hours.ends,
            cause=cause,
        )  # fmt: skip
        return Decisions(
            events=[Draft(CHANGED, host, text, data)],
            demands=[
                *(self._demand(target, speed, cause) for target, speed in change.demanded.items()),
                *(Withdrawal(self.name, target) for target in change.withdrawn),
            ],
        )

    def _demand(self, target: str, speed: float, cause: str) -> Demand:
        reason = f"quiet hours from {self._settings.begins} to {self._settings.ends}"
        return Demand(issuer=self.name, target=target, action="throttle", speed=speed, reason=reason, cause=cause)
