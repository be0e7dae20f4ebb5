"""A card hangs inside the driver, or the driver is not there at all."""

import json
from pathlib import Path
from typing import Final

from tests.daemon import Daemon
from tests.mocknvml.control import MockNvml
from tests.shows import hang

TIMES: Final = hang.Times(interval_s=0.8, hang_s=5.0, between_s=2.0)


def test_one_of_eight_cards_hangs_twice(state: Path, mock: MockNvml) -> None:
    """The others keep their cadence, it is BLIND at once and never speeds up, and SIGTERM stops the daemon in 5 s."""
    mock.set_count(hang.CARDS)
    with Daemon(state, TIMES.config, environ=mock.environment()) as daemon:
        hang.play(daemon, mock, TIMES, print)
        assert daemon.terminate() == 0
        daemon.assert_nothing_left()


def test_without_the_drivers_library_the_host_is_looked_after(state: Path) -> None:
    """A missing GPU is not an error: it is said why there is none and what to try, and the rest works."""
    with Daemon(state) as daemon:
        status = daemon.status_when(
            lambda status: status.gpu_backend.reason == "nvml_library_not_found" and status.targets
        )
        assert status.gpu_backend.state == "unavailable"
        assert "libnvidia-ml.so.1" in status.gpu_backend.hint
        assert not status.gpus
        assert [(target.target, target.action) for target in status.targets] == [("host", "run")]
        assert daemon.samples()[-1].host_figures is not None
        printed = json.loads(daemon.command("status", "--json").stdout)
        assert printed["gpu_backend"]["reason"] == "nvml_library_not_found"
