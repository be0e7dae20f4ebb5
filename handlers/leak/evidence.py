"""Evidence in two parts as one, and what has grown from one look to the next."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from msgspec.structs import fields

from schemas.leak import Evidence

#: A thread in the evidence's stacks, with the name that Python gave it, and how many more stand where it does.
_THREAD: Final = re.compile(r'^Thread \S+ \([^)]*\): "([^"\n]+)"((?:\n(?!Thread ).*)*)', re.MULTILINE)
#: Of those that stand at one place the numbers in their names are taken off already; so are all others, to be alike.
_NUMBER: Final = re.compile(r"\d+(?=\)?$| \()")
_MORE: Final = re.compile(r"^    … and ([\d,]+) more like it$", re.MULTILINE)


def merged(one: Evidence | None, other: Evidence) -> Evidence:
    """Both parts of one answer: what one has and the other has not; what is missing in both is listed."""
    if one is None or one.command != other.command:
        return Evidence(**{field.name: getattr(other, field.name) for field in fields(Evidence)})
    values: dict[str, Any] = {}
    for field in fields(Evidence):
        first, second = getattr(one, field.name), getattr(other, field.name)
        values[field.name] = second if first in (None, "", (), {}) else first
    values["missing"] = (*one.missing, *(reason for reason in other.missing if reason not in one.missing))
    values["took_s"] = max(one.took_s, other.took_s)
    stops = [stopped_s for stopped_s in (one.stopped_s, other.stopped_s) if stopped_s is not None]
    values["stopped_s"] = max(stops, default=None)
    return Evidence(**values)


def grown(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """What is there more of, the most grown first."""
    more = {name: count - before.get(name, 0) for name, count in after.items()}
    return dict(sorted(((name, count) for name, count in more.items() if count > 0), key=lambda item: -item[1]))


def named(evidence: Evidence) -> dict[str, int]:
    """The threads by name: as Python calls them where the kernel has but one name for all, as before Python 3.14."""
    if len(evidence.threads) > 1:
        return evidence.threads
    names: Counter[str] = Counter()
    for name, frames in _THREAD.findall(evidence.stacks):
        more = _MORE.search(frames)
        names[_NUMBER.sub("*", name)] += 1 + (int(more[1].replace(",", "")) if more else 0)
    return dict(names.most_common()) or evidence.threads
