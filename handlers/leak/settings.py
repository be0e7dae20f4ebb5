"""`[leak]`: how the detector of leaks decides."""

from typing import Annotated

from msgspec import Meta, Struct

Seconds = Annotated[float, Meta(gt=0, le=10**6)]


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[leak]`; what changes here holds for what is seen from then on."""

    #: Whether processes and cards are watched for leaks at all.
    enabled: bool = True

    # -- how it is decided -----------------------------------------------------------------------------------------

    #: Samples for which a series must have grown before it may be suspected; a third of that where it is very clear.
    least_samples: Annotated[int, Meta(ge=16, le=100_000)] = 48
    #: Least slope of a growth, in standard errors that know of autocorrelation.
    least_significance: Annotated[float, Meta(ge=1, le=99)] = 8.0
    #: How far the points may lie off the line, as a share of the growth.
    most_crooked: Annotated[float, Meta(gt=0, le=0.29)] = 0.08
    #: How long the level must have been calm before, as a share of the time for which it has grown.
    least_calm: Annotated[float, Meta(ge=0, le=10)] = 0.2
    #: Looks in a row that must find a growth before a suspicion is confirmed; a very clear one needs one less.
    looks: Annotated[int, Meta(ge=1, le=100)] = 2

    # -- what is said, and what follows ----------------------------------------------------------------------------

    #: A leak is critical where half of its forecast says that a limit is reached sooner.
    critical_s: Seconds = 3600.0
    #: A suspicion of a series that was cleared is not said again sooner; what is confirmed is.
    again_s: Seconds = 600.0
    #: Processes and cards that are remembered at once; beyond, those that were not seen for longest are forgotten.
    subjects: Annotated[int, Meta(ge=1, le=100_000)] = 2000
    #: What the samples do not show for so long is forgotten: a process may fall out of the largest for a while.
    unseen_s: Seconds = 600.0
    #: Speed of a workload with `on_leak = "throttle"` until its leak is over.
    throttle_speed: Annotated[float, Meta(ge=0.01, le=0.99)] = 0.5
    #: How long a workload with `on_leak = "cleanup"` is asked to clean up.
    cleanup_s: Seconds = 60.0
    #: A restart waits until nothing was counted, and less CPU used than `quiet_cpu`, for so long …
    quiet_s: Seconds = 10.0
    #: … in cores, of all processes of the workload together …
    quiet_cpu: Annotated[float, Meta(ge=0, le=1000)] = 0.05
    #: … or until the earliest forecast (p10) says that a limit is reached within so long.
    restart_before_s: Seconds = 600.0
