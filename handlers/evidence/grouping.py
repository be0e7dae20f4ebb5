"""Many threads and handles in few words: names with their numbers taken off, kinds with counts; pure."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

from schemas.terminal import printable

#: Names of threads, and kinds of handles, that are told; the rest is one number.
NAMES_TOLD: Final = 20
KINDS_TOLD: Final = 30
OTHERS: Final = "others"
_LONGEST_NAME: Final = 200

#: The number of one of many: at the end, in quotes or not, or as in Python's `Thread-12 (work)`.
_NUMBER: Final = re.compile(r'\d+(?=\)?"?$| \()')
#: A thread in a dump of py-spy, `Thread 0x7F (idle): "worker-12"`: which it is, its state, its name.
_HEAD: Final = re.compile(r'(Thread \S+)([^"]*)(".*")?')
_NEXT_THREAD: Final = re.compile(r"\n(?=Thread )")
_DELETED: Final = " (deleted)"
#: Namespaces, by the names that their links have.
_NAMESPACES: Final = frozenset({"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"})


def thread_names(names: Iterable[str]) -> dict[str, int]:
    """Name → count, the most frequent first: `worker-1` and `worker-2` are two `worker-*`; one `worker-1` is itself."""
    by_stem: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for name in names:
        by_stem[_NUMBER.sub("*", name)][name] += 1
    counts = {next(iter(alike)) if len(alike) == 1 else stem: alike.total() for stem, alike in by_stem.items()}
    return _most(counts, NAMES_TOLD)


def stacks(dump: str) -> str:
    """A dump of py-spy in which threads that stand at the same place are one, the most frequent first.

    The first of them stands for all, and a last line says how many more there are.
    """
    alike: defaultdict[tuple[str, str, str], list[tuple[str, str]]] = defaultdict(list)
    for thread in _NEXT_THREAD.split(dump):
        head, _, frames = thread.partition("\n")
        parts = _HEAD.fullmatch(head)
        number, state, name = parts.groups("") if parts else (head, "", "")
        alike[state, _NUMBER.sub("*", name), frames].append((number, name))
    found = []
    for (state, stem, frames), those in sorted(alike.items(), key=lambda item: -len(item[1])):
        number, name = those[0]
        called = name if all(each == name for _, each in those) else stem
        found += [f"{number}{state}{called}", frames]
        found += [f"    … and {len(those) - 1:,} more like it"] if len(those) > 1 else []
    return "\n".join(filter(None, found))


def handle_kinds(links: Iterable[str], sockets: Mapping[str, str]) -> dict[str, int]:
    """Kind → count, the most frequent first.

    `links` are what /proc/PID/fd/N lead to, `sockets` the kind of each socket by inode, such as `tcp CLOSE_WAIT`. Files
    of one directory are one kind.
    """
    counts: Counter[str] = Counter()
    files: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for link in links:
        if not link.startswith("/"):
            counts[_kind(link, sockets)] += 1
        elif link.startswith("/memfd:"):
            counts["memfd"] += 1
        elif link.startswith("/dev/") and not link.startswith("/dev/shm/"):
            counts[f"device {link}"] += 1
        else:
            kind = "deleted file" if link.endswith(_DELETED) else "file"
            path = link.removesuffix(_DELETED)
            files[kind, path.rpartition("/")[0]][path] += 1
    for (kind, directory), alike in files.items():
        name = next(iter(alike)) if len(alike) == 1 else f"{directory}/*"
        counts[f"{kind} {name}"] += alike.total()
    return _most(counts, KINDS_TOLD)


def without_paths(kinds: Mapping[str, int]) -> dict[str, int]:
    """The same handles by kind alone, `file` for all files: where strangers may read what is told."""
    counts: Counter[str] = Counter()
    for kind, count in kinds.items():
        counts[kind.partition("/")[0].rstrip() or "file"] += count
    return dict(counts.most_common())


def _kind(link: str, sockets: Mapping[str, str]) -> str:
    """What is no path: `pipe:[12]`, `socket:[12]`, `anon_inode:[eventfd]`, `anon_inode:inotify`, `net:[12]`."""
    if link.startswith("anon_inode:"):
        return link.removeprefix("anon_inode:").strip("[]")
    kind, _, number = link.partition(":")
    if kind == "socket":
        return f"socket {sockets.get(number.strip('[]'), 'of another kind, or not connected')}"
    if kind in _NAMESPACES:
        return f"namespace {kind}"
    return kind


def _most(counts: Mapping[str, int], told: int) -> dict[str, int]:
    """The largest; what is beyond them as one number."""
    ordered = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    most: Counter[str] = Counter()
    for name, count in ordered[:told]:
        most[printable(name[:_LONGEST_NAME])] += count
    if rest := sum(count for _, count in ordered[told:]):
        most[OTHERS] += rest
    return dict(most)
