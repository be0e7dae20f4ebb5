"""What the handler says to the world."""

from msgspec import Struct

#: A type of one's own begins with a domain of one's own; `flyball.` is Flyball's.
CHANGED = "org.example.quiet_hours.changed"


class QuietHoursChanged(Struct, frozen=True, kw_only=True):
    """Cards became quiet, or may be loud again; `cause` is the id of the sample at which it was noticed."""

    quiet: bool
    targets: tuple[str, ...]
    speed: float
    begins: str
    ends: str
    cause: str
