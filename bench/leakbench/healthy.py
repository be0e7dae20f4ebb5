"""Families of programs that do not leak, however much they grow."""

from collections.abc import Callable

import numpy as np

from bench.leakbench.program import Program, Series

Family = Callable[[Program], None]
HEALTHY: dict[str, Family] = {}


def family(make: Family) -> Family:
    """Enter it under its name."""
    HEALTHY[make.__name__] = make
    return make


def _size(p: Program) -> float:
    """How much memory it is about, MB."""
    return max(p.base * p.between(0.1, 1.5), 12 * p.noise, 10.0)


def _saw(p: Program, height: float, low: float = 0.75) -> Series:
    """Fills and falls back to nothing; peaks between `low` and 1.1 of the height."""
    out, i = np.zeros(p.n), 0
    mean = p.n / p.between(5, 50)
    while i < p.n:
        length = max(3, int(mean * p.rng.uniform(0.5, 1.5)))
        out[i : i + length] = (np.arange(length) / length * height * p.rng.uniform(low, 1.1))[: p.n - i]
        i += length
    return out


def _steps(p: Program, most: int, low: float = 0.1, high: float = 0.9) -> Series:
    """A level that goes up at a few moments, to 1."""
    up = np.zeros(p.n)
    for _ in range(int(p.rng.integers(2, most + 1))):
        up[p.at(low, high)] += p.rng.uniform(0.3, 1)
    level = np.cumsum(up)
    share: Series = level / max(level[-1], 1e-9)
    return share


@family
def ar_bounded_noise(p: Program) -> None:
    """A level that wanders and comes back."""
    p.bystanders()
    p.rss += p.slow(float(p.rng.uniform(0.9, 0.985)), p.base * p.between(0.005, 0.06))


@family
def cache_fill_cap(p: Program) -> None:
    """A cache fills ever slower, to its limit."""
    p.bystanders()
    p.rss += _size(p) * (1 - np.exp(-p.t / (p.t[-1] * p.between(0.03, 0.14))))


@family
def deploy_step(p: Program) -> None:
    """Another version needs another amount."""
    p.restarts = [p.at(0.25, 0.75)]
    p.bystanders()
    p.rss[p.restarts[0] :] += _size(p) * p.rng.choice([-0.1, 0.3, 0.6])


@family
def diurnal_memory(p: Program) -> None:
    """Memory and handles as the load."""
    load = p.load("daily")
    p.call(load=load)
    p.bystanders(3)
    p.rss += _size(p) * load / load.max()
    p.handles += np.round(p.between(5, 50) * load)


@family
def fd_pool_load(p: Program) -> None:
    """A pool of connections as the load."""
    load = p.load(str(p.rng.choice(["wavy", "daily", "stages"])))
    p.call(load=load)
    p.bystanders(2)
    pool = np.round(p.between(6, 80) * load / load.mean())
    p.handles += pool
    if p.rng.random() < 0.5:
        p.gauge(pool)


@family
def gc_flat_troughs(p: Program) -> None:
    """A collector saws over a level."""
    p.bystanders()
    p.rss += _saw(p, _size(p))


@family
def live_ramp_gauge(p: Program) -> None:
    """It holds memory for what is open, and ever more is."""
    level = p.between(20, 300) * np.linspace(p.rng.uniform(0.02, 0.3), 1, p.n) * np.exp(p.slow(0.9, 0.05))
    p.gauge(level)
    p.bystanders(2)
    p.rss += _size(p) * level / level.max()
    if p.rng.random() < 0.4:
        p.handles += np.round(level)


@family
def lru_churn(p: Program) -> None:
    """A cache fills by inserts until it evicts."""
    p.bystanders(3)
    inserts = p.summed(p.calls[p.call()])
    p.rss += _size(p) * np.minimum(1, inserts / max(inserts[-1] * p.rng.uniform(0.1, 0.4), 1))


@family
def model_load_step(p: Program) -> None:
    """Something large is loaded once."""
    p.bystanders(3)
    at = p.at(0.1, 0.7)
    p.rss[at:] += p.between(500, 8000)
    p.threads[at:] += p.rng.integers(2, 16)


@family
def pagecache_reclaim(p: Program) -> None:
    """Grows until the kernel takes it back."""
    p.bystanders(3)
    p.rss += _saw(p, _size(p), 0.5)


@family
def random_walk(p: Program) -> None:
    """A unit root without drift."""
    p.bystanders(3)
    walk = np.cumsum(p.rng.normal(0, 1, p.n))
    p.rss += p.base * p.between(0.01, 0.05) * (walk - walk.mean()) / max(walk.std(), 1e-9)
    p.note = "unit root, no drift"


@family
def thread_burst(p: Program) -> None:
    """Threads come in crowds and go."""
    p.bystanders(3)
    burst = p.call(total=1)
    p.calls[burst][:] = 0
    for at in p.rng.integers(0, p.n - 8, p.rng.integers(4, 14)):
        p.calls[burst][at] += 1
        tail = np.arange(p.n - at)
        p.threads[at:] += np.round(p.rng.integers(10, 80) * np.exp(-tail / (p.n * 0.012 + 1)))


@family
def thread_pool_cap(p: Program) -> None:
    """A pool grows to its limit."""
    p.bystanders(3)
    more = np.floor(
        np.minimum(1, np.maximum(0, p.t / p.t[-1] - 0.04) / p.rng.uniform(0.05, 0.35)) * p.rng.integers(8, 64)
    )
    p.threads += more
    p.rss += more * p.between(0.05, 3)


@family
def vram_pool_highwater(p: Program) -> None:
    """The largest batch so far is kept on the card."""
    p.bystanders(3)
    p.vram = p.between(1000, 12000) + np.maximum.accumulate(p.rng.gumbel(0, 1, p.n)) * p.between(40, 900)


@family
def warmup_flat(p: Program) -> None:
    """A long warm-up, then nothing."""
    p.warm = False
    p.warm_up_share = p.between(0.5, 3)
    p.bystanders(3)
    if p.rng.random() < 0.3:
        p.restarts = [p.at(0.3, 0.7)]


# What the development split does not have.
@family
def log_growth(p: Program) -> None:
    """The more was seen, the less is new; then nothing."""
    p.bystanders(3)
    seen = p.t / p.t[-1] * p.between(30, 400)
    p.rss += _size(p) * np.minimum(np.log1p(seen) / np.log1p(seen[-1] * 0.5), 1)


@family
def linear_fill_to_cap(p: Program) -> None:
    """A cache fills evenly for a third of the trace or so."""
    p.bystanders(2)
    name = p.call(load=p.load("wavy"))
    inserts = p.summed(p.calls[name])
    p.rss += _size(p) * np.minimum(1, inserts / max(inserts[-1] * p.rng.uniform(0.2, 0.5), 1))


@family
def compile_stages(p: Program) -> None:
    """A compiler warms up in stages."""
    p.bystanders(3)
    level = np.zeros(p.n)
    for k, at in enumerate(np.sort(p.rng.uniform(0.01, 0.5, p.rng.integers(3, 7)))):
        level += (1 - np.exp(-np.maximum(0, p.t - at * p.t[-1]) / (p.t[-1] * 0.015))) / (k + 1)
    p.rss += _size(p) * level / level[-1]


@family
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


@family
def arena_plateau(p: Program) -> None:
    """Arenas are kept, up to what the busiest moment needs."""
    p.bystanders(3)
    p.quantum = float(p.rng.choice([1.0, 4.0]))
    demand = _size(p) * np.abs(p.slow(0.8, 1.0))
    p.rss += np.maximum.accumulate(np.minimum(demand, np.quantile(demand, 0.97)))


@family
def several_steps(p: Program) -> None:
    """Up, and up again, each time for good."""
    p.bystanders(3)
    p.rss += _size(p) * _steps(p, 5)


@family
def follows_gauge(p: Program) -> None:
    """Memory a little behind a gauge."""
    level = p.between(10, 200) * p.load(str(p.rng.choice(["wavy", "daily", "stages", "ramp"])))
    p.gauge(level)
    p.bystanders(3)
    p.rss += _size(p) * np.convolve(level, np.ones(5) / 5, "same") / level.max()


@family
def batch_then_freed(p: Program) -> None:
    """A job collects for long, and frees all."""
    p.bystanders(3)
    batch = _size(p) * 1.5
    for _ in range(int(p.rng.integers(1, 3))):
        start, length = p.at(0.05, 0.6), p.at(0.12, 0.34)
        part = p.rss[start : start + length]
        part += np.linspace(0, batch, length)[: len(part)]


@family
def rising_day(p: Program) -> None:
    """Only the rising half of a day is seen."""
    phase = p.rng.uniform(-0.5, -0.35)
    load = 1 + 0.8 * np.sin(np.pi * np.linspace(phase, phase + p.rng.uniform(0.7, 1), p.n))
    p.call(load=load, total=p.between(3000, 300000))
    if p.rng.random() < 0.6:
        p.gauge(p.between(20, 200) * load)
    p.bystanders(2)
    p.rss += _size(p) * 0.6 * load


@family
def many_restarts(p: Program) -> None:
    """Each start warms up anew."""
    p.warm = False
    p.warm_up_share = p.between(0.2, 2)
    p.restarts = sorted({p.at(0.08, 0.95) for _ in range(int(p.rng.integers(3, 8)))})
    p.bystanders(3)
    if not p.calls:
        p.call()


@family
def near_unit_root(p: Program) -> None:
    """Noise that takes very long to come back."""
    p.bystanders(3)
    p.rss += p.slow(float(p.rng.uniform(0.99, 0.998)), p.base * p.between(0.01, 0.06))


@family
def rising_peaks_flat_troughs(p: Program) -> None:
    """The saw of a collector grows, what stays after it does not."""
    p.bystanders(3)
    p.rss += _saw(p, _size(p)) * np.linspace(0.4, 1.6, p.n)


@family
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


@family
def handles_in_waves(p: Program) -> None:
    """Files are kept for a while, and closed together."""
    p.bystanders(3)
    p.handles += np.floor(_saw(p, p.between(15, 150), 0.4))


@family
def vram_longer_sequences(p: Program) -> None:
    """Ever longer inputs until the longest has come."""
    p.bystanders(2)
    p.call(load=p.load("wavy"))
    longest = np.minimum(1, np.linspace(0.2, 1 / p.rng.uniform(0.35, 0.6), p.n) + p.slow(0.5, 0.06))
    block = float(p.rng.choice([2.0, 20.0, 128.0]))
    p.vram = p.between(1500, 15000) + np.ceil(np.maximum.accumulate(longest) * p.between(300, 5000) / block) * block


@family
def shrinking(p: Program) -> None:
    """Only ever less."""
    p.bystanders(3)
    p.rss += _size(p) * np.exp(-p.t / (p.t[-1] * p.between(0.1, 0.8)))


@family
def peak_then_held(p: Program) -> None:
    """What the busiest moment took is kept."""
    load = p.load("bursts")
    p.call(load=load)
    p.bystanders(2)
    held = np.maximum.accumulate(load * np.exp(p.slow(0.8, 0.1)))
    p.rss += _size(p) * held / held[-1]


@family
def quiet(p: Program) -> None:
    """Nothing happens."""
    p.bystanders()
    if p.rng.random() < 0.4:
        p.vram = np.round(p.between(500, 20000) + p.wobble(p.between(0.5, 20)))
