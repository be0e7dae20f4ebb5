"""`[restart]`: how often, and how long, a workload may be started anew."""

from typing import Annotated

from msgspec import Meta, Struct

Seconds = Annotated[float, Meta(gt=0, le=86_400)]


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[restart]`; what a workload's `restart` and `may` do not allow is never done."""

    #: Restarts of one workload in an hour; more are refused.
    an_hour: Annotated[int, Meta(ge=0, le=1000)] = 3
    #: The least time between two restarts of one workload; it doubles with each one within the hour.
    backoff_s: Seconds = 60.0
    #: How long the argument list may take: it must come back once the workload is started.
    timeout_s: Annotated[float, Meta(gt=0, le=600)] = 60.0
    #: How long the samples may take to show other processes of the workload.
    appear_s: Annotated[float, Meta(gt=0, le=600)] = 30.0
