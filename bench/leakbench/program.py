"""One invented program, sampled from outside: its load, counters and levels, and the leaks that are put into it."""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Series = NDArray[np.float64]

NAMES = (
    "add_item", "answer", "archive", "checkout", "commit", "compile", "complete", "convert", "decode", "delete_row",
    "embed", "encode", "enqueue", "fetch_page", "generate", "handle_event", "import_file", "index_doc", "ingest",
    "invoice", "lookup", "match_rule", "merge", "notify_user", "poll", "predict", "preview", "push_frame",
    "read_sensor", "resolve", "resize", "route_packet", "save_draft", "scan", "score_doc", "send_mail", "sign",
    "stat_file", "subscribe", "thumbnail", "tick", "transcode", "translate", "update_cart", "validate", "verify",
    "write_log",
)  # fmt: skip
GAUGES = ("active_jobs", "connections", "live_sessions", "open_tabs", "players", "queue_depth", "watchers")
#: seconds between two samples, and how often each is drawn
INTERVALS = ((1.0, 0.2), (2.0, 0.15), (3.0, 0.1), (5.0, 0.15), (10.0, 0.15), (30.0, 0.25))
SAME_SHAPE = 0.025


@dataclass
class Leak:
    """What one resource lost for good: `amount` is how much since the onset, restarts not taken off."""

    resource: str
    driver: str
    amount: Series
    #: the driver's own growth since the onset
    driven: Series
    per_call: float | None


@dataclass
class Program:
    """Levels on a grid of `n` sampling moments; memory in MB. A family adds to it what it is about."""

    rng: np.random.Generator
    step: float = 0.0
    n: int = 0
    calls: dict[str, Series] = field(default_factory=dict)
    gauges: dict[str, Series] = field(default_factory=dict)
    restarts: list[int] = field(default_factory=list)
    leaks: list[Leak] = field(default_factory=list)
    tolerated: list[str] = field(default_factory=list)
    onset: int = 0
    note: str = ""

    def __post_init__(self) -> None:
        """Draw the clock, the base levels and the noise."""
        rng = self.rng
        if not self.step:
            self.step = float(rng.choice([i for i, _ in INTERVALS], p=[w for _, w in INTERVALS]))
        if not self.n:
            self.n = int(rng.uniform(90, 420) if self.step == 1.0 else rng.uniform(350, 1900))
        self.t = np.arange(self.n) * self.step
        self.base = self.between(40, 900)
        self.noise = self.base * self.between(0.0004, 0.012)
        self.rss = self.wobble(self.noise)
        self.threads = np.full(self.n, float(rng.integers(2, 40)))
        self.handles = rng.integers(8, 120) + np.clip(np.round(self.wobble(self.between(0.2, 2.0))), -6, None)
        self.vram: Series | None = None
        if rng.random() < 0.5:
            self.threads += (rng.random(self.n) < 0.03) * rng.integers(1, 3)
        self.quantum = 0.0
        self.warm = rng.random() < 0.6
        self.warm_up_share = self.between(0.05, 0.8)
        self.warm_up_time = self.t[-1] * self.between(0.004, 0.02)

    def between(self, low: float, high: float) -> float:
        """Log-uniform."""
        return math.exp(self.rng.uniform(math.log(low), math.log(high)))

    def at(self, low: float, high: float) -> int:
        """An index at a share of the trace."""
        return int(self.rng.uniform(low, high) * self.n)

    def wobble(self, sd: float) -> Series:
        """Noise that stays around nothing: white, slow, or with spikes."""
        rng, kind = self.rng, self.rng.choice(["white", "slow", "spiky"], p=[0.4, 0.45, 0.15])
        noise = rng.normal(0, sd, self.n)
        if kind == "slow":
            noise = self.slow(float(rng.uniform(0.5, 0.96)), sd)
        elif kind == "spiky":
            noise = rng.normal(0, sd * 0.4, self.n)
            for start in rng.integers(0, self.n, rng.integers(2, 9)):
                noise[start : start + rng.integers(2, 14)] += abs(rng.normal(0, 5 * sd))
        return noise

    def slow(self, memory: float, sd: float) -> Series:
        """AR(1) with this standard deviation in the long run."""
        shocks = self.rng.normal(0, sd * math.sqrt(max(1e-9, 1 - memory**2)), self.n)
        out, level = np.empty(self.n), self.rng.normal(0, sd)
        for i, shock in enumerate(shocks):
            level = out[i] = memory * level + shock
        return out

    def load(self, kind: str = "") -> Series:
        """How busy it is: positive, around 1."""
        rng, n = self.rng, self.n
        kind = kind or str(
            rng.choice(["steady", "wavy", "daily", "bursts", "ramp", "stages"], p=[0.2, 0.3, 0.15, 0.15, 0.1, 0.1])
        )
        if kind == "steady":
            return np.ones(n)
        if kind == "daily":
            wave = np.sin(2 * np.pi * (np.arange(n) / n * rng.uniform(0.8, 4) + rng.random()))
            return np.clip(1 + rng.uniform(0.4, 0.95) * wave, 0.03, None) * np.exp(self.slow(0.9, 0.1))
        if kind == "bursts":
            on, out = bool(rng.random() < 0.5), np.empty(n)
            i = 0
            while i < n:
                length = int(rng.uniform(0.01, 0.07 if on else 0.1) * n) + 2
                out[i : i + length] = 2.2 if on else rng.choice([0.0, 0.05])
                i, on = i + length, not on
            return out
        if kind == "ramp":
            return np.linspace(rng.uniform(0.2, 0.5), rng.uniform(1.3, 1.9), n) * np.exp(self.slow(0.9, 0.15))
        if kind == "stages":
            cuts = np.sort(rng.integers(0, n, rng.integers(2, 6)))
            return rng.choice([0.2, 0.5, 1.0, 1.6, 2.5], len(cuts) + 1)[
                np.searchsorted(cuts, np.arange(n), "right")
            ].astype(float)
        return np.exp(self.slow(float(rng.uniform(0.9, 0.997)), float(rng.uniform(0.3, 0.9))))

    def call(self, total: float = 0.0, load: Series | None = None, name: str = "") -> str:
        """Add a counter with about `total` calls; its name."""
        name = name or str(self.rng.choice([x for x in NAMES if x not in self.calls]))
        shape = self.load() if load is None else load
        total = total or self.between(60, 400) * self.between(1, 900)
        self.calls[name] = self.rng.poisson(shape / max(shape.sum(), 1e-9) * total).astype(float)
        return name

    def gauge(self, level: Series | None = None) -> str:
        """Add a gauge, one of its own or `level`."""
        name = str(self.rng.choice([x for x in GAUGES if x not in self.gauges]))
        if level is None:
            level = self.between(4, 120) * self.load("wavy")
        self.gauges[name] = np.maximum(0.0, np.round(level))
        return name

    def bystanders(self, most: int = 4) -> None:
        """Counters and gauges that have nothing to do with it."""
        for _ in range(int(self.rng.integers(0, most + 1))):
            self.call()
        if self.rng.random() < 0.25:
            self.gauge()

    def since_start(self) -> Series:
        """Seconds since the latest start, at each moment."""
        starts = np.array([0, *self.restarts])
        latest: Series = self.t[starts[np.searchsorted(starts, np.arange(self.n), "right") - 1]]
        return self.t - latest

    def summed(self, increments: Series) -> Series:
        """Cumulative, from nothing again at each restart."""
        out = np.cumsum(increments)
        for i in self.restarts:
            out[i:] -= out[i - 1]
        return out

    def leak(self, resource: str, driver: str, onset: int, total: float, power: float = 1.0) -> Leak:
        """Lose `total` of a resource from `onset` to the end, along a driver; to the `power` where it is not linear."""
        pace = np.full(self.n, self.step) if driver == "time" else self.calls[driver.removeprefix("calls.")].copy()
        pace[: onset + 1] = 0.0
        driven = np.cumsum(pace)
        share = (driven / max(driven[-1], 1e-9)) ** power
        linear = power == 1.0
        per_call = total / max(driven[-1], 1e-9) if driver != "time" and linear else None
        found = Leak(resource, driver, share * total, driven, per_call)
        self.leaks.append(found)
        self.onset = onset
        return found

    def kept(self, leak: Leak) -> Series:
        """What of a leak is still held at each moment: a restart gives it back."""
        return self.summed(np.diff(leak.amount, prepend=0.0))

    def growth(self) -> float:
        """How much memory a leak takes until the end: enough to be seen in this noise, MB."""
        return max(self.noise * self.between(9, 250), self.base * self.between(0.04, 0.5), 8.0)

    def warm_up(self) -> Series:
        """The level after a start, MB."""
        if self.warm:
            return np.full(self.n, self.base) if not self.restarts else self._starting()
        return self._starting()

    def _starting(self) -> Series:
        level: Series = self.base * (
            1 + self.warm_up_share * (1 - np.exp(-self.since_start() / max(self.warm_up_time, self.step)))
        )
        if self.warm:
            level[: self.restarts[0]] = self.base * (1 + self.warm_up_share)
        return level

    def alike(self, leak: Leak) -> list[str]:
        """The drivers whose growth since the onset has the same shape."""
        candidates = {
            "calls." + name: np.cumsum(np.where(np.arange(self.n) > self.onset, x, 0)) for name, x in self.calls.items()
        }
        candidates["time"] = np.maximum(0.0, self.t - self.t[self.onset])
        if leak.resource != "threads" and leak.driver != "threads":
            candidates["threads"] = np.maximum(0.0, self.threads - self.threads[self.onset])
        shapes = [x / x[-1] for x in (leak.driven, leak.amount) if x[-1] > 0]
        return sorted(
            name
            for name, x in candidates.items()
            if name != leak.driver and x[-1] > 0 and any(np.abs(x / x[-1] - s).max() <= SAME_SHAPE for s in shapes)
        )
