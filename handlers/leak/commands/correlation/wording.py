"""How amounts and drivers are said to people: memory in MB of 2**20 bytes, calls by their name, times in seconds."""

import math
from typing import Final

from handlers.leak.wording import a_driver
from schemas.leak import MEMORY, Cause, Interval, Jump, Resource, Verdict

MB: Final = 2.0**20
NAMES: Final = {"rss": "RSS", "vms": "VMS", "threads": "threads", "handles": "handles", "vram": "VRAM"}


def digits(value: float) -> str:
    """Three significant digits, and no more zeros than needed; two of what is tiny."""
    size = abs(value)
    if size < 1e-9:
        return "0"
    if size < 1e-3:
        return f"{value:.2g}"
    decimals = 0 if size >= 99.95 else 1 if size >= 9.995 else 2 if size >= 0.0995 else 4
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def count(value: float) -> str:
    """A whole number in full, others with six digits."""
    return f"{value:,.0f}" if value == round(value) or abs(value) >= 1e6 else f"{value:,g}"


def amount(resource: str, value: float) -> str:
    """A value without its unit: memory in MB."""
    return digits(value / MB if resource in MEMORY else value)


def quantity(resource: str, value: float) -> str:
    """A value with its unit, such as `1,387 MB` or `34 threads`."""
    if resource in MEMORY:
        return f"{amount(resource, value)} MB"
    shown = amount(resource, value)
    return f"{shown} {resource.removesuffix('s') if shown in ('1', '-1') else resource}"


def title(key: str) -> str:
    """A column for people: `RSS`, `add_sections`."""
    return NAMES.get(key) or key.removeprefix("calls.").removeprefix("gauge.")


def name(key: str, longest: int) -> str:
    """Its title; the middle of a long one is left out, for names differ at their ends."""
    text = title(key)
    return text if len(text) <= longest else f"{text[: longest // 2]}…{text[len(text) - (longest - 1) // 2 :]}"


def seconds(value: float) -> str:
    """A moment of the recording, such as `39 s` or `1,250.5 s`."""
    return f"{value:,.{1 if abs(value) < 1000 else 0}f}".removesuffix(".0") + " s"


def estimate(resource: Resource, found: Interval) -> tuple[str, str]:
    """An amount with its unit, and its interval: `1.03 threads` and `(0.98 to 1.09)`; little memory is in kB.

    As exact as the interval allows, with four digits at most.
    """
    size, unit = 1.0, str(resource)
    if resource in MEMORY:
        size, unit = (MB, "MB") if abs(found.value) >= MB / 10 else (2.0**10, "kB")
    value, low, high = found.value / size, found.low / size, found.high / size
    half = (high - low) / 2
    exact = 3 - math.floor(math.log10(abs(value))) if value else 0
    decimals = min(-math.floor(math.log10(half / 3)), exact) if half > 0 else exact
    texts = [f"{one + 0.0:,.{min(max(decimals, 0), 9)}f}" for one in (value, low, high)]
    return f"{texts[0]} {unit.removesuffix('s') if texts[0] == '1' else unit}", f"({texts[1]} to {texts[2]})"


def per_driver(resource: Resource, cause: Cause) -> str:
    """`1.03 threads a call of add_sections (0.98 to 1.09)`; where there is no amount, the driver alone."""
    if cause.per_call is None:
        return title(cause.driver)
    each, between = estimate(resource, cause.per_call)
    return f"{each} {a_driver(cause.driver)} {between}"


def rate(resource: Resource, found: Interval) -> str:
    """`12 MB an hour (10 to 14)`."""
    hourly, between = estimate(resource, Interval(found.value * 3600, found.low * 3600, found.high * 3600))
    return f"{hourly} an hour {between}"


def jump(resource: Resource, found: Jump) -> str:
    """`+34 at the first call of add_sections (40 s)`."""
    sign = "+" if found.amount >= 0 else ""
    where = (
        f"at the first call of {title(found.first_call)} ({seconds(found.at_s)})"
        if found.first_call
        else f"at {seconds(found.at_s)}"
    )
    return f"{sign}{quantity(resource, found.amount)} {where}"


def leaks(verdict: Verdict) -> bool:
    """Whether a verdict says leak."""
    return verdict.stage in ("suspected", "confirmed")
