"""`[faults]`: what is done about which XID, and how long repeats are folded and a card must be well again."""

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

XidNumber = Annotated[
    str, Meta(pattern=r"^[1-9][0-9]{0,8}$(?!\n)", description='an XID\'s number as text, such as "79"')
]
TableAction = Literal[
    "restart_program",
    "reset_gpu",
    "reboot_host",
    "restart_vm",
    "follow_procedure",
    "ask_driver",
    "contact_support",
    "log_only",
    "find_out",
]


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[faults]`; the driver's own recovery action stands before every table."""

    #: What to do about an XID, where NVIDIA's catalogue is not to be followed: `"109" = "restart_program"`.
    actions: dict[XidNumber, TableAction] = field(default_factory=dict)
    #: The first fault of a kind is said at once, those that follow within so long as one count.
    fold_seconds: Annotated[float, Meta(ge=1, le=86400)] = 60.0
    #: A card must have been well for so long before its target goes on.
    recovery_seconds: Annotated[float, Meta(ge=0, le=86400)] = 30.0
    #: Hardware slowdown is said once it comes to so much within `fold_seconds`.
    slowdown_seconds: Annotated[float, Meta(ge=0, le=86400)] = 1.0
