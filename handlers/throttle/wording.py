"""What the ladder says to people: why a target is where it is, in figures."""

import re
from typing import Final

from handlers.throttle.settings import Settings
from schemas.workload import Action

_TIME_OF_DAY: Final = re.compile(r"T(\d\d:\d\d:\d\d)(?:\.\d+)?(Z?)")


def number(value: float) -> str:
    """Four digits at most, no trailing zeros."""
    return f"{value:.4g}"


def speed_words(action: Action, speed: float) -> str:
    """The end of a sentence: what the workloads are told."""
    return {"pause": "paused", "run": "full speed", "throttle": f"speed {number(speed)}"}[action]


def at_rung(
    rung: int, temperature: float | None, memory: float | None, hot: int, full: int, by_margin: bool, settings: Settings
) -> str:
    """Why a target is on `rung` (0 OPTIMAL … 3 CRITICAL); `hot` and `full` are the rungs of its figures, -1 unknown."""
    if rung == 0:
        within = [
            (celsius(temperature, by_margin), f"{number(settings.temp_optimal)} °C"),
            (percent(memory), f"{number(settings.memory_optimal)} %"),
        ]
        held = [(figure, limit) for figure, limit in within if figure]
        verb = "is" if len(held) == 1 else "are"
        return f"{' and '.join(f for f, _ in held)} {verb} below {' and '.join(limit for _, limit in held)}"
    is_past = "is above" if rung == 3 else "is at or above"
    reached: list[str] = []
    if hot == rung:
        limit = (settings.temp_optimal, settings.temp_normal, settings.temp_throttle)[rung - 1]
        reached.append(f"{celsius(temperature, by_margin)} {is_past} {number(limit)} °C")
    if full == rung:
        limit = (settings.memory_optimal, settings.memory_normal, settings.memory_critical)[rung - 1]
        reached.append(f"{percent(memory)} {is_past} {number(limit)} %")
    return " and ".join(reached)


def way_up(seconds: float, hottest: float | None, fullest: float | None, *, calm: bool) -> str:
    """What a step up waits for: `calm` says that the figures are low already; a limit is None where none is read."""
    if calm:
        return f"up in {seconds:.0f} s if it stays as low as now"
    limits = [
        *([f"{number(hottest)} °C"] if hottest is not None else []),
        *([f"{number(fullest)} % of memory"] if fullest is not None else []),
    ]
    return f"up after {seconds:.0f} s at {' and '.join(limits)} or below" if limits else ""


def clock(rfc3339: str) -> str:
    """The time of day in a sample's time; empty where it is none."""
    found = _TIME_OF_DAY.search(rfc3339)
    return "" if found is None else f"{found[1]}{' UTC' if found[2] == 'Z' else ''}"


def figures(temperature: float | None, memory: float | None, by_margin: bool) -> str:
    """Both figures, or the one that is known."""
    return " and ".join(words for words in (celsius(temperature, by_margin), percent(memory)) if words)


def celsius(temperature: float | None, by_margin: bool) -> str:
    """A temperature; where the card's margin made it, that is said, because its own reading is lower."""
    if temperature is None:
        return ""
    return f"{number(temperature)} °C" + (" (by its margin to slowdown)" if by_margin else "")


def percent(memory: float | None) -> str:
    """A share of the memory."""
    return "" if memory is None else f"{number(memory)} % of memory"
