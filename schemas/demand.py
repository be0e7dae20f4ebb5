"""A demand: what one issuer wants of a target; and the standing order that follows from all of them."""

from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from schemas.workload import Action, Cleanup, Speed, Target

_CLEANUP_RANK: Final[dict[str, int]] = {"none": 0, "soft": 1, "hard": 2, "emergency": 3}


class Demand(Struct, frozen=True, kw_only=True):
    """What one issuer (throttle, operator, guard …) wants of a target; a field of `flyball:demands:…`."""

    issuer: str
    target: Target
    action: Action
    speed: Speed
    cleanup: Cleanup = "none"
    reason: str = ""
    cause: str = ""
    #: an operator's lift: it stands before every demand that does not override, even a slower one
    overrides: bool = False


def standing(demands: Iterable[Demand]) -> Demand | None:
    """The slowest demand, with the strongest cleanup of all of them; None where nobody demands anything.

    Where a demand overrides, only those that do are compared by speed; cleanup still counts from all. Equal speeds
    are ordered by the issuer's name, so the outcome does not depend on arrival. The commit function
    (`supervisor/bus/flyball.lua`) does the same on the server; a test holds the two together.
    """
    every = sorted(demands, key=lambda demand: (not demand.overrides, demand.speed, demand.issuer))
    if not every:
        return None
    slowest = every[0]
    cleanup = max((demand.cleanup for demand in every), key=_CLEANUP_RANK.__getitem__)
    return Demand(
        issuer=slowest.issuer,
        target=slowest.target,
        action=slowest.action,
        speed=slowest.speed,
        cleanup=cleanup,
        reason=slowest.reason,
        cause=slowest.cause,
        overrides=slowest.overrides,
    )
