"""A resource of the HTTP API as data: what it takes, what it answers, and who is asked; free of any HTTP library.

`supervisor/api` turns routes into a server and into the OpenAPI document; a handler brings its own (`Handler.routes`).
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from msgspec import Meta, Struct, field

from schemas.sample import Gpu, Sample
from schemas.workload import LedgerAnswer

if TYPE_CHECKING:
    from supervisor.handler import Decisions

__all__ = ["Answered", "Asked", "Example", "GpuQuery", "Nothing", "Refusal", "Route", "find_gpu"]

GpuId = Annotated[str, Meta(min_length=1, max_length=64, description="index, UUID or PCI bus id of a card")]


class Nothing(Struct, frozen=True, forbid_unknown_fields=True):
    """A query, path or body without parameters."""


class GpuQuery(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which card is meant."""

    gpu_id: GpuId = "0"


class Refusal(Exception):
    """An answer of 4xx or 503, said as a problem of RFC 9457; `members` stand beside `detail`."""

    def __init__(
        self,
        status: int,
        detail: str,
        members: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`detail` is one or more sentences for people: what, where, why, and what to do."""
        self.status, self.detail = status, detail
        self.members, self.headers = dict(members or {}), dict(headers or {})
        super().__init__(detail)


class Asked(Struct, frozen=True, kw_only=True):
    """One request, already checked against its route's types."""

    query: Any = Nothing()
    path: Any = Nothing()
    body: Any = Nothing()
    #: the request's headers; names are compared without regard to case
    headers: Mapping[str, str] = field(default_factory=dict)
    #: who asks, for events: `api` and the address of the client
    who: str = "api"
    #: the latest full sample
    latest: Sample | None = None
    #: the settings in force, by section of the configuration
    settings: Mapping[str, Struct] = field(default_factory=dict)
    #: Commits what the handler that brought the route decides, and returns the ledger's answers to `Decisions.ledger`,
    #: in order. :raises Refusal: 503 while the bus is away.
    decide: "Callable[[Decisions], Awaitable[Sequence[LedgerAnswer]]] | None" = None

    def gpu(self) -> Gpu:
        """The card that the query's `gpu_id` means, as last sampled.

        :raises Refusal: 404 where there is no such card, 503 before the first sample.
        """
        return find_gpu(self.latest, self.query.gpu_id)


class Example(Struct, frozen=True, kw_only=True):
    """Values for a request, each of the type that the route asks for; None leaves out what need not be given."""

    query: Struct | None = None
    path: Struct | None = None
    body: Any = None


class Route(Struct, frozen=True, kw_only=True):
    """A method and path of the API.

    `call` gets an `Asked` and returns (or awaits) an `answer`, or an `Answered` for further headers; it raises
    `Refusal`. Path parameters stand in the path as `{target}`, and as fields of `path_kind`.
    """

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    #: one sentence for the OpenAPI document
    summary: str
    #: a Struct, or any type that msgspec has a schema for
    answer: Any
    call: Callable[[Asked], Any]
    query: type[Struct] = Nothing
    path_kind: type[Struct] = Nothing
    #: a Struct, or any type that msgspec has a schema for; None takes none
    body: Any = None
    status: int = 200
    #: what it may also answer where all is well: status → the type of the body
    further: Mapping[int, Any] = field(default_factory=dict)
    #: what else it may answer beside what the server itself does, status → when
    problems: Mapping[int, str] = field(default_factory=dict)
    #: request headers that it reads, name → what for
    headers: Mapping[str, str] = field(default_factory=dict)
    #: a request that is worth showing; a test sends it
    example: Example | None = None

    @property
    def changes(self) -> bool:
        """Whether it changes anything, and so needs the token."""
        return self.method != "GET"


class Answered(Struct, frozen=True, kw_only=True):
    """An answer with headers of its own, such as an ETag, or with another status than the route's."""

    body: Any
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


_PCI_DOMAIN_DIGITS: Final = 8


def find_gpu(sample: Sample | None, gpu_id: str) -> Gpu:
    """The card of `sample` that `gpu_id` means: an index, a UUID or a PCI bus id in any usual spelling.

    :raises Refusal: 404 where there is none, 503 where that is not known yet: before the first sample, and until the
        driver has answered.
    """
    if sample is None:
        raise Refusal(503, "nothing has been sampled yet; ask again in a second")
    wanted = gpu_id.strip().lower()
    for gpu in sample.gpus:
        if wanted in (str(gpu.index), gpu.uuid.lower()) or _pci(wanted) == _pci(gpu.pci_bus_id.lower()) != "":
            return gpu
    backend = sample.gpu_backend
    if backend.state != "ok" and backend.reason.endswith("starting"):
        raise Refusal(503, f"the GPUs have not been read yet, so nobody knows of {gpu_id!r}; ask again in a second")
    known = ", ".join(f"{gpu.index} ({gpu.uuid})" for gpu in sample.gpus) or "none"
    why = "" if backend.state == "ok" else f"; GPUs cannot be read ({backend.reason}): {backend.hint}"
    raise Refusal(404, f"there is no GPU {gpu_id!r}; known are: {known}{why}")


def _pci(text: str) -> str:
    """A PCI bus id with its domain in eight digits, as NVML writes it; empty where `text` is none."""
    parts = text.split(":")
    if len(parts) == 2:
        parts.insert(0, "0")
    if len(parts) != 3 or "." not in parts[2]:
        return ""
    return ":".join([parts[0].zfill(_PCI_DOMAIN_DIGITS)[-_PCI_DOMAIN_DIGITS:], *parts[1:]])
