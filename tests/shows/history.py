"""What was, and what is coming: 200 points over restarts, a ramp of 2 °C a minute, and 200 random ramps.

`python tests/shows/history.py` plays it with the default distance of points, 3 s (about 15 minutes; `--quick` in half a
minute), says what happened, and ends with 1 if anything was not as it must be. The tests play it quickly.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

import msgspec

from schemas.history import GpuTrend, MetricsHistory
from tests.api.client import Client
from tests.daemon import PATIENCE_S, Daemon, short_directory
from tests.mocknvml.build import build_library
from tests.mocknvml.control import MockNvml
from tests.shows.ramps import Result, covered, ramp, share, warm_up

POINTS: Final = 200
#: What the issue promises: the slope within a tenth, and the truth in the interval nine times in ten.
SLOPE_WITHIN: Final = 0.1
COVERED: Final = 0.9
_START_CELSIUS: Final = 50
_SLOPE_CELSIUS_PER_MINUTE: Final = 2.0
_RAMP_S: Final = 300.0


class Times(NamedTuple):
    """Seconds between two samples, and between two points; `haste` is how much faster than told all is played."""

    interval_s: float = 1.0
    spacing_s: float = 3.0
    haste: float = 1.0

    @property
    def config(self) -> str:
        """The daemon's configuration; without haste these are the defaults."""
        return (
            f"[sampling]\ninterval_s = {self.interval_s}\nfast_interval_s = {self.interval_s}\n"
            f"[history]\nmonitor_interval = {self.spacing_s}\nhistory_size = {POINTS}\n"
        )


QUICK: Final = Times(0.05, 0.05, 60)


def play(daemon: Daemon, mock: MockNvml, times: Times, tell: Callable[[str], None]) -> None:
    """A card that is warm for a while and then gets hotter; the daemon is killed, and later stopped, and goes on.

    :raises AssertionError: when anything is not as it must be.
    """
    fill(daemon, POINTS // 2, times)
    with heating(mock, times):
        time.sleep(_RAMP_S / times.haste)
        asked_s = time.monotonic()
        forecast = foretell(daemon, times, tell)
        arrive(daemon, forecast, (asked_s, time.monotonic()), times, tell)
    fill(daemon, POINTS, times)
    for end, how in ((daemon.kill, "kill -9"), (daemon.terminate, "a clean stop")):
        outlive(daemon, end, how, tell)


def fill(daemon: Daemon, count: int, times: Times) -> None:
    """Wait until so many points are known."""
    deadline = time.monotonic() + 2 * POINTS * times.spacing_s + 30
    while (known := history(daemon).count) < count:
        assert time.monotonic() < deadline, f"only {known} of {count} points came"
        time.sleep(times.spacing_s)


@contextmanager
def heating(mock: MockNvml, times: Times) -> Iterator[None]:
    """Inside, the card gets hotter; it tells whole degrees."""
    done = threading.Event()

    def heat() -> None:
        celsius, step_s = _START_CELSIUS, 60 / _SLOPE_CELSIUS_PER_MINUTE / times.haste
        began_s = time.monotonic()
        while not done.wait(began_s + (celsius + 1 - _START_CELSIUS) * step_s - time.monotonic()):
            celsius += 1
            mock.set(0, temperature=celsius, margin=40)

    thread = threading.Thread(target=heat, name="heat")
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def foretell(daemon: Daemon, times: Times, tell: Callable[[str], None]) -> GpuTrend:
    """The slope is within a tenth of the true one, and inside its interval."""
    asked_s = time.monotonic()
    trend: GpuTrend = ask(daemon, "/api/gpu/temperature/trend", GpuTrend, duration_minutes=_RAMP_S / 60 / times.haste)
    told = trend.temperature
    slope, low, high = (
        None if one is None else one / times.haste
        for one in (
            told.slope_celsius_per_minute, told.slope_low_celsius_per_minute, told.slope_high_celsius_per_minute,
        )
    )  # fmt: skip
    assert told.verdict == "rising" and slope is not None and low is not None and high is not None, trend.text
    tell(f"{slope:.2f} °C a minute, between {low:.2f} and {high:.2f}; true is {_SLOPE_CELSIUS_PER_MINUTE:g}")
    tell(f"  {trend.text}  (asked in {1000 * (time.monotonic() - asked_s):.0f} ms)")
    assert abs(slope - _SLOPE_CELSIUS_PER_MINUTE) <= SLOPE_WITHIN * _SLOPE_CELSIUS_PER_MINUTE, trend.text
    assert low < _SLOPE_CELSIUS_PER_MINUTE < high, trend.text
    return trend


def arrive(
    daemon: Daemon, trend: GpuTrend, told_s: tuple[float, float], times: Times, tell: Callable[[str], None]
) -> None:
    """The card reaches its next threshold when it was said to, some time between `told_s`."""
    coming = trend.temperature.forecasts[0]
    assert coming.low_s is not None and coming.p50_s is not None, trend.text
    _, sample = daemon.sample(
        lambda sample: (sample.gpus[0].temperature_celsius or 0) >= coming.threshold_celsius,
        after=daemon.position("flyball:samples:{0}"),
        within_s=60 + 10 * _RAMP_S / times.haste,
    )
    latest_s, soonest_s = (sample.monotonic_s - one_s for one_s in told_s)
    tell(
        f"{coming.threshold_celsius:g} °C came after {soonest_s:.1f} s; said was {coming.p50_s:.1f} s, "
        f"between {coming.low_s:.1f} and {'?' if coming.high_s is None else f'{coming.high_s:.1f}'} s"
    )
    assert coming.low_s - times.interval_s <= latest_s, trend.text
    assert coming.high_s is None or soonest_s <= coming.high_s + times.interval_s, trend.text


def outlive(daemon: Daemon, end: Callable[[], object], how: str, tell: Callable[[str], None]) -> None:
    """What was known before the daemon ended is known after it started again."""
    before = {point.time: point for point in history(daemon).points}
    assert len(before) == POINTS, f"{len(before)} points"
    end()
    daemon.output.clear()  # so that the address of the next start is found
    daemon.start()
    after = history(daemon).points
    kept = [point for point in after if point.time in before]
    gaps = sum(point.after_gap for point in after)
    tell(f"after {how}: {len(after)} points, {len(kept)} of them from before it, {gaps} behind a gap")
    assert len(after) == POINTS, f"{len(after)} points after {how}"
    assert kept and all(before[point.time] == point for point in kept), "a point has changed"
    assert [point.time for point in after] == sorted({point.time for point in after}), "points are out of order"
    new = [point for point in after if point.time > max(before)]
    assert len(kept) + len(new) >= POINTS - 1, "points from before are missing"


def history(daemon: Daemon, **query: Any) -> MetricsHistory:
    """The points of the card."""
    answer: MetricsHistory = ask(daemon, "/api/gpu/metrics/history", MetricsHistory, **query)
    return answer


def ask(daemon: Daemon, path: str, kind: Any, **query: Any) -> Any:
    """What the daemon's API answers, as the type that its document promises; a daemon that starts may take a moment."""
    deadline = time.monotonic() + PATIENCE_S
    while (answer := Client(daemon).get(f"{path}?{urlencode(query)}")).status in (404, 503):
        assert time.monotonic() < deadline, answer.detail
        time.sleep(0.05)
    assert answer.status == 200, answer
    return msgspec.json.decode(answer.body, type=kind)


def coverage(count: int, tell: Callable[[str], None]) -> None:
    """Forecasts of random courses, against when they really arrive.

    :raises AssertionError: too few of the ramps are covered.
    """
    for make, what in ((ramp, "ramps"), (warm_up, "warm-ups that level off")):
        began_s = time.perf_counter()
        results = covered(make, count, seed=2026)
        took_ms = 1000 * (time.perf_counter() - began_s) / count
        tell(f"{count} random {what}, {took_ms:.1f} ms each: {summary(results)}")
        if make is ramp:
            errors = sorted(result.slope_error for result in results)
            tell(
                f"  their slopes are off by {errors[count // 2]:.1%} (median), 9 in 10 by {errors[9 * count // 10]:.0%}"
            )
            assert share(result.is_covered for result in results) >= COVERED, "too few are covered"


def summary(results: list[Result]) -> str:
    """How often the truth was covered, and how wide what covers it is."""
    widths = sorted(
        (result.arrival.high_s - result.arrival.low_s) / result.course.truth_s
        for result in results
        if result.arrival.high_s is not None and result.arrival.low_s is not None
    )
    return (
        f"{share(result.is_covered for result in results):.1%} come between low and high, "
        f"{share(result.is_between_quantiles for result in results):.1%} between p10 and p90; "
        f"{share(result.arrival.high_s is None for result in results):.0%} have no high end, "
        f"the others are {widths[len(widths) // 2]:.2f} × the time wide (median)"
    )


def main(arguments: list[str]) -> int:
    """All of it."""
    began_s = time.monotonic()

    def tell(line: str) -> None:
        print(f"{time.monotonic() - began_s:6.1f} s  {line}", flush=True)

    times = QUICK if arguments == ["--quick"] else Times()
    with short_directory() as state:
        state.mkdir(mode=0o700)
        mock = MockNvml(state / "nvml", library=build_library())
        mock.set(0, temperature=_START_CELSIUS, margin=40)
        with mock, Daemon(state, times.config, environ=mock.environment()) as daemon:
            try:
                play(daemon, mock, times, tell)
                coverage(200, tell)
            except AssertionError as error:
                tell(f"FAILED: {error}")
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
