"""What is known of a workload's own counters: figures, and the sentence that says why there are none."""

import math
from typing import Final, Protocol

from msgspec import Struct

from schemas.workload import LARGEST_AMOUNT

#: A name or value of others in a sentence is cut to so many characters, so that nobody fills our log.
_SHOWN: Final = 60


class Tally(Struct, frozen=True, kw_only=True):
    """Figures that a workload told: cumulative `counts` and levels (`gauges`), by name."""

    counts: dict[str, float]
    gauges: dict[str, float]


class Told(Struct, frozen=True, kw_only=True):
    """One answer of a source: figures, how old they were when they came, and a sentence on those that are missing."""

    tally: Tally
    age_s: float = 0.0
    missing: str = ""


class Untold(Exception):
    """A source told nothing that can be used; the text is one sentence: what, why, and what to do."""


class CounterSource(Protocol):
    """Polls one `[[workload.counters]]` in the background."""

    #: kind and address, secrets masked
    name: str
    #: when the latest figures were true (monotonic time), and the figures
    latest: tuple[float, Tally] | None
    #: one sentence: what is wrong, why, what to do; empty while all is well
    trouble: str
    #: the trouble, where it costs only some of the figures
    missing: str

    async def run(self) -> None:
        """Poll until cancelled; never raises for what the source does."""
        ...

    async def once(self) -> None:
        """Poll once, within the time that the configuration allows; never raises for what the source does."""
        ...


def amount(value: object, *, least: float = -LARGEST_AMOUNT) -> float:
    """`value` as a figure.

    :raises ValueError: it is no number, or none that can be counted with; the text continues "NAME is …".
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{shown(value)}, not a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value}, not a finite number")
    if abs(value) > LARGEST_AMOUNT:
        raise ValueError(f"beyond ±{LARGEST_AMOUNT:.0e}")
    if value < least:
        raise ValueError(f"{value:g}, and what is counted is never below {least:g}")
    return float(value)


def shown(value: object) -> str:
    """`value` as a sentence shows it: short, in one line, tables and lists by their kind only."""
    match value:
        case None | bool():
            return {None: "null", True: "true", False: "false"}[value]
        case dict():
            return "a table"
        case list():
            return "a list"
        case _:
            text = repr(value)
            return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
