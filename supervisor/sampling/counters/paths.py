"""Numbers in a JSON document, found by dotted paths: `result.completedCount`, `queues.0.depth`."""

import json
from collections.abc import Mapping
from typing import Final

from schemas.workload import LARGEST_AMOUNT
from supervisor.sampling.counters.source import Tally, Told, Untold, amount, shown

#: So many keys stand in a sentence to show what there would have been.
_KEYS: Final = 6


def figures(body: bytes, counts: Mapping[str, str], gauges: Mapping[str, str]) -> Told:
    """The numbers in a JSON document at the paths of `counts` and `gauges` (name → path).

    :raises Untold: it is no JSON, or none of the numbers is there.
    """
    try:
        # not orjson: it would refuse the whole document for a NaN that nobody asked for
        document = json.loads(body)
    except UnicodeDecodeError as error:
        raise Untold(f"the answer is not UTF-8 at byte {error.start}") from None
    except RecursionError:
        raise Untold("the answer is nested too deeply") from None
    except ValueError as error:
        begin = shown(body[:40].decode("utf-8", "replace"))
        raise Untold(f"the answer is not JSON ({error}) and begins with {begin}; check url") from None
    wrong: list[str] = []

    def read(paths: Mapping[str, str], least: float) -> dict[str, float]:
        found: dict[str, float] = {}
        for name, path in paths.items():
            try:
                found[name] = amount(at(document, path), least=least)
            except LookupError as error:
                wrong.append(f"{path} leads nowhere: {error.args[0]}")
            except ValueError as error:
                wrong.append(f"{path} is {error}")
        return found

    tally = Tally(counts=read(counts, 0), gauges=read(gauges, -LARGEST_AMOUNT))
    return partly(tally, wrong)


def partly(tally: Tally, wrong: list[str]) -> Told:
    """The figures that are there, with a sentence on those that are not.

    :raises Untold: there is none.
    """
    more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    missing = f"{wrong[0]}{more}" if wrong else ""
    if not tally.counts and not tally.gauges:
        raise Untold(missing)
    return Told(tally=tally, missing=missing)


def at(document: object, path: str) -> object:
    """What lies at a dotted path; a part of it is a key, or an index from 0 in a list.

    A key may hold dots itself: the longest one that fits wins.

    :raises LookupError: nothing does; its text says where the path ends, and what there is instead.
    """
    parts = path.split(".")
    here, start = document, 0
    while start < len(parts):
        before = ".".join(parts[:start]) or "the document"
        if isinstance(here, dict):
            ends = range(len(parts), start, -1)
            end = next((end for end in ends if ".".join(parts[start:end]) in here), None)
            if end is None:
                raise LookupError(f"{before} has no {parts[start]}, but {_keys(here)}")
            here, start = here[".".join(parts[start:end])], end
        elif isinstance(here, list):
            index = int(parts[start]) if parts[start].isdecimal() and len(parts[start]) < 8 else -1
            if not 0 <= index < len(here):
                raise LookupError(f"{before} is a list of {len(here)} and has no item {parts[start]}")
            here, start = here[index], start + 1
        else:
            raise LookupError(f"{before} is {shown(here)} and has nothing in it")
    return here


def _keys(table: Mapping[str, object]) -> str:
    if not table:
        return "nothing at all"
    names = [shown(key).strip("'\"") for key in list(table)[:_KEYS]]
    return ", ".join(names) + (", …" if len(table) > _KEYS else "")
