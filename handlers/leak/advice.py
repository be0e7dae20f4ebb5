"""What to do about a leak, pure: by its resource, what drives it, and what was seen in the process."""

from collections.abc import Iterator, Mapping
from typing import Final

from handlers.leak import units
from handlers.leak.evidence import grown, named
from handlers.leak.wording import a_driver, driver
from schemas.leak import Evidence, Resource, Verdict
from schemas.workload import Growing

#: Objects and names that are listed.
MOST: Final = 8
_CONTAINERS: Final = ("dict", "list", "set", "tuple", "deque", "OrderedDict", "lru", "_lru", "cache")


def objects(resource: Resource, before: Evidence | None, after: Evidence | None) -> tuple[str, ...]:
    """What is suspected to be what leaks: what grew between two looks, else what there is most of."""
    if after is None:
        return ()
    found: list[str] = []
    if resource == "threads":
        found += _counted("thread", None if before is None else named(before), named(after))
    elif resource == "handles":
        found += _counted("", None if before is None else before.handles, after.handles)
    else:
        found += [f"{one.type} objects: {one.count} (+{one.more})" for one in after.objects if one.more > 0]
        found += [
            f"{one.where}: {units.amount('rss', one.size_bytes)} in {one.count} blocks"
            for one in after.allocations
            if one.size_bytes > 0
        ]
        if before is not None:
            found += _counted("thread", named(before), named(after), only_grown=True)
            found += _counted("", before.handles, after.handles, only_grown=True)
    return tuple(found[:MOST])


def recommendations(
    verdict: Verdict, before: Evidence | None, after: Evidence | None, *, of_process: bool = True
) -> tuple[str, ...]:
    """Whole sentences, the most telling first; of a card there is no evidence."""
    sentences = [*_sentences(verdict, before, after)]
    if of_process and after is None:
        sentences.append("There is no evidence of the process yet.")
    return tuple(dict.fromkeys(sentences))


def _sentences(verdict: Verdict, before: Evidence | None, after: Evidence | None) -> Iterator[str]:
    resource, cause = verdict.resource, verdict.cause
    if cause is not None and (cause.alike or cause.tell_apart):
        names = " and ".join(driver(one) for one in (cause.driver, *cause.alike))
        yield f"What was seen cannot tell {names} apart" + (f": {cause.tell_apart}." if cause.tell_apart else ".")
    elif cause is not None and cause.driver.startswith("calls."):
        yield f"Look at what {a_driver(cause.driver)} keeps when it is done."
    elif cause is not None and cause.driver == "time" and resource != "vms":
        yield "It grows with time and nothing that was counted: look at timers, background tasks and polling loops."
    if cause is not None and cause.driver in ("threads", "handles"):
        yield (
            f"The memory is that of its {cause.driver}: end them, and it goes back"
            + (f"; they come with {driver(cause.through)}." if cause.through else ".")
        )
    match resource:
        case "threads":
            yield from _on_threads(before, after)
        case "handles":
            yield from _on_handles(before, after)
        case "vms":
            yield "Address space alone is no memory; it matters where ulimit -v or vm.overcommit_memory=2 limits it."
            if _shared_growth(before, after):
                yield "Its shared memory grew: look for segments (shm_open, multiprocessing) that nobody unlinks."
        case "vram":
            yield "Look for tensors that are kept across steps: losses with their graph, caches of keys and values."
        case "rss":
            yield from _on_memory(after)


def _on_threads(before: Evidence | None, after: Evidence | None) -> Iterator[str]:
    if after is None or not after.threads:
        return
    more = grown(named(before), named(after)) if before is not None else {}
    name, count = next(iter(more.items() or named(after).items()))
    what = f"{count} more threads" if more else f"{count} threads"
    yield f"{what} are called {name!r}: find who starts them, and end or pool them."


def _on_handles(before: Evidence | None, after: Evidence | None) -> Iterator[str]:
    if after is None or not after.handles:
        return
    more = (grown(before.handles, after.handles) if before is not None else {}) or dict(after.handles)
    kind, count = next(iter(more.items()))
    if any("CLOSE_WAIT" in one for one in more):
        waiting = sum(number for one, number in after.handles.items() if "CLOSE_WAIT" in one)
        yield (
            f"{waiting} sockets are in CLOSE_WAIT: the other side has hung up and the program never closes them; "
            "look at the error paths of its connections."
        )
    elif "socket" in kind:
        yield f"Most are sockets ({kind}: {count}): close what was opened, on error paths too, or pool the connections."
    elif kind.startswith("file"):
        yield f"Most are files ({count}): open them in a with block."
    else:
        yield f"Most are of the kind {kind} ({count}): find who opens them, and close them."


def _on_memory(after: Evidence | None) -> Iterator[str]:
    if after is None:
        return
    growing = [one for one in after.objects if one.more > 0]
    if growing and _is_container(growing[0]):
        yield (
            f"{growing[0].type} objects grow the most (+{growing[0].more}): a cache without a bound looks like this; "
            "give it one (lru_cache(maxsize=…)), or let entries expire."
        )
    if after.allocations:
        where = after.allocations[0].where
        yield f"Most of what was allocated while it was watched, and not freed, comes from {where}."
    if (
        not growing
        and not after.allocations
        and after.anonymous_bytes is not None
        and any("Python" in reason or "SDK" in reason for reason in after.missing)
    ):
        yield "With flyball's SDK inside (flyball.Workload), it would be known which lines allocate it."


def _counted(
    what: str, before: Mapping[str, int] | None, after: Mapping[str, int], *, only_grown: bool = False
) -> list[str]:
    more = grown(before, after) if before is not None else {}
    lead = f"{what} " if what else ""
    if more or only_grown:
        return [f"{lead}{name}: {after[name]} (+{count})" for name, count in more.items()]
    return [f"{lead}{name}: {count}" for name, count in after.items()]


def _is_container(growing: Growing) -> bool:
    name = growing.type.rpartition(".")[2]
    return name.startswith(_CONTAINERS)


def _shared_growth(before: Evidence | None, after: Evidence | None) -> bool:
    return (
        before is not None
        and after is not None
        and after.shared_bytes is not None
        and before.shared_bytes is not None
        and after.shared_bytes > before.shared_bytes
    )
