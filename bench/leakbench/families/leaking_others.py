"""Families that leak, of which the given traces have none."""

import numpy as np

from bench.leakbench.families.parts import card, leaking, memory, saw
from bench.leakbench.program import Program


@leaking
def late_leak(p: Program) -> None:
    """Half of the trace is calm."""
    p.bystanders(3)
    memory(p, "calls." + p.call() if p.rng.random() < 0.6 else "time", (0.45, 0.7))


@leaking
def leak_through_restarts(p: Program) -> None:
    """Restarts give it back, and it begins again."""
    p.bystanders(2)
    cuts = np.sort(p.rng.uniform(0.3, 0.85, p.rng.integers(1, 4)))
    p.restarts = [int(c * p.n) for c in cuts if c * p.n > 0][:3]
    p.restarts = [b for a, b in zip([0, *p.restarts], p.restarts, strict=False) if b - a > 0.15 * p.n]
    memory(p, "calls." + p.call(load=p.load("wavy")), (0.02, 0.08), total=p.growth() * 2)


@leaking
def accelerating(p: Program) -> None:
    """Ever faster, as its calls or as its own size."""
    p.bystanders(3)
    if p.rng.random() < 0.5:
        memory(p, "calls." + p.call(load=p.load("ramp")))
    else:
        memory(p, "calls." + p.call(load=p.load("wavy")), power=p.rng.uniform(1.5, 2.2))


@leaking
def diurnal_with_steps(p: Program) -> None:
    """Waves of calls, and levels that change at releases without a restart."""
    p.bystanders(2)
    leak = memory(p, "calls." + p.call(load=p.load("daily")))
    for _ in range(int(p.rng.integers(1, 4))):
        p.rss[p.at(0.2, 0.85) :] += leak.amount[-1] * p.rng.choice([-0.3, 0.25, 0.5, 0.8])


@leaking
def partial_release(p: Program) -> None:
    """Trims give back a part."""
    p.bystanders(2)
    leak = memory(p, "calls." + p.call(load=p.load("wavy")), total=p.base * p.between(0.15, 0.8))
    p.rss += saw(p, leak.amount[-1] * p.rng.uniform(0.15, 0.6), p.between(5, 16), spread=0.4)
    p.note = "trimmed now and then, never to what it was; per_call is what stays"


@leaking
def error_path_only(p: Program) -> None:
    """Only failures leak, among very many requests."""
    busy = p.load("wavy")
    p.call(total=p.between(4000, 400000), load=busy, name="requests")
    p.call(total=p.between(40, 400), load=p.load("bursts"), name="errors")
    p.bystanders(2)
    resource = str(p.rng.choice(["rss", "fds"], p=[0.6, 0.4]))
    if resource == "rss":
        memory(p, "calls.errors", (0.03, 0.12))
    else:
        leak = p.leak("fds", "calls.errors", p.at(0.03, 0.12), 1.0)
        leak.amount, leak.per_call = leak.driven.copy(), 1.0
        p.handles += leak.amount


@leaking
def hourly_job(p: Program) -> None:
    """A rare job leaves much at once."""
    p.bystanders(3)
    job = p.call()
    times = p.rng.integers(9, 30)
    p.calls[job][:] = 0
    p.calls[job][np.linspace(p.n * 0.05, p.n * 0.99, times).astype(int)] = 1
    memory(p, "calls." + job, (0.01, 0.04), total=max(p.growth(), 40 * p.noise))


@leaking
def sockets_over_pool(p: Program) -> None:
    """Handles a call, below a pool that follows the load."""
    load = p.load(str(p.rng.choice(["daily", "wavy"])))
    p.call(load=load)
    p.bystanders(2)
    pool = np.round(p.between(8, 60) * load / load.mean())
    if p.rng.random() < 0.5:
        p.gauge(pool)
    total = max(30.0, float(pool.std()) * p.between(2.5, 10))
    leak = p.leak("fds", "calls." + p.call(load=p.load("wavy")), p.at(0.05, 0.2), total)
    p.handles += pool + np.floor(leak.amount)


@leaking
def vram_fragmentation(p: Program) -> None:
    """Memory of a card, ever slower."""
    card(p)
    driver = "calls." + p.call()
    leak = p.leak("vram", driver, p.at(0.06, 0.15), p.between(600, 6000), p.rng.uniform(0.55, 0.8))
    assert p.vram is not None
    p.vram += leak.amount


@leaking
def vram_blocks(p: Program) -> None:
    """An allocator that takes the card in blocks."""
    card(p)
    leak = p.leak("vram", "calls." + p.call(), p.at(0.06, 0.15), p.between(400, 5000))
    block = float(p.rng.choice([2.0, 20.0, 20.0, 64.0]))
    assert p.vram is not None
    p.vram = np.round((p.vram - p.vram[0]) / 40) * 40 + p.vram[0] + np.ceil(leak.amount / block) * block


@leaking
def arenas(p: Program) -> None:
    """Memory that is only ever taken in arenas."""
    p.bystanders(3)
    p.quantum = float(p.rng.choice([1.0, 4.0, 4.0, 16.0]))
    memory(p, "calls." + p.call(), total=max(p.growth(), 14 * p.quantum))


@leaking
def faint(p: Program) -> None:
    """Hardly above the noise."""
    p.bystanders(2)
    p.noise = max(p.noise, 1.5, p.base * 0.006)
    p.rss = p.wobble(p.noise)
    memory(p, "calls." + p.call() if p.rng.random() < 0.6 else "time", total=p.noise * p.rng.uniform(5, 9))
    p.note = "hardly above the noise"


@leaking
def two_leaks(p: Program) -> None:
    """Two drivers: of two resources, or a smaller one beside."""
    p.bystanders(2)
    first, second = p.call(load=p.load("wavy")), p.call(load=p.load("stages"))
    leak = memory(p, "calls." + first)
    if p.rng.random() < 0.5:
        more = p.leak("fds", "calls." + second, p.onset, p.between(30, 250))
        p.handles += np.floor(more.amount)
    else:
        more = p.leak("rss", "calls." + second, p.onset, leak.amount[-1] * p.rng.uniform(0.15, 0.35))
        p.leaks.remove(more)
        p.rss += more.amount
        p.note = "a smaller leak of another driver beside it"


@leaking
def time_beside_linear_counters(p: Program) -> None:
    """By the hour, while all counters run as evenly as a clock."""
    for _ in range(int(p.rng.integers(1, 4))):
        p.call(load=p.load("steady"), total=p.between(3000, 300000))
    memory(p, "time")


@leaking
def gauge_and_leak(p: Program) -> None:
    """It holds memory for what is open, and leaks by another driver."""
    level = p.between(10, 200) * np.linspace(0.3, 1, p.n) * np.exp(p.slow(0.95, 0.15))
    p.gauge(level)
    p.bystanders(2)
    leak = memory(p, "calls." + p.call(load=p.load("stages")))
    p.rss += leak.amount[-1] * p.rng.uniform(0.3, 0.8) * level / level.max()


@leaking
def churn_and_leak(p: Program) -> None:
    """Requests hold memory for a while on top."""
    p.bystanders(2)
    leak = memory(p, "calls." + p.call(load=p.load("wavy")))
    p.rss += np.abs(p.slow(0.7, leak.amount[-1] * p.rng.uniform(0.05, 0.15)))
    p.note = "requests hold memory for a while, on top"


@leaking
def new_users_only(p: Program) -> None:
    """Only what is seen for the first time stays."""
    p.call(total=p.between(5000, 200000), load=p.load("daily"), name="requests")
    users = p.call(total=p.between(150, 4000), load=p.load("stages"), name="new_users")
    p.bystanders(1)
    memory(p, "calls." + users)
