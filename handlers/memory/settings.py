"""`[memory]`: what may be reserved, and what counts as more than that.

Sizes are in MiB; *seed* marks the keys of the GPU manager that Flyball grew out of.
"""

from typing import Annotated, Final

from msgspec import Meta, Struct

MIB: Final = 2**20
Mib = Annotated[int, Meta(ge=0, le=2**30)]


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[memory]`; a card's figures hold for every card."""

    #: VRAM that may be in use on a card, reserved or not; 0: all that the driver leaves (seed: 6144).
    memory_limit_mb: Mib = 0
    #: VRAM of a card that is never promised to anyone (seed: 512).
    memory_reserve_mb: Mib = 512
    #: RAM that may be in use on the host, reserved or not; 0: all of it, or what our cgroup allows.
    ram_limit_mb: Mib = 0
    #: RAM of the host that is never promised to anyone.
    ram_reserve_mb: Mib = 1024
    #: How long a reservation lasts that names neither a process nor a time.
    default_ttl_s: Annotated[float, Meta(gt=0, le=10**9)] = 3600.0
    #: Use of so much more than was reserved is told.
    overuse_mb: Mib = 256
    #: VRAM in use that no living process owns is told from so much on.
    orphan_mb: Mib = 1024
    #: Both are told, and their end, after so many samples in a row.
    confirm_samples: Annotated[int, Meta(ge=1, le=1000)] = 3
