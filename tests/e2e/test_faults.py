"""Faults of a card, from the driver to the directive."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from schemas.event import GpuError, GpuRecovered
from schemas.workload import Directive
from tests.daemon import Daemon
from tests.kernellog import FakeKernelLog
from tests.mocknvml.control import MockNvml
from tests.shows import faults

TIMES: Final = faults.Times(interval_s=0.25, fold_s=3.0, recovery_s=1.0)


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[FakeKernelLog]:
    """A kernel log of our own."""
    with FakeKernelLog(tmp_path / "kmsg") as kernel:
        yield kernel


def test_xids_a_burst_and_a_card_that_is_lost_and_found(state: Path, mock: MockNvml, kernel: FakeKernelLog) -> None:
    mock.set_count(faults.CARDS)
    with Daemon(state, TIMES.config(kernel.path), environ=mock.environment()) as daemon:
        faults.play(daemon, mock, kernel, TIMES, print)
        faults.tell_all(daemon, print)


def test_a_fatal_xid_pauses_over_a_restart_until_an_operator_lets_the_target_run(
    state: Path, mock: MockNvml, kernel: FakeKernelLog
) -> None:
    """The driver gives no verdicts and NVML tells no XIDs: the kernel's log does, and only a person knows the rest."""
    mock.set(0, field_230=None, event_types=None)
    with Daemon(state, TIMES.config(kernel.path), environ=mock.environment()) as daemon:
        daemon.event("flyball.directive.issued", lambda event: event.subject == "gpu0")
        daemon.sample(lambda sample: sample.gpu_backend.xid_sources == ("kmsg",))
        kernel.write("NVRM: Xid (PCI:0000:01:00): 95, pid='<unknown>', name=<unknown>, Uncontained: LTC TAG")
        error = daemon.event("flyball.gpu.error").event
        assert error.text.startswith("gpu0: XID 95 (memory error, not contained); end every program on the card")
        assert error.decode(GpuError).detail == "Uncontained: LTC TAG"
        paused = daemon.event(
            "flyball.directive.issued", lambda event: event.decode(Directive).action == "pause"
        ).event.decode(Directive)
        assert "nvidia-smi --gpu-reset -i 00000000:01:00.0" in paused.reason
        assert paused.cause == error.decode(GpuError).cause
        assert daemon.terminate() == 0
        daemon.start()
        daemon.status_when(lambda status: status.targets and status.targets[0].action == "pause")
        before = daemon.position()
        asked = daemon.command("resume", "gpu0", "--for", "1m")
        assert asked.returncode == 0, asked.stderr
        recovered = daemon.event("flyball.gpu.recovered", after=before).event
        assert recovered.decode(GpuRecovered).resumed
        assert recovered.text.endswith("let it run; its faults pause it no more")
        ended = daemon.command("resume", "gpu0")  # the override ends, and nothing else holds it
        assert ended.returncode == 0, ended.stderr
        assert daemon.directive("gpu0").action == "run"
