"""What must hold across the keys of a `[[workload.counters]]`, beyond the types of each."""

from typing import Final
from urllib.parse import urlsplit

from supervisor.config import CounterKind, CounterSection
from supervisor.configuration.wording import shown
from supervisor.sampling.counters.exposition import selector

#: The most names of counts, and of gauges, from one source.
MOST_COUNTERS: Final = 32
#: What a kind cannot use, and so must not have: a key that does nothing was meant to do something.
_UNUSED: Final[dict[CounterKind, tuple[str, ...]]] = {
    "json": ("file",),
    "prometheus": ("file", "method", "body"),
    "lines": ("url", "method", "body", "authorization_file", "counts", "gauges"),
}


def problems(section: CounterSection) -> list[str]:
    """Each as `key: what is wrong, what would be right`."""
    kind = section.kind
    found = [f'{key}: is of no use to kind "{kind}"; remove it' for key in _UNUSED[kind] if getattr(section, key)]
    needed = "file" if kind == "lines" else "url"
    if not getattr(section, needed):
        found.append(f'{needed}: is missing; kind "{kind}" needs it')
    if kind == "lines":
        return found
    if section.url and not _asks_somebody(section.url):
        found.append(f"url: {shown(section.url)} has no host, or no usable port; expected http://HOST:PORT/PATH")
    if section.authorization_file and "@" in section.url:
        found.append("authorization_file: comes on top of the name and password in url; keep one of the two")
    if section.method == "GET" and section.body:
        found.append('body: is never sent with method "GET"; remove one of the two')
    if not section.counts and not section.gauges:
        found.append(f'counts: is empty, and so is gauges; kind "{kind}" needs one name at least')
    for key, figures in (("counts", section.counts), ("gauges", section.gauges)):
        if len(figures) > MOST_COUNTERS:
            found.append(f"{key}: has {len(figures)} names; at most {MOST_COUNTERS} are read from one source")
        found += [f"{key}.{name}: {why}" for name, where in figures.items() if (why := _nowhere(kind, where))]
    return found


def _asks_somebody(url: str) -> bool:
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
