"""`[leak]`: how the detector of leaks decides."""

from msgspec import Struct


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[leak]`; what changes here holds for what is seen from then on."""

    #: Whether processes and cards are watched for leaks at all.
    enabled: bool = True
