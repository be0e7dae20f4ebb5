"""Families of programs that leak."""

from collections.abc import Callable

import numpy as np

from bench.leakbench.program import Leak, Program, Series

Family = Callable[[Program], None]
LEAKING: dict[str, Family] = {}


def family(make: Family) -> Family:
    """Enter it under its name."""
    LEAKING[make.__name__] = make
    return make


def _memory(
    p: Program, driver: str, early: tuple[float, float] = (0.04, 0.15), total: float = 0.0, power: float = 1.0
) -> Leak:
    leak = p.leak("rss", driver, p.at(*early), total or p.growth(), power)
    p.rss += p.kept(leak)
    p.tolerated = ["vms"]
    return leak


@family
def slow_linear(p: Program) -> None:
    """So much an hour, whatever it does."""
    p.bystanders()
    _memory(p, "time")


@family
def per_request_diurnal(p: Program) -> None:
    """So much a call, and the calls come in waves."""
    p.bystanders(3)
    _memory(p, "calls." + p.call(load=p.load("daily")))


@family
def bursty_idle(p: Program) -> None:
    """So much a call, between long pauses."""
    p.bystanders(2)
    _memory(p, "calls." + p.call(load=p.load("bursts")))


@family
def confounder_counter(p: Program) -> None:
    """So much a call, beside a counter that moves nearly alike."""
    load = p.load()
    driver = p.call(load=load)
    p.call(load=load * np.exp(p.slow(0.97, 0.6)))
    p.bystanders(2)
    _memory(p, "calls." + driver)


@family
def fd_leak_flat_rss(p: Program) -> None:
    """Handles only."""
    p.bystanders(3)
    leak = p.leak("fds", "calls." + p.call() if p.rng.random() < 0.8 else "time", p.at(0.05, 0.2), p.between(25, 400))
    p.handles += np.floor(leak.amount)


@family
def fragmentation_creep(p: Program) -> None:
    """Ever slower with each call, without an end."""
    p.bystanders(3)
    _memory(p, "calls." + p.call(), power=p.rng.uniform(0.5, 0.7), total=p.base * p.between(0.15, 0.6))
    p.note = "ever slower, never still"


@family
def gc_rising_troughs(p: Program) -> None:
    """A collector saws, and what stays after it grows."""
    p.bystanders(3)
    leak = _memory(p, "time", total=p.base * p.between(0.12, 0.8))
    p.rss += _saw(p, leak.amount[-1] * p.between(0.4, 1.5))


def _saw(p: Program, height: float, teeth: float = 0.0) -> Series:
    """Fills and falls back to nothing."""
    out, i = np.zeros(p.n), 0
    mean = p.n / (teeth or p.between(14, 60))
    while i < p.n:
        length = max(3, int(mean * p.rng.uniform(0.6, 1.4)))
        tooth = np.arange(length) / length * height * p.rng.uniform(0.75, 1.1)
        out[i : i + length] = tooth[: p.n - i]
        i += length
    return out


@family
def leak_under_cache_fill(p: Program) -> None:
    """A cache fills over it and hides its begin."""
    p.bystanders(3)
    leak = _memory(p, "calls." + p.call())
    p.rss += leak.amount[-1] * p.between(0.5, 1.6) * (1 - np.exp(-p.t / (p.t[-1] * p.between(0.08, 0.2))))


@family
def post_deploy_leak(p: Program) -> None:
    """Only the second version leaks."""
    p.restarts = [p.at(0.3, 0.55)]
    p.bystanders(3)
    at = p.restarts[0] / p.n
    _memory(p, "calls." + p.call() if p.rng.random() < 0.7 else "time", (at + 0.02, at + 0.06))


@family
def thread_leak_time(p: Program) -> None:
    """A thread every so often."""
    p.bystanders(2)
    leak = p.leak("threads", "time", p.at(0.06, 0.15), p.between(20, 160))
    _threads_hold_memory(p, np.floor(leak.amount), leak)


def _threads_hold_memory(p: Program, more: Series, leak: Leak) -> None:
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


@family
def thread_per_call_after_pool(p: Program) -> None:
    """A pool starts with the first call, then each call leaves a thread or two."""
    p.bystanders(3)
    name = p.call(total=p.between(25, 220))
    start = p.at(0.06, 0.35)
    p.calls[name][: start + 1] = 0
    p.calls[name][start] = 1
    first = np.maximum(0, np.arange(p.n) - start)
    p.threads += np.minimum(p.rng.integers(8, 50), first * p.rng.integers(17, 30))
    leak = p.leak("threads", "calls." + name, min(p.n - 10, start + 3), 1.0)
    each = float(p.rng.choice([1.0, 1.0, 2.0]))
    leak.amount, leak.per_call = leak.driven * each, each
    p.rss += p.base * p.between(0.02, 0.3) * (first > 0)
    _threads_hold_memory(p, leak.amount, leak)


@family
def vram_per_batch(p: Program) -> None:
    """So much of the card a batch."""
    _card(p)
    leak = p.leak("vram", "calls." + p.call(), p.at(0.06, 0.15), p.between(250, 7000))
    assert p.vram is not None
    p.vram += leak.amount


def _card(p: Program) -> None:
    """It has a model on the card."""
    p.bystanders(2)
    p.vram = p.between(800, 16000) * np.ones(p.n) + p.wobble(p.between(1, 25))


# What the development split does not have.
@family
def late_leak(p: Program) -> None:
    """Half of the trace is calm."""
    p.bystanders(3)
    _memory(p, "calls." + p.call() if p.rng.random() < 0.6 else "time", (0.45, 0.7))


@family
def leak_through_restarts(p: Program) -> None:
    """Restarts give it back, and it begins again."""
    p.bystanders(2)
    cuts = np.sort(p.rng.uniform(0.3, 0.85, p.rng.integers(1, 4)))
    p.restarts = [int(c * p.n) for c in cuts if c * p.n > 0][:3]
    p.restarts = [b for a, b in zip([0, *p.restarts], p.restarts, strict=False) if b - a > 0.15 * p.n]
    _memory(p, "calls." + p.call(load=p.load("wavy")), (0.02, 0.08), total=p.growth() * 2)


@family
def accelerating(p: Program) -> None:
    """Ever faster, as its calls or as its own size."""
    p.bystanders(3)
    if p.rng.random() < 0.5:
        _memory(p, "calls." + p.call(load=p.load("ramp")))
    else:
        _memory(p, "calls." + p.call(load=p.load("wavy")), power=p.rng.uniform(1.5, 2.2))


@family
def diurnal_with_steps(p: Program) -> None:
    """Waves of calls, and levels that change at releases without a restart."""
    p.bystanders(2)
    leak = _memory(p, "calls." + p.call(load=p.load("daily")))
    for _ in range(int(p.rng.integers(1, 4))):
        p.rss[p.at(0.2, 0.85) :] += leak.amount[-1] * p.rng.choice([-0.3, 0.25, 0.5, 0.8])


@family
def partial_release(p: Program) -> None:
    """Trims give back a part."""
    p.bystanders(2)
    leak = _memory(p, "calls." + p.call(load=p.load("wavy")), total=p.base * p.between(0.15, 0.8))
    p.rss += _saw(p, leak.amount[-1] * p.rng.uniform(0.15, 0.6), p.between(5, 16))
    p.note = "trimmed now and then, never to what it was; per_call is what stays"


@family
def error_path_only(p: Program) -> None:
    """Only failures leak, among very many requests."""
    busy = p.load("wavy")
    p.call(total=p.between(4000, 400000), load=busy, name="requests")
    p.call(total=p.between(40, 400), load=p.load("bursts"), name="errors")
    p.bystanders(2)
    resource = str(p.rng.choice(["rss", "fds"], p=[0.6, 0.4]))
    if resource == "rss":
        _memory(p, "calls.errors", (0.03, 0.12))
    else:
        leak = p.leak("fds", "calls.errors", p.at(0.03, 0.12), 1.0)
        leak.amount, leak.per_call = leak.driven.copy(), 1.0
        p.handles += leak.amount


@family
def hourly_job(p: Program) -> None:
    """A rare job leaves much at once."""
    p.bystanders(3)
    job = p.call()
    times = p.rng.integers(9, 30)
    p.calls[job][:] = 0
    p.calls[job][np.linspace(p.n * 0.05, p.n * 0.99, times).astype(int)] = 1
    _memory(p, "calls." + job, (0.01, 0.04), total=max(p.growth(), 40 * p.noise))


@family
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


@family
def vram_fragmentation(p: Program) -> None:
    """Memory of a card, ever slower."""
    _card(p)
    driver = "calls." + p.call()
    leak = p.leak("vram", driver, p.at(0.06, 0.15), p.between(600, 6000), p.rng.uniform(0.55, 0.8))
    assert p.vram is not None
    p.vram += leak.amount


@family
def vram_blocks(p: Program) -> None:
    """An allocator that takes the card in blocks."""
    _card(p)
    leak = p.leak("vram", "calls." + p.call(), p.at(0.06, 0.15), p.between(400, 5000))
    block = float(p.rng.choice([2.0, 20.0, 20.0, 64.0]))
    assert p.vram is not None
    p.vram = np.round((p.vram - p.vram[0]) / 40) * 40 + p.vram[0] + np.ceil(leak.amount / block) * block


@family
def arenas(p: Program) -> None:
    """Memory that is only ever taken in arenas."""
    p.bystanders(3)
    p.quantum = float(p.rng.choice([1.0, 4.0, 4.0, 16.0]))
    _memory(p, "calls." + p.call(), total=max(p.growth(), 14 * p.quantum))


@family
def faint(p: Program) -> None:
    """Hardly above the noise."""
    p.bystanders(2)
    p.noise = max(p.noise, 1.5, p.base * 0.006)
    p.rss = p.wobble(p.noise)
    _memory(p, "calls." + p.call() if p.rng.random() < 0.6 else "time", total=p.noise * p.rng.uniform(5, 9))
    p.note = "hardly above the noise"


@family
def two_leaks(p: Program) -> None:
    """Two drivers: of two resources, or a smaller one beside."""
    p.bystanders(2)
    first, second = p.call(load=p.load("wavy")), p.call(load=p.load("stages"))
    leak = _memory(p, "calls." + first)
    if p.rng.random() < 0.5:
        more = p.leak("fds", "calls." + second, p.onset, p.between(30, 250))
        p.handles += np.floor(more.amount)
    else:
        more = p.leak("rss", "calls." + second, p.onset, leak.amount[-1] * p.rng.uniform(0.15, 0.35))
        p.leaks.remove(more)
        p.rss += more.amount
        p.note = "a smaller leak of another driver beside it"


@family
def time_beside_linear_counters(p: Program) -> None:
    """By the hour, while all counters run as evenly as a clock."""
    for _ in range(int(p.rng.integers(1, 4))):
        p.call(load=p.load("steady"), total=p.between(3000, 300000))
    _memory(p, "time")


@family
def gauge_and_leak(p: Program) -> None:
    """It holds memory for what is open, and leaks by another driver."""
    level = p.between(10, 200) * np.linspace(0.3, 1, p.n) * np.exp(p.slow(0.95, 0.15))
    p.gauge(level)
    p.bystanders(2)
    leak = _memory(p, "calls." + p.call(load=p.load("stages")))
    p.rss += leak.amount[-1] * p.rng.uniform(0.3, 0.8) * level / level.max()


@family
def churn_and_leak(p: Program) -> None:
    """Requests hold memory for a while on top."""
    p.bystanders(2)
    leak = _memory(p, "calls." + p.call(load=p.load("wavy")))
    p.rss += np.abs(p.slow(0.7, leak.amount[-1] * p.rng.uniform(0.05, 0.15)))
    p.note = "requests hold memory for a while, on top"


@family
def new_users_only(p: Program) -> None:
    """Only what is seen for the first time stays."""
    p.call(total=p.between(5000, 200000), load=p.load("daily"), name="requests")
    users = p.call(total=p.between(150, 4000), load=p.load("stages"), name="new_users")
    p.bystanders(1)
    _memory(p, "calls." + users)
