"""Families that do not leak, as among the given traces, with other numbers."""

import numpy as np

from bench.leakbench.families.parts import healthy, saw, size
from bench.leakbench.program import Program


@healthy
def ar_bounded_noise(p: Program) -> None:
    """A level that wanders and comes back."""
    p.bystanders()
    p.rss += p.slow(float(p.rng.uniform(0.9, 0.985)), p.base * p.between(0.005, 0.06))


@healthy
def cache_fill_cap(p: Program) -> None:
    """A cache fills ever slower, to its limit."""
    p.bystanders()
    p.rss += size(p) * (1 - np.exp(-p.t / (p.t[-1] * p.between(0.03, 0.14))))


@healthy
def deploy_step(p: Program) -> None:
    """Another version needs another amount."""
    p.restarts = [p.at(0.25, 0.75)]
    p.bystanders()
    p.rss[p.restarts[0] :] += size(p) * p.rng.choice([-0.1, 0.3, 0.6])


@healthy
def diurnal_memory(p: Program) -> None:
    """Memory and handles as the load."""
    load = p.load("daily")
    p.call(load=load)
    p.bystanders(3)
    p.rss += size(p) * load / load.max()
    p.handles += np.round(p.between(5, 50) * load)


@healthy
def fd_pool_load(p: Program) -> None:
    """A pool of connections as the load."""
    load = p.load(str(p.rng.choice(["wavy", "daily", "stages"])))
    p.call(load=load)
    p.bystanders(2)
    pool = np.round(p.between(6, 80) * load / load.mean())
    p.handles += pool
    if p.rng.random() < 0.5:
        p.gauge(pool)


@healthy
def gc_flat_troughs(p: Program) -> None:
    """A collector saws over a level."""
    p.bystanders()
    p.rss += saw(p, size(p), p.between(5, 50))


@healthy
def live_ramp_gauge(p: Program) -> None:
    """It holds memory for what is open, and ever more is."""
    level = p.between(20, 300) * np.linspace(p.rng.uniform(0.02, 0.3), 1, p.n) * np.exp(p.slow(0.9, 0.05))
    p.gauge(level)
    p.bystanders(2)
    p.rss += size(p) * level / level.max()
    if p.rng.random() < 0.4:
        p.handles += np.round(level)


@healthy
def lru_churn(p: Program) -> None:
    """A cache fills by inserts until it evicts."""
    p.bystanders(3)
    inserts = p.summed(p.calls[p.call()])
    p.rss += size(p) * np.minimum(1, inserts / max(inserts[-1] * p.rng.uniform(0.1, 0.4), 1))


@healthy
def model_load_step(p: Program) -> None:
    """Something large is loaded once."""
    p.bystanders(3)
    at = p.at(0.1, 0.7)
    p.rss[at:] += p.between(500, 8000)
    p.threads[at:] += p.rng.integers(2, 16)


@healthy
def pagecache_reclaim(p: Program) -> None:
    """Grows until the kernel takes it back."""
    p.bystanders(3)
    p.rss += saw(p, size(p), p.between(5, 50), low=0.5)


@healthy
def random_walk(p: Program) -> None:
    """A unit root without drift."""
    p.bystanders(3)
    walk = np.cumsum(p.rng.normal(0, 1, p.n))
    p.rss += p.base * p.between(0.01, 0.05) * (walk - walk.mean()) / max(walk.std(), 1e-9)
    p.note = "unit root, no drift"


@healthy
def thread_burst(p: Program) -> None:
    """Threads come in crowds and go."""
    p.bystanders(3)
    burst = p.call(total=1)
    p.calls[burst][:] = 0
    for at in p.rng.integers(0, p.n - 8, p.rng.integers(4, 14)):
        p.calls[burst][at] += 1
        tail = np.arange(p.n - at)
        p.threads[at:] += np.round(p.rng.integers(10, 80) * np.exp(-tail / (p.n * 0.012 + 1)))


@healthy
def thread_pool_cap(p: Program) -> None:
    """A pool grows to its limit."""
    p.bystanders(3)
    more = np.floor(
        np.minimum(1, np.maximum(0, p.t / p.t[-1] - 0.04) / p.rng.uniform(0.05, 0.35)) * p.rng.integers(8, 64)
    )
    p.threads += more
    p.rss += more * p.between(0.05, 3)


@healthy
def vram_pool_highwater(p: Program) -> None:
    """The largest batch so far is kept on the card."""
    p.bystanders(3)
    p.vram = p.between(1000, 12000) + np.maximum.accumulate(p.rng.gumbel(0, 1, p.n)) * p.between(40, 900)


@healthy
def warmup_flat(p: Program) -> None:
    """A long warm-up, then nothing."""
    p.warm = False
    p.warm_up_share = p.between(0.5, 3)
    p.bystanders(3)
    if p.rng.random() < 0.3:
        p.restarts = [p.at(0.3, 0.7)]
