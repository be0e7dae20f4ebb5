"""What families are made of, and the tables that they enter themselves in."""

from collections.abc import Callable

import numpy as np

from bench.leakbench.program import Leak, Program, Series

Family = Callable[[Program], None]
LEAKING: dict[str, Family] = {}
HEALTHY: dict[str, Family] = {}


def leaking(make: Family) -> Family:
    """Enter a family that leaks, under its name."""
    LEAKING[make.__name__] = make
    return make


def healthy(make: Family) -> Family:
    """Enter a family that does not, under its name."""
    HEALTHY[make.__name__] = make
    return make


def memory(
    p: Program, driver: str, early: tuple[float, float] = (0.04, 0.15), total: float = 0.0, power: float = 1.0
) -> Leak:
    """So much of its memory from early on, 4 % of the base at least."""
    leak = p.leak("rss", driver, p.at(*early), total or p.growth(), power)
    p.rss += p.kept(leak)
    p.tolerated = ["vms"]
    return leak


def threads_hold_memory(p: Program, more: Series, leak: Leak) -> None:
    """A thread too many holds memory in most programs, and hardly any in some."""
    p.threads += more
    p.tolerated = ["vms", "rss"]
    if p.rng.random() < 0.7:
        each = max(p.noise * 12, p.base * 0.1) * p.between(1, 8) / more[-1]
        p.rss += more * each
        if leak.driver == "time":
            p.leaks.insert(0, Leak("rss", "threads", more * each, more, each))
        else:
            p.leaks.append(Leak("rss", leak.driver, more * each, leak.driven, more[-1] * each / leak.driven[-1]))
        p.tolerated = ["vms"]


def card(p: Program) -> None:
    """It has a model on the card."""
    p.bystanders(2)
    p.vram = p.between(800, 16000) * np.ones(p.n) + p.wobble(p.between(1, 25))


def size(p: Program) -> float:
    """How much memory it is about, MB."""
    return max(p.base * p.between(0.1, 1.5), 12 * p.noise, 10.0)


def saw(p: Program, height: float, teeth: float, low: float = 0.75, spread: float = 0.5) -> Series:
    """Fills and falls back to nothing, about `teeth` times; peaks between `low` and 1.1 of the height."""
    out, i = np.zeros(p.n), 0
    mean = p.n / teeth
    while i < p.n:
        length = max(3, int(mean * p.rng.uniform(1 - spread, 1 + spread)))
        out[i : i + length] = (np.arange(length) / length * height * p.rng.uniform(low, 1.1))[: p.n - i]
        i += length
    return out


def steps(p: Program, most: int, low: float = 0.1, high: float = 0.9) -> Series:
    """A level that goes up at a few moments, to 1."""
    up = np.zeros(p.n)
    for _ in range(int(p.rng.integers(2, most + 1))):
        up[p.at(low, high)] += p.rng.uniform(0.3, 1)
    level = np.cumsum(up)
    share: Series = level / max(level[-1], 1e-9)
    return share
