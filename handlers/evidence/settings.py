"""`[evidence]`: how much is looked at when a process is suspected of a leak."""

from typing import Annotated

from msgspec import Meta, Struct


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[evidence]`; what changes here holds for the next look."""

    #: The longest look at one process from outside; what is not seen by then is said to be missing.
    seconds: Annotated[float, Meta(ge=0.1, le=30)] = 2.0
    #: Looks in a minute; what is asked beyond that is refused.
    per_minute: Annotated[int, Meta(ge=1, le=600)] = 12
    #: Whether the stacks of Python programs are read with py-spy.
    stacks: bool = True
    #: Whether programs that use the SDK are asked which of their lines allocate.
    inside: bool = True
