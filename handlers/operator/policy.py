"""What an operator may ask of a target, for how long, and when it ends by itself: DESIGN §6.6, pure.

`throttle` and `pause` only ever slow down: their demand is one among the others. `resume` ends the operator's
override; with a speed, or forced, it *lifts*: a demand that stands before all others (`schemas.demand.standing`). A
lift is refused, and a standing one ends, where the target is BLIND, unknown or in an emergency, unless it was forced.
Whatever is asked of a card that nobody has heard of is refused, unless it is forced: it is most likely a slip.
All times are Unix time, because people say "until half past twelve".
"""

from datetime import UTC, datetime
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from schemas.command import Command
from schemas.demand import Demand
from schemas.event import Joined, Left, OverrideChanged, State, StateChanged
from schemas.workload import Action, Speed

ISSUER: Final = "operator"
ACTIONS: Final = ("throttle", "pause", "resume")
#: A throttle without a speed: the ladder's THROTTLED.
THROTTLE_SPEED: Final = 0.5
LONGEST_S: Final = 86_400.0
#: Commands that are remembered, so that one that arrives twice acts once.
REMEMBERED: Final = 256


class Arguments(Struct, frozen=True, kw_only=True):
    """The `arguments` of a command: for how long, at what speed, who asks and why, and whether safety is overruled."""

    operator: Annotated[str, Meta(min_length=1, max_length=128)]
    for_s: Annotated[float, Meta(gt=0, le=LONGEST_S)] | None = None
    speed: Speed | None = None
    force: bool = False
    #: why, for whoever wonders
    reason: Annotated[str, Meta(max_length=200)] = ""


class Seen(Struct, frozen=True):
    """The last that was heard of a target."""

    state: State
    emergency: bool


class Override(Struct, frozen=True, kw_only=True):
    """A standing override."""

    target: str
    operator: str
    until_s: float
    action: Action
    speed: float
    lifts: bool
    forced: bool
    command: str
    why: str = ""


class Overrides(Struct, kw_only=True):
    """The state of the policy."""

    version: int = 1
    standing: dict[str, Override] = {}
    seen: dict[str, Seen] = {}
    recent: list[str] = []
    #: targets that commands were about: after a restart, what does not stand there is withdrawn for certain
    touched: list[str] = []
    #: the cards that were heard of and are not gone
    cards: list[str] = []
    #: the processes that joined, by workload; None: that is not known, because events were lost
    joined: dict[str, list[int]] | None = {}
    #: None: nothing was heard yet
    simulated: bool | None = None


class Outcome(Struct, frozen=True):
    """What became of an override: the event, its sentence, and the demand that stands now.

    `override` is the one that started; None where one ended or was refused.
    """

    event: OverrideChanged
    text: str
    override: Override | None = None


def command(overrides: Overrides, command: Command, now_s: float, *, late: bool = False) -> Outcome | None:
    """Take in a command of ours; None where it was taken in before.

    `now_s` is compared with the command's life, unless `late` says that the past is being read again: what was in
    time then must count now, and if it is over, `expire` ends it.
    """
    if command.id in overrides.recent:
        return None
    overrides.recent.append(command.id)
    del overrides.recent[:-REMEMBERED]
    if command.target not in overrides.touched:
        overrides.touched.append(command.target)
        del overrides.touched[:-REMEMBERED]
    asked = Asked(command, bool(overrides.simulated))
    sent_s = unix_time(command.time)
    if sent_s is None:
        return asked.refused(f"its time {command.time!r} is not RFC 3339 with an offset")
    if sent_s > now_s + command.ttl_s:
        return asked.refused(f"its time lies {sent_s - now_s:.0f} s ahead; check the clock of the machine that sent it")
    if not late and now_s > sent_s + command.ttl_s:
        return asked.refused(f"it expired {now_s - sent_s - command.ttl_s:.0f} s ago; ask again")
    if asked.arguments is None:
        return asked.refused(asked.problem)
    arguments = asked.arguments
    if command.action == "resume" and arguments.speed is None and not arguments.force:
        ended = overrides.standing.pop(command.target, None)
        if ended is None:
            return asked.refused(
                f"no override stands on {command.target}; a speed, such as 1, lifts what others demand"
            )
        why = f"{asked.operator} resumed {command.target}{_said(arguments.reason)}"
        return _ended(ended, why, command.id, bool(overrides.simulated))
    if not arguments.force and (unknown := _unknown(overrides, command.target)):
        return asked.refused(unknown)
    if arguments.for_s is None:
        return asked.refused("it does not say for how long")
    until_s = sent_s + arguments.for_s
    if not late and now_s >= until_s:
        return asked.refused("its time is over already")
    lifts = command.action == "resume"
    if lifts and not arguments.force and (danger := _danger(overrides, command.target)):
        return asked.refused(f"{danger}; only a forced resume overrules that")
    override = Override(
        target=command.target,
        operator=asked.operator,
        until_s=until_s,
        action=asked.action,
        speed=asked.speed,
        lifts=lifts,
        forced=arguments.force,
        command=command.id,
        why=arguments.reason,
    )
    replaced = overrides.standing.get(command.target)
    overrides.standing[command.target] = override
    return asked.started(override, replaced, _nobody(overrides, command.target))


def state_changed(overrides: Overrides, change: StateChanged, cause: str) -> list[Outcome]:
    """Note a target's state; a lift that was not forced ends where it became dangerous.

    Where the state is of simulated cards and what is known is of real ones, or the reverse, all of that ends.
    """
    outcomes = _change_worlds(overrides, cause) if overrides.simulated not in (None, change.simulated) else []
    overrides.simulated = change.simulated
    overrides.seen[change.target] = Seen(change.state, change.emergency)
    if change.target != "host":
        _note_card(overrides, change)
    standing = overrides.standing.get(change.target)
    if standing is None or not standing.lifts or standing.forced:
        return outcomes
    if danger := _danger(overrides, change.target):
        del overrides.standing[change.target]
        outcomes.append(_ended(standing, danger, cause, change.simulated))
    return outcomes


def joined(overrides: Overrides, fact: Joined) -> None:
    """Note that a process joined."""
    if overrides.joined is not None:
        pids = overrides.joined.setdefault(fact.workload, [])
        if fact.pid not in pids:
            pids.append(fact.pid)


def left(overrides: Overrides, fact: Left) -> None:
    """Note that a process left."""
    pids = (overrides.joined or {}).get(fact.workload, [])
    if overrides.joined is not None and fact.pid in pids:
        pids.remove(fact.pid)
        if not pids:
            del overrides.joined[fact.workload]


def events_missed(overrides: Overrides, cause: str) -> list[Outcome]:
    """Events were lost: every state is unknown, so what is not forced is lifted no longer."""
    overrides.seen, overrides.joined = {}, None
    ending = [
        one for one in overrides.standing.values() if one.lifts and not one.forced and _danger(overrides, one.target)
    ]
    for override in ending:
        del overrides.standing[override.target]
    return [_ended(one, _danger(overrides, one.target), cause, bool(overrides.simulated)) for one in ending]


def expire(overrides: Overrides, now_s: float) -> list[Outcome]:
    """End what is over."""
    over = [override for override in overrides.standing.values() if now_s >= override.until_s]
    for override in over:
        del overrides.standing[override.target]
    return [_ended(override, "its time is over", override.command, bool(overrides.simulated)) for override in over]


def demand(override: Override, *, simulated: bool) -> Demand:
    """What an override demands of its target."""
    verb, at = _did(override)
    until = f"{clock(override.until_s)}{_said(override.why)}"
    return Demand(
        issuer=ISSUER,
        target=override.target,
        action=override.action,
        speed=override.speed,
        reason=_marked(f"{override.operator} {verb}{at} until {until}", simulated),
        cause=override.command,
        overrides=override.lifts,
    )


def unix_time(rfc3339: str) -> float | None:
    """Unix time of an RFC 3339 text; None where it is none, or says no offset."""
    try:
        parsed = datetime.fromisoformat(rfc3339)
    except ValueError:
        return None
    return parsed.timestamp() if parsed.tzinfo is not None else None


def rfc3339(unix_s: float) -> str:
    """RFC 3339 in UTC, to the second."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def clock(unix_s: float) -> str:
    """A time of day for people."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%H:%M:%S UTC")


class Asked:
    """A command as it was asked: with what is known of it even where its arguments are none."""

    def __init__(self, command: Command, simulated: bool) -> None:
        self._command, self._simulated = command, simulated
        self.arguments: Arguments | None = None
        self.problem = ""
        try:
            self.arguments = msgspec.convert(command.arguments, Arguments)
        except msgspec.ValidationError as error:
            self.problem = f"its arguments are no use: {error}"
        self.operator = one_line(self.arguments.operator if self.arguments else command.issuer)
        wished = self.arguments.speed if self.arguments else None
        usual = {"throttle": THROTTLE_SPEED, "pause": 0.0, "resume": 1.0}[command.action]
        self.speed = usual if wished is None or command.action == "pause" else wished
        self.action: Action = "pause" if self.speed == 0 else "run" if self.speed == 1 else "throttle"

    def started(self, override: Override, replaced: Override | None, remark: str) -> Outcome:
        """The override began; `remark` is what the operator should know beside that."""
        instead = f", instead of {replaced.operator}'s until {clock(replaced.until_s)}" if replaced else ""
        forced = ", forced" if override.forced else ""
        verb, at = _did(override)
        reason = f"for {override.until_s - (unix_time(self._command.time) or 0.0):.0f} s{forced}{instead}"
        until = f"{clock(override.until_s)} ({reason}){_said(override.why)}{remark}"
        text = f"{self.operator} {verb} {override.target}{at} until {until}"
        return Outcome(self._event("started", reason, override), _marked(text, self._simulated), override)

    def refused(self, why: str) -> Outcome:
        """The command changes nothing."""
        text = f"{self.operator}'s {self._command.action} of {self._command.target} was refused: {why}"
        return Outcome(self._event("refused", why, None), _marked(text, self._simulated))

    def _event(self, outcome: Literal["started", "refused"], reason: str, override: Override | None) -> OverrideChanged:
        return OverrideChanged(
            target=self._command.target,
            outcome=outcome,
            action=self.action,
            speed=self.speed,
            operator=self.operator,
            reason=reason,
            cause=self._command.id,
            until=rfc3339(override.until_s) if override else "",
            forced=self.arguments is not None and self.arguments.force,
        )


def one_line(text: str) -> str:
    """What a program on the bus calls someone, as part of a sentence."""
    return " ".join(text.split())[:128] or "somebody"


def _unknown(overrides: Overrides, target: str) -> str:
    """Why nothing should be asked of this target unforced; empty where it may."""
    if not target.startswith("gpu") or target in overrides.cards:
        return ""
    known = ", ".join([*sorted(overrides.cards, key=lambda card: int(card[3:])), "host"])
    return f"there is no {target} here that is known of; known: {known}, and workload.NAME; --force asks all the same"


def _nobody(overrides: Overrides, target: str) -> str:
    """A remark where a workload is meant that is not there."""
    kind, _, name = target.partition(".")
    if kind != "workload" or overrides.joined is None or name in overrides.joined:
        return ""
    return "; nobody has joined under that name"


def _note_card(overrides: Overrides, change: StateChanged) -> None:
    if change.state == "UNAVAILABLE":
        overrides.cards = [card for card in overrides.cards if card != change.target]
    elif change.target not in overrides.cards:
        overrides.cards.append(change.target)


def _change_worlds(overrides: Overrides, cause: str) -> list[Outcome]:
    """End every override that was made in the other world, and forget its cards."""
    was = "simulated" if overrides.simulated else "real"
    ending, overrides.standing = list(overrides.standing.values()), {}
    overrides.seen, overrides.cards = {}, []
    why = f"it was made while this host's cards were {was} ones"
    return [_ended(one, why, cause, not overrides.simulated) for one in ending]


def _danger(overrides: Overrides, target: str) -> str:
    """Why nobody may lift this target unforced; empty where he may. Only cards and the host have a state."""
    if target.startswith("workload."):
        return ""
    seen = overrides.seen.get(target)
    if seen is None:
        return f"the state of {target} is not known"
    if seen.state in ("BLIND", "UNAVAILABLE"):
        return f"{target} is {seen.state}"
    return f"{target} is in a thermal emergency" if seen.emergency else ""


def _ended(override: Override, why: str, cause: str, simulated: bool) -> Outcome:
    event = OverrideChanged(
        target=override.target,
        outcome="ended",
        action=override.action,
        speed=override.speed,
        operator=override.operator,
        reason=why,
        cause=cause,
        until=rfc3339(override.until_s),
        forced=override.forced,
    )
    return Outcome(event, _marked(f"{override.operator}'s override of {override.target} ended: {why}", simulated))


def _said(reason: str) -> str:
    """An operator's reason, at the end of a sentence."""
    return f": {' '.join(reason.split())}" if reason.strip() else ""


def _did(override: Override) -> tuple[str, str]:
    """What an operator did: the verb, and what comes after the target."""
    if override.lifts:
        return "resumed", "" if override.speed == 1 else f" at speed {override.speed:.4g}"
    return ("paused", "") if override.speed == 0 else ("throttled", f" to speed {override.speed:.4g}")


def _marked(text: str, simulated: bool) -> str:
    return f"SIMULATED: {text}" if simulated else text
