"""Families that do not leak, however much they grow, of which the given traces have none."""

import numpy as np

from bench.leakbench.families.parts import healthy, saw, size, steps
from bench.leakbench.program import Program


@healthy
def log_growth(p: Program) -> None:
    """The more was seen, the less is new; then nothing."""
    p.bystanders(3)
    seen = p.t / p.t[-1] * p.between(30, 400)
    p.rss += size(p) * np.minimum(np.log1p(seen) / np.log1p(seen[-1] * 0.5), 1)


@healthy
def linear_fill_to_cap(p: Program) -> None:
    """A cache fills evenly for a third of the trace or so."""
    p.bystanders(2)
    name = p.call(load=p.load("wavy"))
    inserts = p.summed(p.calls[name])
    p.rss += size(p) * np.minimum(1, inserts / max(inserts[-1] * p.rng.uniform(0.2, 0.5), 1))


@healthy
def compile_stages(p: Program) -> None:
    """A compiler warms up in stages."""
    p.bystanders(3)
    level = np.zeros(p.n)
    for k, at in enumerate(np.sort(p.rng.uniform(0.01, 0.5, p.rng.integers(3, 7)))):
        level += (1 - np.exp(-np.maximum(0, p.t - at * p.t[-1]) / (p.t[-1] * 0.015))) / (k + 1)
    p.rss += size(p) * level / level[-1]


@healthy
def pool_follows_load(p: Program) -> None:
    """Threads, handles and memory of a pool that a gauge shows."""
    load = p.load("ramp") if p.rng.random() < 0.4 else p.load("stages")
    p.call(load=load)
    p.bystanders(2)
    held = np.convolve(load, np.ones(9) / 9, "same")
    pool = np.round(p.between(10, 70) * held / held.mean())
    p.handles += pool
    p.threads += np.round(pool * p.rng.choice([0.0, 0.5]))
    p.rss += pool * p.between(0.02, 0.3)
    p.gauge(pool)


@healthy
def arena_plateau(p: Program) -> None:
    """Arenas are kept, up to what the busiest moment needs."""
    p.bystanders(3)
    p.quantum = float(p.rng.choice([1.0, 4.0]))
    demand = size(p) * np.abs(p.slow(0.8, 1.0))
    p.rss += np.maximum.accumulate(np.minimum(demand, np.quantile(demand, 0.97)))


@healthy
def several_steps(p: Program) -> None:
    """Up, and up again, each time for good."""
    p.bystanders(3)
    p.rss += size(p) * steps(p, 5)


@healthy
def follows_gauge(p: Program) -> None:
    """Memory a little behind a gauge."""
    level = p.between(10, 200) * p.load(str(p.rng.choice(["wavy", "daily", "stages", "ramp"])))
    p.gauge(level)
    p.bystanders(3)
    p.rss += size(p) * np.convolve(level, np.ones(5) / 5, "same") / level.max()


@healthy
def batch_then_freed(p: Program) -> None:
    """A job collects for long, and frees all."""
    p.bystanders(3)
    batch = size(p) * 1.5
    for _ in range(int(p.rng.integers(1, 3))):
        start, length = p.at(0.05, 0.6), p.at(0.12, 0.34)
        part = p.rss[start : start + length]
        part += np.linspace(0, batch, length)[: len(part)]


@healthy
def rising_day(p: Program) -> None:
    """Only the rising half of a day is seen."""
    phase = p.rng.uniform(-0.5, -0.35)
    load = 1 + 0.8 * np.sin(np.pi * np.linspace(phase, phase + p.rng.uniform(0.7, 1), p.n))
    p.call(load=load, total=p.between(3000, 300000))
    if p.rng.random() < 0.6:
        p.gauge(p.between(20, 200) * load)
    p.bystanders(2)
    p.rss += size(p) * 0.6 * load


@healthy
def many_restarts(p: Program) -> None:
    """Each start warms up anew."""
    p.warm = False
    p.warm_up_share = p.between(0.2, 2)
    p.restarts = sorted({p.at(0.08, 0.95) for _ in range(int(p.rng.integers(3, 8)))})
    p.bystanders(3)
    if not p.calls:
        p.call()


@healthy
def near_unit_root(p: Program) -> None:
    """Noise that takes very long to come back."""
    p.bystanders(3)
    p.rss += p.slow(float(p.rng.uniform(0.99, 0.998)), p.base * p.between(0.01, 0.06))


@healthy
def rising_peaks_flat_troughs(p: Program) -> None:
    """The saw of a collector grows, what stays after it does not."""
    p.bystanders(3)
    p.rss += saw(p, size(p), p.between(5, 50)) * np.linspace(0.4, 1.6, p.n)


@healthy
def threads_idle_out(p: Program) -> None:
    """Threads come with the load and leave when idle."""
    load = p.load(str(p.rng.choice(["stages", "bursts", "daily"])))
    p.call(load=load)
    p.bystanders(2)
    want, level = load / load.max() * p.between(10, 90), 0.0
    held = np.empty(p.n)
    for i, w in enumerate(want):
        level = max(w, level - max(level, 1) * 0.02)
        held[i] = round(level)
    p.threads += held
    p.rss += held * p.between(0.02, 1.0)


@healthy
def handles_in_waves(p: Program) -> None:
    """Files are kept for a while, and closed together."""
    p.bystanders(3)
    p.handles += np.floor(saw(p, p.between(15, 150), p.between(5, 50), low=0.4))


@healthy
def vram_longer_sequences(p: Program) -> None:
    """Ever longer inputs until the longest has come."""
    p.bystanders(2)
    p.call(load=p.load("wavy"))
    longest = np.minimum(1, np.linspace(0.2, 1 / p.rng.uniform(0.35, 0.6), p.n) + p.slow(0.5, 0.06))
    block = float(p.rng.choice([2.0, 20.0, 128.0]))
    p.vram = p.between(1500, 15000) + np.ceil(np.maximum.accumulate(longest) * p.between(300, 5000) / block) * block


@healthy
def shrinking(p: Program) -> None:
    """Only ever less."""
    p.bystanders(3)
    p.rss += size(p) * np.exp(-p.t / (p.t[-1] * p.between(0.1, 0.8)))


@healthy
def peak_then_held(p: Program) -> None:
    """What the busiest moment took is kept."""
    load = p.load("bursts")
    p.call(load=load)
    p.bystanders(2)
    held = np.maximum.accumulate(load * np.exp(p.slow(0.8, 0.1)))
    p.rss += size(p) * held / held[-1]


@healthy
def quiet(p: Program) -> None:
    """Nothing happens."""
    p.bystanders()
    if p.rng.random() < 0.4:
        p.vram = np.round(p.between(500, 20000) + p.wobble(p.between(0.5, 20)))
