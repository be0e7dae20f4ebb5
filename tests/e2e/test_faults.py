"""Faults of a card, from the driver to the directive."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from schemas.event import GpuError, GpuRecovered, OverrideChanged
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


def test_a_fatal_xid_pauses_over_a_restart_until_an_operator_says_it_has_been_dealt_with(
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
        asked = daemon.command("resume", "gpu0", "--force")
        assert asked.returncode == 0, asked.stderr
        recovered = daemon.event("flyball.gpu.recovered", after=before).event
        assert recovered.decode(GpuRecovered).resumed
        assert recovered.text.endswith("says it has been dealt with; its faults pause it no more")
        ended = daemon.command("resume", "gpu0")  # the override ends, and nothing else holds it
        assert ended.returncode == 0, ended.stderr
        assert daemon.directive("gpu0").action == "run"


def test_what_the_driver_asks_for_is_in_force_again_when_an_override_ends(state: Path, mock: MockNvml) -> None:
    """An operator lets a card run for a second; the fault is among the problems all the while."""
    with Daemon(state, TIMES.config(state / "kmsg"), environ=mock.environment()) as daemon:
        daemon.event("flyball.directive.issued", lambda event: event.subject == "gpu0")
        with mock.together():  # after an XID the driver's verdict is read at once
            mock.set(0, field_230=1)
            mock.xid(0, 31)
        daemon.event("flyball.gpu.error", lambda event: event.decode(GpuError).recovery_action == "gpu_reset")
        daemon.event("flyball.directive.issued", lambda event: event.decode(Directive).action == "pause")
        before = daemon.position()
        asked = daemon.command("resume", "gpu0", "--for", "1s")
        assert asked.returncode == 0, asked.stderr
        ended = daemon.event(
            "flyball.override.changed", lambda event: event.decode(OverrideChanged).outcome == "ended", after=before
        )
        issued = [event.decode(Directive) for event in daemon.events("flyball.directive.issued", after=before)]
        assert [one.action for one in issued] == ["run", "pause"], ended.event.text
        assert "the driver asks for gpu reset" in daemon.directive("gpu0").reason
        assert not daemon.events("flyball.gpu.recovered"), "nothing is over"
        status = daemon.status_when(lambda status: status.problems)
        (problem,) = status.problems
        assert problem.startswith("gpu0: the driver asks for gpu reset; ")
        assert problem in daemon.command("status").stdout
        checked = daemon.command("check")
        assert (checked.returncode, problem in checked.stdout.splitlines()[0]) == (2, True), checked.stdout
        with mock.together():
            mock.set(0, field_230=0)
            mock.xid(0, 31)
        recovered = daemon.event("flyball.gpu.recovered", after=before).event
        assert "over after" in recovered.text and recovered.decode(GpuRecovered).resumed
        daemon.status_when(lambda status: not status.problems)
