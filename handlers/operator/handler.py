"""Ties an operator's overrides to the runtime: commands and changes of state in; demands, events and records out.

Commands come as `flyball.command.requested` with an action `throttle`, `pause` or `resume` and the arguments of
`policy.Arguments`; the outcome is a `flyball.override.changed` whose `cause` is the command's id.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec

from handlers.operator import policy
from handlers.operator.policy import Outcome, Override, Overrides
from schemas.command import Command
from schemas.demand import Demand
from schemas.envelope import Event
from schemas.event import Joined, Left, StateChanged
from supervisor.handler import Context, Decisions, Declared, Draft, Handler, Record, Stream, Withdrawal, read_snapshot

_VERSION = 1
_COMMAND = "flyball.command.requested"
_JOINED = "flyball.workload.joined"
_LEFT = "flyball.workload.left"


class Operator(Handler):
    """Lets an operator slow a target down or lift what holds it, for a while."""

    name: ClassVar[str] = policy.ISSUER
    streams: ClassVar[tuple[Stream, ...]] = ("commands", "events")
    types: ClassVar[frozenset[str]] = frozenset(
        {_COMMAND, _JOINED, _LEFT, "flyball.gpu.state_changed", "flyball.host.state_changed"}
    )

    def __init__(self, settings: Any, declared: Sequence[Declared]) -> None:
        self._overrides = Overrides()
        self._restored = False

    async def handle(self, event: Event, context: Context) -> Decisions | None:
        """Obey a command for our host, or note what became of a target.

        :raises MalformedEntry: when the entry is neither.
        """
        if event.type != _COMMAND:
            if event.source.partition("/")[0] != context.host:
                return None
            return self._decide(self._note(event), context)
        command = event.decode(Command)
        if command.host != context.host or command.action not in policy.ACTIONS:
            return None
        outcome = policy.command(self._overrides, command, context.wall_s, late=context.replaying)
        return self._decide([outcome], context)

    def _note(self, event: Event) -> list[Outcome]:
        if event.type == _JOINED:
            policy.joined(self._overrides, event.decode(Joined))
        elif event.type == _LEFT:
            policy.left(self._overrides, event.decode(Left))
        else:
            return policy.state_changed(self._overrides, event.decode(StateChanged), event.id)
        return []

    def tick(self, context: Context) -> Decisions | None:
        """End what is over."""
        return self._decide(policy.expire(self._overrides, context.wall_s), context)

    def missed(self, stream: Stream, context: Context) -> Decisions | None:
        """Changes of state were lost: what is not forced is lifted no longer."""
        if stream != "events":
            return None
        return self._decide(policy.events_missed(self._overrides, context.entry), context)

    def snapshot(self) -> bytes:
        """The whole state of the policy."""
        return msgspec.msgpack.encode(self._overrides)

    def restore(self, snapshot: bytes) -> None:
        """Take it up.

        :raises ValueError: when it is of another version or damaged.
        """
        overrides = read_snapshot(snapshot, Overrides, _VERSION)
        self._overrides, self._restored = overrides, True

    def demands(self) -> Sequence[Demand]:
        """What the standing overrides demand."""
        return [self._demand(override) for override in self._overrides.standing.values()]

    def _demand(self, override: Override) -> Demand:
        return policy.demand(override, simulated=bool(self._overrides.simulated))

    def view(self) -> dict[str, Any]:
        """The standing overrides by target, each shaped as `schemas.status.OverrideStatus`."""
        return {"overrides": {target: _status(override) for target, override in self._overrides.standing.items()}}

    def _decide(self, outcomes: Sequence[Outcome | None], context: Context) -> Decisions | None:
        """The decisions that say `outcomes`; the first after a start also withdraw what does not stand any more.

        What was decided unseen before a crash may differ from what we know now, and nothing may outlive us unknown.
        """
        told = [outcome for outcome in outcomes if outcome is not None]
        ended: list[str] = []
        if context.replaying:
            self._restored = True
        elif self._restored:
            self._restored = False
            moved = {outcome.event.target for outcome in told}
            ended = [one for one in self._overrides.touched if one not in self._overrides.standing and one not in moved]
        ended += [outcome.event.target for outcome in told if outcome.event.outcome == "ended"]
        started = [outcome.override for outcome in told if outcome.override is not None]
        if not told and not ended:
            return None
        return Decisions(
            events=[Draft("flyball.override.changed", one.event.target, one.text, one.event) for one in told],
            demands=[
                *(Withdrawal(self.name, target) for target in ended),
                *(self._demand(override) for override in started),
            ],
            records=[
                *(Record("override", f"{context.host}:{target}", None) for target in ended),
                *(_record(override, context) for override in started),
            ],
        )


def _status(override: Override) -> dict[str, Any]:
    return {
        "operator": override.operator,
        "until": policy.rfc3339(override.until_s),
        "action": override.action,
        "speed": override.speed,
        "forced": override.forced,
    }


def _record(override: Override, context: Context) -> Record:
    """The hash of an override; it goes with its time even if nobody is there to delete it."""
    fields = {
        "host": context.host,
        "target": override.target,
        "operator": override.operator,
        "until": policy.rfc3339(override.until_s),
        "action": override.action,
        "speed": f"{override.speed:.4g}",
        "lifts": "true" if override.lifts else "false",
        "forced": "true" if override.forced else "false",
        "cause": override.command,
    }
    return Record("override", f"{context.host}:{override.target}", fields, max(override.until_s - context.wall_s, 1.0))
