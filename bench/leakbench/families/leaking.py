"""Families that leak, as among the given traces, with other numbers."""

import numpy as np

from bench.leakbench.families.parts import card, leaking, memory, saw, threads_hold_memory
from bench.leakbench.program import Program


@leaking
def slow_linear(p: Program) -> None:
    """So much an hour, whatever it does."""
    p.bystanders()
    memory(p, "time")


@leaking
def per_request_diurnal(p: Program) -> None:
    """So much a call, and the calls come in waves."""
    p.bystanders(3)
    memory(p, "calls." + p.call(load=p.load("daily")))


@leaking
def bursty_idle(p: Program) -> None:
    """So much a call, between long pauses."""
    p.bystanders(2)
    memory(p, "calls." + p.call(load=p.load("bursts")))


@leaking
def confounder_counter(p: Program) -> None:
    """So much a call, beside a counter that moves nearly alike."""
    load = p.load()
    driver = p.call(load=load)
    p.call(load=load * np.exp(p.slow(0.97, 0.6)))
    p.bystanders(2)
    memory(p, "calls." + driver)


@leaking
def fd_leak_flat_rss(p: Program) -> None:
    """Handles only."""
    p.bystanders(3)
    leak = p.leak("fds", "calls." + p.call() if p.rng.random() < 0.8 else "time", p.at(0.05, 0.2), p.between(25, 400))
    p.handles += np.floor(leak.amount)


@leaking
def fragmentation_creep(p: Program) -> None:
    """Ever slower with each call, without an end."""
    p.bystanders(3)
    memory(p, "calls." + p.call(), power=p.rng.uniform(0.5, 0.7), total=p.base * p.between(0.15, 0.6))
    p.note = "ever slower, never still"


@leaking
def gc_rising_troughs(p: Program) -> None:
    """A collector saws, and what stays after it grows."""
    p.bystanders(3)
    leak = memory(p, "time", total=p.base * p.between(0.12, 0.8))
    p.rss += saw(p, leak.amount[-1] * p.between(0.4, 1.5), p.between(14, 60), spread=0.4)


@leaking
def leak_under_cache_fill(p: Program) -> None:
    """A cache fills over it and hides its begin."""
    p.bystanders(3)
    leak = memory(p, "calls." + p.call())
    p.rss += leak.amount[-1] * p.between(0.5, 1.6) * (1 - np.exp(-p.t / (p.t[-1] * p.between(0.08, 0.2))))


@leaking
def post_deploy_leak(p: Program) -> None:
    """Only the second version leaks."""
    p.restarts = [p.at(0.3, 0.55)]
    p.bystanders(3)
    at = p.restarts[0] / p.n
    memory(p, "calls." + p.call() if p.rng.random() < 0.7 else "time", (at + 0.02, at + 0.06))


@leaking
def thread_leak_time(p: Program) -> None:
    """A thread every so often."""
    p.bystanders(2)
    leak = p.leak("threads", "time", p.at(0.06, 0.15), p.between(20, 160))
    threads_hold_memory(p, np.floor(leak.amount), leak)


@leaking
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
    threads_hold_memory(p, leak.amount, leak)


@leaking
def vram_per_batch(p: Program) -> None:
    """So much of the card a batch."""
    card(p)
    leak = p.leak("vram", "calls." + p.call(), p.at(0.06, 0.15), p.between(250, 7000))
    assert p.vram is not None
    p.vram += leak.amount
