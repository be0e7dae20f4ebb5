"""Writes a split of invented traces with their labels: `simulate.py DIRECTORY [--seed N] [--each N]`.

The same seed gives the same files. The families of the development split are among them, with other numbers, and as
many again that it does not have.
"""

import argparse
import gzip
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.leakbench.families import HEALTHY, LEAKING
from bench.leakbench.program import Program, Series

#: another one gives other traces
VERSION = 2


def generate(seed: int, each: int, families: Sequence[str] = ()) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """`each` traces of every family (or of those named): id, CSV text, label."""
    for name, make in {**LEAKING, **HEALTHY}.items():
        for number in range(each if not families or name in families else 0):
            key = hashlib.sha256(f"{VERSION} {seed} {name} {number}".encode()).hexdigest()
            program = Program(np.random.default_rng(int(key, 16)))
            make(program)
            kept = _seen(program)
            yield key[:12], _csv(program, kept), _label(program, name, kept)


def write(directory: Path, seed: int, each: int, families: Sequence[str] = ()) -> int:
    """Write `traces/*.csv.gz` and `labels.json`; how many traces there are."""
    (directory / "traces").mkdir(parents=True, exist_ok=True)
    labels = {}
    for identity, text, label in generate(seed, each, families):
        (directory / "traces" / f"{identity}.csv.gz").write_bytes(gzip.compress(text.encode(), 6, mtime=0))
        labels[identity] = label
    (directory / "labels.json").write_text(json.dumps(labels, indent=1) + "\n")
    return len(labels)


def _seen(p: Program) -> Series:
    """Late and missing rows: shifts the clock, and returns the indices of the rows that are there."""
    rng = p.rng
    jitter = rng.normal(0, 0.01 * p.step, p.n)
    late = rng.random(p.n) < rng.choice([0.0, 0.02, 0.06])
    jitter[late] += rng.uniform(-0.4, 0.4, late.sum()) * p.step
    p.t = p.t + jitter - jitter[0]
    there = rng.random(p.n) > rng.choice([0.0, 0.005, 0.03])
    if rng.random() < 0.25:
        gap = p.at(0.1, 0.9)
        there[gap : gap + int(rng.integers(3, max(4, min(40, p.n // 20))))] = False
    there[[0, -1]] = True
    return np.flatnonzero(there).astype(float)


def _levels(p: Program) -> dict[str, tuple[Series, int]]:
    """The columns that are measured, with their decimals."""
    rng = p.rng
    memory = np.maximum(p.warm_up() + p.rss, p.base * 0.3)
    if p.quantum:
        memory = np.ceil(memory / p.quantum) * p.quantum
    spare = 2.2 * p.base + 1.1 * np.maximum.accumulate(memory) + 8.2 * (p.threads - p.threads[0])
    columns = {"rss_mb": (memory, int(rng.choice([0, 1, 2], p=[0.15, 0.35, 0.5])))}
    if rng.random() < 0.85:
        columns["vms_mb"] = (np.ceil(np.maximum.accumulate(spare) / 16) * 16, 0)
    columns["threads"] = (np.maximum(1, p.threads), 0)
    if any(leak.resource == "fds" for leak in p.leaks) or rng.random() < 0.9:
        columns["fds"] = (np.maximum(3, p.handles), 0)
    if p.vram is not None:
        columns["vram_mb"] = (np.maximum(0, p.vram), 0)
    return columns


def _csv(p: Program, kept: Series) -> str:
    """The trace as text."""
    rng = p.rng
    rows = kept.astype(int)
    columns = _levels(p)
    blank = set(rng.choice(p.n, rng.integers(1, 10)).tolist()) if rng.random() < 0.3 else set()
    silent = set(rng.choice(p.n, rng.integers(1, 25)).tolist()) if rng.random() < 0.2 else set()
    cells: dict[str, list[str]] = {"t_s": [f"{p.t[i]:.2f}" for i in rows]}
    for name in ("rss_mb", "vms_mb", "threads", "fds", "vram_mb"):
        values, decimals = columns.get(name, (None, 0))
        cells[name] = ["" if values is None or i in blank else f"{values[i]:.{decimals}f}" for i in rows]
    for name, increments in sorted(p.calls.items()):
        total = p.summed(increments)
        if p.warm and not p.restarts and name != "errors":
            total += round(total[-1] * float(rng.choice([0.0, 0.4, 3.0])))
        cells["calls." + name] = ["" if i in silent else f"{total[i]:.0f}" for i in rows]
    for name, level in sorted(p.gauges.items()):
        cells["gauge." + name] = ["" if i in silent else f"{level[i]:.0f}" for i in rows]
    lines = [",".join(cells), *(",".join(row) for row in zip(*cells.values(), strict=True))]
    return "\n".join(lines) + "\n"


def _label(p: Program, name: str, kept: Series) -> dict[str, Any]:
    """What is true of it."""
    start, end = float(p.t[0]), float(p.t[int(kept[-1])])
    leaks = {leak.resource: leak for leak in p.leaks}
    onset = round(float(p.t[p.onset]), 2) if leaks else None
    hours = (end - (onset or 0.0)) / 3600
    memory = leaks.get("rss")
    alike = {resource: p.alike(leak) for resource, leak in leaks.items()}
    return {
        "family": name,
        "split": "generated",
        "real": False,
        "leak": bool(leaks),
        "onset_s": onset,
        "resources": list(leaks),
        "driver": next(iter(leaks.values())).driver if leaks else None,
        "drivers": {resource: leak.driver for resource, leak in leaks.items()},
        "driver_ok": {resource: names for resource, names in alike.items() if names},
        "tolerated": [resource for resource in p.tolerated if resource not in leaks],
        "per_call": {r: float(f"{leak.per_call:.5g}") for r, leak in leaks.items() if leak.per_call is not None},
        "rate_per_h": {r: float(f"{leak.amount[-1] / hours:.5g}") for r, leak in leaks.items()},
        "snr": round(float(memory.amount[-1] / p.noise), 1) if memory else None,
        "duration_s": round(end - start, 2),
        "note": p.note,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--each", type=int, default=7, help="traces of each family")
    asked = parser.parse_args()
    print(write(asked.directory, asked.seed, asked.each), "traces")
