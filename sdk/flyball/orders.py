"""What stands for a workload: the slowest of what its targets were told, and what holds when nobody speaks any more.

Pure: no thread, no clock, no I/O. The rules are DESIGN §4's.
"""

from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

from msgspec.structs import replace

from flyball.wire import Directive, OnSilence

#: How long a directive is held through silence, and the speed after that.
HOLD_AT_MOST_S: Final = 600.0
SPEED_AFTER_HOLD: Final = 0.5

#: What a standing order comes to; silent is one that `on_silence` made.
State = Literal["running", "throttled", "paused", "silent"]


class _Heard(NamedTuple):
    """A directive and when it was last said."""

    directive: Directive
    at_s: float

    def silent_from_s(self) -> float:
        """When its life ends; never for `ttl_s` 0."""
        return self.at_s + self.directive.ttl_s if self.directive.ttl_s else float("inf")


class Orders:
    """The last directive of each target. All times are seconds on one monotonic clock."""

    def __init__(self, targets: Iterable[str], on_silence: OnSilence) -> None:
        """`targets`: of equally slow directives the one of the target named first wins."""
        self._heard: dict[str, _Heard | None] = dict.fromkeys(targets)
        self._on_silence = on_silence

    def hear(self, directive: Directive, now_s: float, *, retained: bool = False) -> bool:
        """Take in a directive; whether it was new.

        A lower `seq` is dropped while the standing directive lives; once that has expired, whoever speaks is heard
        (a bus that lost its data counts from the start again). The same one renews, but not where it was only
        `retained`: the hash may be older than our silence.
        """
        heard = self._heard[directive.target]
        if heard is not None:
            alive = now_s < heard.silent_from_s()
            if directive.seq == heard.directive.seq and directive.id == heard.directive.id:
                if not retained:
                    self._heard[directive.target] = _Heard(heard.directive, now_s)
                return False
            if alive and directive.seq < heard.directive.seq:
                return False
        self._heard[directive.target] = _Heard(directive, now_s)
        return True

    def standing(self, now_s: float) -> Directive | None:
        """The slowest; None where nothing was ever heard, which means full speed.

        What silence brings about is a directive with an empty `id`, whose `cause` is the one that fell silent.
        """
        every = [self._of(heard, now_s) for heard in self._heard.values() if heard is not None]
        return min(every, key=speed_of, default=None)

    def deadline_s(self, now_s: float) -> float | None:
        """When `standing` may next change by itself; None: never."""
        moments = [
            moment
            for heard in self._heard.values()
            if heard is not None
            for moment in (heard.silent_from_s(), heard.silent_from_s() + HOLD_AT_MOST_S)
            if now_s < moment < float("inf")
        ]
        return min(moments, default=None)

    def _of(self, heard: _Heard, now_s: float) -> Directive:
        """What one target's directive means now."""
        directive = heard.directive
        silent_s = now_s - heard.silent_from_s()
        if silent_s < 0 or (self._on_silence == "hold" and silent_s < HOLD_AT_MOST_S):
            return directive
        reason = f"no word from the supervisor about {directive.target} for {now_s - heard.at_s:.0f} s"
        match self._on_silence:
            case "run":
                return _instead(directive, "run", 1.0, reason)
            case "pause":
                return _instead(directive, "pause", 0.0, reason)
            case _:
                return _instead(directive, "throttle", SPEED_AFTER_HOLD, reason)


def speed_of(directive: Directive | None) -> float:
    """The share of full speed that it allows: 0 while paused, 1 where there is none."""
    if directive is None:
        return 1.0
    return 0.0 if directive.action == "pause" else directive.speed


def state_of(directive: Directive) -> State:
    """What it comes to."""
    if not directive.id:
        return "silent"
    speed = speed_of(directive)
    return "running" if speed >= 1 else "throttled" if speed > 0 else "paused"


def essence(directive: Directive | None) -> object:
    """What must differ for one standing directive to be a change from another."""
    if directive is None:
        return None
    return directive.target, directive.seq, directive.action, directive.speed, directive.cleanup


def _instead(directive: Directive, action: str, speed: float, reason: str) -> Directive:
    """What silence makes of `directive`."""
    return replace(directive, id="", action=action, speed=speed, cleanup="none", reason=reason, cause=directive.id)
