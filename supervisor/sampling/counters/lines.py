"""One line of a performance log, as a program appends it each second: figures of its own and what it has done."""

import json
from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

from schemas.workload import MOST_WATCHED, checked_name
from supervisor.sampling.counters.source import Tally, amount, shown

#: Stands in every line that can be one, so that others need not be decoded.
MARK: Final = b'"performance"'
#: `requests.…` that only grow; all others are levels.
_CUMULATIVE: Final = frozenset({"completed"})


class Performance(Struct, frozen=True, kw_only=True):
    """What a performance line says; sizes are MB of 2**20 bytes. What it does not say is None."""

    tally: Tally
    #: a sentence, where it says more than can be used
    missing: str = ""
    threads: float | None = None
    rss_mb: float | None = None
    vms_mb: float | None = None


def performance_of_line(line: bytes) -> Performance | None:
    """All that a performance line says, None where it is another line.

    :raises ValueError: it is a performance line and broken; the text is a sentence.
    """
    if MARK not in line or not line.lstrip().startswith(b"{"):
        return None
    try:
        # not orjson, which would refuse the whole line for a NaN
        said = json.loads(line)
    except (ValueError, RecursionError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else _reason(error)
        raise ValueError(f"a performance line is not JSON: {why}") from None
    if not isinstance(said, dict) or said.get("type") != "performance":
        return None
    counts: dict[str, float] = {}
    gauges: dict[str, float] = {}
    left_out = 0
    for name, value in _table(said, "requests"):
        table, least = (counts, 0) if name in _CUMULATIVE else (gauges, None)
        if len(table) < MOST_WATCHED:
            table[f"requests.{name}"] = _figure(f"requests.{name}", value, least=least)
        else:
            left_out += 1
    for name, value in _table(said, "method_calls"):
        if name in counts:
            continue  # `requests.completed` is that of the requests
        if len(counts) < MOST_WATCHED:
            counts[name] = _figure(f"method_calls.{name}", value, least=0)
        else:
            left_out += 1
    missing = ""
    if left_out:
        missing = (
            f"{left_out} figures of a performance line are left out: {MOST_WATCHED} counts and {MOST_WATCHED} levels, "
            "those told first, are the most; let the program tell those that matter"
        )
    levels = {name: _figure(name, said[name], least=0) for name in ("threads", "rss_mb", "vms_mb") if name in said}
    return Performance(tally=Tally(counts=counts, gauges=gauges), missing=missing, **levels)


def _table(said: Mapping[str, Any], key: str) -> list[tuple[str, object]]:
    """As the program tells them: what it has done first stays first in most programs, so what is left out stays so."""
    table = said.get(key)
    if table is None:
        return []
    if not isinstance(table, dict):
        raise ValueError(f"{key} of a performance line is {shown(table)}, not a table of numbers")
    for name in table:
        try:
            checked_name(f"requests.{name}" if key == "requests" else name)
        except ValueError:
            what = f"{key} of a performance line has the name {shown(name)}"
            raise ValueError(f"{what}; usable are 1 to 64 of A-Z a-z 0-9 . _ -") from None
    return list(table.items())


def _figure(key: str, value: object, *, least: float | None = None) -> float:
    try:
        return amount(value) if least is None else amount(value, least=least)
    except ValueError as error:
        raise ValueError(f"{key} of a performance line is {error}") from None


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"byte 0x{error.object[error.start]:02x} at {error.start} is not UTF-8"
    return error.msg if isinstance(error, json.JSONDecodeError) else str(error)
