"""Records real programs as labelled traces: `record.py DIRECTORY [--seconds 90] [--at-once 3] [--seed 1] [NAME ...]`.

Each runs in a process of its own and is looked at eight times a second from outside. What leaks, and by which counter,
is known by construction; the amount a call is the regression on that counter after the onset.
"""

import argparse
import gzip
import hashlib
import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from bench.leakbench.program import SAME_SHAPE
from bench.leakbench.realprograms import PROGRAMS

INTERVAL_S = 0.125
MB = 2**20
Row = dict[str, float | None]


def record(directory: Path, name: str, seed: int, seconds: float) -> tuple[str, dict[str, Any]]:
    """Run one program to its end and write its trace; its id and label."""
    command = [sys.executable, "-m", "bench.leakbench.realprograms", name, str(seed), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        told: dict[str, Any] = {"calls": {}, "gauges": {}, "leaking": False}
        reader = threading.Thread(target=_listen, args=(child, told), daemon=True)
        reader.start()
        rows, onset = _watch(psutil.Process(child.pid), told)
        reader.join()
    if child.returncode:
        raise RuntimeError(f"{name} ended with {child.returncode}")
    identity = hashlib.sha256(f"{name} {seed} {rows[len(rows) // 2]}".encode()).hexdigest()[:12]
    text = _csv(rows)
    (directory / "traces" / f"{identity}.csv.gz").write_bytes(gzip.compress(text.encode(), 6, mtime=0))
    return identity, _label(name, rows, onset)


def _listen(child: "subprocess.Popen[str]", told: dict[str, Any]) -> None:
    assert child.stdout is not None
    for line in child.stdout:
        told |= json.loads(line)


def _watch(process: psutil.Process, told: dict[str, Any]) -> tuple[list[Row], float | None]:
    """Rows until it ends, and when it began to leak."""
    begin, rows, onset = time.monotonic(), list[Row](), None
    while True:
        try:
            memory = process.memory_info()
            row: Row = {"t_s": time.monotonic() - begin, "rss_mb": memory.rss / MB, "vms_mb": memory.vms / MB}
            row |= {"threads": process.num_threads(), "fds": process.num_fds(), "vram_mb": None}
        except psutil.NoSuchProcess:
            return rows, onset
        if not memory.rss:  # it has ended, and waits to be collected
            return rows, onset
        row |= {f"calls.{k}": v for k, v in told["calls"].items()}
        row |= {f"gauge.{k}": v for k, v in told["gauges"].items()}
        rows.append(row)
        if told["leaking"] and onset is None:
            onset = rows[max(0, len(rows) - 2)]["t_s"]
        time.sleep(INTERVAL_S - (time.monotonic() - begin) % INTERVAL_S)


def _csv(rows: list[Row]) -> str:
    columns = [*list(rows[0])[:6], *sorted({name for row in rows for name in row} - set(list(rows[0])[:6]))]
    places = {"t_s": 3, "rss_mb": 2, "vms_mb": 1}
    lines = [",".join(columns)]
    for row in rows:
        values = [(column, row.get(column)) for column in columns]
        lines.append(",".join("" if value is None else f"{value:.{places.get(name, 0)}f}" for name, value in values))
    return "\n".join(lines) + "\n"


def _label(name: str, rows: list[Row], onset: float | None) -> dict[str, Any]:
    """By construction; amounts by regression."""
    work = PROGRAMS[name]
    after = [row for row in rows if onset is not None and row["t_s"] > onset]  # type: ignore[operator]
    leaks = bool(after)
    columns = {resource: f"{resource}_mb" if resource == "rss" else resource for resource in work.resources}
    per_call: dict[str, float] = {}
    rate: dict[str, float] = {}
    alike: dict[str, list[str]] = {}
    for resource, column in columns.items() if leaks else ():
        if work.driver != "time":
            per_call[resource] = work.stays or _slope(after, work.driver, column)
        rate[resource] = _slope(after, "t_s", column) * 3600
        alike[resource] = _alike(after, str(work.driver), resource)
    return {
        "family": "real_" + name,
        "split": "recorded",
        "real": True,
        "leak": leaks,
        "onset_s": round(onset, 2) if onset is not None else None,
        "resources": list(work.resources) if leaks else [],
        "driver": work.driver if leaks else None,
        "drivers": dict.fromkeys(work.resources, work.driver) if leaks else {},
        "driver_ok": {resource: names for resource, names in alike.items() if names},
        "tolerated": list(work.tolerated) if leaks else [],
        "per_call": {resource: float(f"{value:.5g}") for resource, value in per_call.items()},
        "rate_per_h": {resource: float(f"{value:.5g}") for resource, value in rate.items()},
        "snr": None,
        "duration_s": round((rows[-1]["t_s"] or 0) - (rows[0]["t_s"] or 0), 2),
        "note": f"{(work.__doc__ or '').strip()} (real program, psutil)",
    }


def _slope(rows: list[Row], across: str | None, column: str) -> float:
    x, y = np.array([[row.get(str(across)) or 0.0, row[column] or 0.0] for row in rows]).T
    if x[-1] <= x[0]:
        raise ValueError(f"{across} did not grow after the onset: record for longer")
    return float(np.polyfit(x, y, 1)[0])


def _alike(rows: list[Row], driver: str, resource: str) -> list[str]:
    """Drivers of the same shape since the onset."""
    shapes = {}
    for name in ["t_s", *(["threads"] if resource == "rss" else []), *(k for k in rows[-1] if k.startswith("calls."))]:
        values = np.array([row.get(name) or 0.0 for row in rows])
        if values[-1] > values[0]:
            shapes["time" if name == "t_s" else name] = (values - values[0]) / (values[-1] - values[0])
    return sorted(k for k, v in shapes.items() if k != driver and np.abs(v - shapes[driver]).max() <= SAME_SHAPE)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("names", nargs="*", default=list(PROGRAMS))
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--at-once", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    (asked.directory / "traces").mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(asked.at_once) as pool:
        done = [
            pool.submit(record, asked.directory, name, asked.seed + k, asked.seconds)
            for k, name in enumerate(asked.names)
        ]
        labels = dict(future.result() for future in done)
    (asked.directory / "labels.json").write_text(json.dumps(labels, indent=1) + "\n")
    print(len(labels), "programs recorded")
