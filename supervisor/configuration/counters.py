"""`[[workload.counters]]`: where a workload tells what it has done, and what must hold across the keys of it."""

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from schemas.workload import Name
from supervisor.configuration.wording import shown
from supervisor.masking import masked
from supervisor.selector import selector

CounterKind = Literal["json", "prometheus", "lines"]

#: The most names of counts, and of gauges, from one source.
MOST_COUNTERS: Final = 32
#: What a kind cannot use, and so must not have: a key that does nothing was meant to do something.
_UNUSED: Final[dict[CounterKind, tuple[str, ...]]] = {
    "json": ("file",),
    "prometheus": ("file", "method", "body"),
    "lines": ("url", "method", "body", "authorization_file", "counts", "gauges"),
}


class CounterSection(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[[workload.counters]]`: where a workload tells what it has done, so that a growth can be explained by it.

    json: a status resource over HTTP, JSON-RPC or any other · prometheus: a `/metrics` page · lines: a file to which a
    program appends a JSON object a line, of `type` "performance".
    """

    #: How it tells it.
    kind: CounterKind
    #: Address of the resource; of `lines` none. It is asked directly, without a proxy, and no redirect is followed.
    url: Annotated[str, Meta(pattern=r"^$|^https?://", description="an address with http:// or https://")] = ""
    #: File of `lines`; it is followed by its name, and may come later.
    file: str = ""
    #: HTTP method of `json`; with a body it is POST by default.
    method: Literal["", "GET", "POST"] = ""
    #: What is sent, such as a JSON-RPC request.
    body: str = ""
    #: File with what stands in the header `Authorization`.
    authorization_file: str = ""
    #: Cumulative counts: name → path to the number (`result.completedCount`, `queues.0.done`), or the metric, with or
    #: without labels (`requests_total{method="add"}`). A line of `lines` names its own.
    counts: dict[Name, str] = {}
    #: Levels: name → path to the number, or the metric.
    gauges: dict[Name, str] = {}
    #: Time between two looks. Figures that are older than three of them, and than 10 s, count as unknown.
    every_s: Annotated[float, Meta(ge=0.2, le=3600)] = 1.0
    #: How long a whole answer may take, or a look at a file.
    timeout_s: Annotated[float, Meta(gt=0, le=60)] = 2.0

    def __repr__(self) -> str:
        """The fields, but what may be a secret is masked."""
        hidden = {"url": masked(self.url), "body": "***" if self.body else ""}
        fields = {name: hidden.get(name, getattr(self, name)) for name in self.__struct_fields__}
        return f"CounterSection({', '.join(f'{name}={value!r}' for name, value in fields.items())})"

    def problems(self) -> list[str]:
        """What its kind needs and lacks, or has and cannot use: each as `key: what is wrong, what would be right`."""
        kind = self.kind
        found = [f'{key}: is of no use to kind "{kind}"; remove it' for key in _UNUSED[kind] if getattr(self, key)]
        needed = "file" if kind == "lines" else "url"
        if not getattr(self, needed):
            found.append(f'{needed}: is missing; kind "{kind}" needs it')
        if kind == "lines":
            return found
        if self.url and not _asks_somebody(self.url):
            found.append(f"url: {shown(self.url)} has no host, or no usable port; expected http://HOST:PORT/PATH")
        if self.authorization_file and "@" in self.url:
            found.append("authorization_file: comes on top of the name and password in url; keep one of the two")
        if self.method == "GET" and self.body:
            found.append('body: is never sent with method "GET"; remove one of the two')
        if not self.counts and not self.gauges:
            found.append(f'counts: is empty, and so is gauges; kind "{kind}" needs one name at least')
        for key, figures in (("counts", self.counts), ("gauges", self.gauges)):
            if len(figures) > MOST_COUNTERS:
                found.append(f"{key}: has {len(figures)} names; at most {MOST_COUNTERS} are read from one source")
            found += [f"{key}.{name}: {why}" for name, where in figures.items() if (why := _nowhere(kind, where))]
        return found


def _asks_somebody(url: str) -> bool:
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _nowhere(kind: CounterKind, where: str) -> str:
    """Why no number can be there; empty where one can."""
    if kind == "json":
        good = all(where.split("."))
        return "" if good else f"{shown(where)} is no path; expected keys and indices, dots between: result.done"
    try:
        selector(where)
    except ValueError as error:
        return f"{shown(where)} is no metric; {error}"
    return ""
