"""Says the first fault of a kind at once and its repeats as one count a window: a flood is a handful of events."""

from collections.abc import Iterator
from typing import Final

from msgspec.structs import replace

from handlers.faults.settings import Settings
from handlers.faults.state import Card, Window
from schemas.event import GpuError

#: Faults of a card that are told apart; what is beyond is folded together.
MOST_WINDOWS: Final = 32
_SLOWDOWNS: Final = ("hw_thermal_slowdown", "power_brake")


def fold(card: Card, fault: GpuError, now_s: float, settings: Settings, *, urgent: bool = False) -> GpuError | None:
    """The fault as it is to be said now; None where it is folded, unless it is `urgent`."""
    key = name_of(fault)
    if key not in card.windows and len(card.windows) >= MOST_WINDOWS:
        key = fault.kind
    window = card.windows.get(key)
    if window is None:
        window = card.windows[key] = Window(fault=fault, begun_s=now_s)
    window.fault = fault
    window.amount += _amount(fault)
    if (window.said and not urgent) or window.amount < _least(fault, settings):
        return None
    window.said = True
    return _drain(window)


def ended(card: Card, now_s: float, settings: Settings, *, all_of_them: bool = False) -> Iterator[GpuError]:
    """What came in the windows that are over; where anything came, the next one begins."""
    for key, window in list(card.windows.items()):
        lasted_s = now_s - window.begun_s
        if lasted_s < settings.fold_seconds and not all_of_them:
            continue
        del card.windows[key]
        if window.said and window.amount >= _least(window.fault, settings):
            yield replace(_drain(window), folded_s=max(0.0, lasted_s))
            card.windows[key] = Window(fault=window.fault, begun_s=now_s, said=True)


def name_of(fault: GpuError) -> str:
    """What tells one fault of a card from another."""
    return f"xid {fault.xid}" if fault.kind == "xid" else fault.kind


def _drain(window: Window) -> GpuError:
    """The fault with all that came of it since it was said last."""
    amount, window.amount = window.amount, 0.0
    if window.fault.kind in _SLOWDOWNS:
        return replace(window.fault, slowed_s=amount)
    return replace(window.fault, count=int(amount))


def _amount(fault: GpuError) -> float:
    return fault.slowed_s or 0.0 if fault.kind in _SLOWDOWNS else fault.count


def _least(fault: GpuError, settings: Settings) -> float:
    """What must have come before it is worth an event."""
    return max(settings.slowdown_seconds, 1e-9) if fault.kind in _SLOWDOWNS else 1.0
