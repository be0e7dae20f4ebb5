"""The past over restarts, gaps and holes, and the outlook, as the API of the whole daemon tells them."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from schemas.history import GpuTrend, HistoryPoint
from tests.api.client import Client
from tests.daemon import PATIENCE_S, Daemon
from tests.mocknvml.control import MockNvml
from tests.shows import history
from tests.shows.history import QUICK, Times, ask

#: Slow enough that a busy machine makes no gaps of its own.
STEADY: Final = Times(0.2, 0.2)
STOPPED_S: Final = 1.5


def until(daemon: Daemon, accept: Callable[[tuple[HistoryPoint, ...]], object]) -> tuple[HistoryPoint, ...]:
    """The points once they are accepted, looked at after each sample."""
    deadline = time.monotonic() + PATIENCE_S
    while not accept(points := history.history(daemon).points):
        assert time.monotonic() < deadline, f"it never came: {points[-5:]}"
        daemon.sample(lambda sample: sample.scope == "full", after=daemon.position("flyball:samples:{0}"))
    return points


def temperature(daemon: Daemon) -> tuple[str, str]:
    """What the trend of the temperature is called, and its sentence."""
    told: GpuTrend = ask(daemon, "/api/gpu/temperature/trend", GpuTrend, duration_minutes=5)
    return told.temperature.verdict, told.temperature.text


@pytest.mark.timeout(120)
def test_two_hundred_points_outlive_kill_9_and_a_ramp_is_foretold(state: Path, mock: MockNvml) -> None:
    """The show, sixty times as fast: 2 °C a minute within a tenth, and its threshold when it was said to come."""
    mock.set(0, temperature=50, margin=40)
    with Daemon(state, QUICK.config, environ=mock.environment()) as daemon:
        history.play(daemon, mock, QUICK, print)


def test_what_was_not_read_is_a_hole_and_lost_time_a_gap(state: Path, mock: MockNvml) -> None:
    """Neither is bridged, and other settings hold at once."""
    mock.set(0, temperature=50, margin=40)
    with Daemon(state, STEADY.config, environ=mock.environment()) as daemon:
        until(daemon, lambda points: temperature(daemon)[0] == "stable")

        mock.set(0, hang=1)
        blind = until(daemon, lambda points: points[-1].reading == "blind")[-1]
        assert blind.temperature_celsius is None and blind.memory_used_bytes is None
        until(daemon, lambda points: points[-1].reading == points[-5].reading == "blind")
        verdict, text = temperature(daemon)
        assert verdict == "unknown" and "it was not read for" in text
        mock.set(0, hang=0)

        before = until(daemon, lambda points: points[-1].reading == "fresh")[-1].time
        daemon.stop()
        time.sleep(STOPPED_S)
        daemon.cont()
        until(daemon, lambda points: any(point.after_gap and point.time > before for point in points))
        verdict, text = temperature(daemon)
        assert verdict == "unknown" and "since time was lost" in text

        assert Client(daemon).put("/api/gpu/config", {"history_size": 7}).status == 200
        assert len(until(daemon, lambda points: len(points) < 10)) == 7
