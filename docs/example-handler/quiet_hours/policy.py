"""Which cards are to be quiet, and what changes thereby. Pure: what time it is comes in, nothing is looked up."""

from collections.abc import Iterable, Mapping
from datetime import time

from msgspec import Struct

from quiet_hours.settings import Settings

VERSION = 1


class State(Struct, kw_only=True):
    """What is demanded now: the speed of each target."""

    version: int = VERSION
    speeds: dict[str, float] = {}


class Change(Struct, frozen=True):
    """What is demanded from now on, and of which targets nothing is any more."""

    demanded: Mapping[str, float]
    withdrawn: tuple[str, ...]


def is_quiet(settings: Settings, at: time) -> bool:
    """Whether `at` lies in the hours."""
    begins, ends = time.fromisoformat(settings.begins), time.fromisoformat(settings.ends)
    if begins < ends:
        return begins <= at < ends
    return at >= begins or at < ends


def decide(state: State, settings: Settings, cards: Iterable[str], at: time) -> Change | None:
    """What follows for `cards`, which are all that were seen; None where nothing changes. `state` follows it."""
    quiet = is_quiet(settings, at)
    wanted = dict.fromkeys(cards, settings.speed) if quiet else {}
    demanded = {card: speed for card, speed in wanted.items() if state.speeds.get(card) != speed}
    # a card that is not seen any more may be back: what is demanded of it ends with the hours
    withdrawn = () if quiet else tuple(state.speeds)
    if not demanded and not withdrawn:
        return None
    state.speeds = {**state.speeds, **demanded} if quiet else {}
    return Change(demanded, withdrawn)
