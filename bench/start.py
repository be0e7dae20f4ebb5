"""What one waits for: `flyball status` as a whole process, and a second start of `./flyball run` to its first sample.

The floor of both is `python -c pass` in the same run.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench import report
from bench.report import Report, at_most, percentile
from bench.running import FLYBALL, daemon, environment, first_sample_s

_LAUNCHER: Final = Path(__file__).parents[1] / "flyball"


def measure(state: Path, *, rounds: int, starts: int) -> dict[str, list[float]]:
    """Seconds of each round: `python`, `status` and `start`."""
    spent: dict[str, list[float]] = {"python": [], "status": [], "start": []}
    with daemon(state, command=[_LAUNCHER]):
        first_sample_s(state, 0.0)  # the first start makes what a second one finds
        for _ in range(rounds):
            spent["python"].append(_run([sys.executable, "-c", "pass"], state))
            spent["status"].append(_run([FLYBALL, "status"], state))
    for _ in range(starts):
        begun_s = time.time()
        with daemon(state, command=[_LAUNCHER]):
            spent["start"].append(first_sample_s(state, begun_s) - begun_s)
        spent["python"].append(_run([sys.executable, "-c", "pass"], state))
    return spent


def _run(command: Sequence[str | Path], state: Path) -> float:
    """Seconds of a whole process.

    :raises subprocess.CalledProcessError: it failed.
    """
    begun = time.monotonic()
    subprocess.run(command, env=environment(state), stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - begun


def add_rows(rows: Report, spent: dict[str, list[float]]) -> None:
    """The figures."""
    for figure, share in (("p50", 0.5), ("p90", 0.9)):
        of = {name: 1000 * percentile(times, share) for name, times in spent.items()}
        floor = of["python"]
        median = figure == "p50"
        rows.add(
            "flyball status, a whole process (floor: python -c pass)", figure, "ms",
            ours=of["status"], floor=floor, goal=at_most(250) if median else None,
        )  # fmt: skip
        rows.add(
            "./flyball run again, to its first sample (floor: python -c pass)", figure, "ms",
            ours=of["start"], floor=floor, goal=at_most(1500) if median else None,
        )  # fmt: skip


def main() -> None:
    """Measure and print."""
    options = report.options("flyball status, and a second start of ./flyball run to its first sample")
    rows = Report("start", options)
    with tempfile.TemporaryDirectory(prefix="fb-") as directory:
        spent = measure(Path(directory, "s"), rounds=5 if options.quick else 30, starts=2 if options.quick else 10)
    add_rows(rows, spent)
    rows.finish()


if __name__ == "__main__":
    main()
