"""A command: a request to act on one host, refused once it has expired."""

from typing import Annotated, Any

from msgspec import Meta, Struct, field

from schemas.workload import Name, Target


class Command(Struct, frozen=True, kw_only=True):
    """A request to act; its effect is idempotent by `id` and answers with an outcome event."""

    id: Annotated[str, Meta(min_length=1, max_length=128)]
    time: str
    ttl_s: Annotated[float, Meta(gt=0, le=3600)]
    host: Name
    issuer: Annotated[str, Meta(min_length=1, max_length=128)]
    action: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_.]{0,63}$(?!\n)")]
    target: Target
    arguments: dict[str, Any] = field(default_factory=dict)
    cause: str = ""
