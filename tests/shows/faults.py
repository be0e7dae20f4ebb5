"""XIDs, a burst of them, and a card that is lost and found: the events, what to do, and which targets stand still.

`python tests/shows/faults.py` plays it at 1 s cadence with the default waits (about three minutes), prints every event
and directive that came of it, and ends with 1 if anything was not as it must be. The tests play it faster.
"""

import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from schemas.envelope import Event
from schemas.event import GpuError, GpuRecovered
from schemas.workload import Directive
from supervisor.bus.keys import samples_key
from tests.daemon import Daemon, short_directory
from tests.kernellog import FakeKernelLog
from tests.mocknvml.build import build_library
from tests.mocknvml.control import MockNvml

CARDS: Final = 4
BURST: Final = 1000


class Times(NamedTuple):
    """Seconds: the cadence, how long repeats are folded, and how long a card must be well again."""

    interval_s: float = 1.0
    fold_s: float = 60.0
    recovery_s: float = 30.0

    def config(self, kernel_log: Path) -> str:
        """The daemon's configuration."""
        return (
            f"[sampling]\ninterval_s = {self.interval_s}\nfast_interval_s = {self.interval_s / 10}\n"
            f'kmsg = "{kernel_log}"\n'
            f"[faults]\nfold_seconds = {self.fold_s}\nrecovery_seconds = {self.recovery_s}\n"
        )


def play(daemon: Daemon, mock: MockNvml, kernel: FakeKernelLog, times: Times, tell: Callable[[str], None]) -> None:
    """The whole story.

    :raises AssertionError: when anything is not as it must be.
    """
    for index in range(CARDS):
        daemon.event("flyball.directive.issued", _is_about(f"gpu{index}"))
    daemon.sample(lambda sample: sample.gpu_backend.xid_sources == ("nvml", "kmsg"))
    tell(f"{CARDS} cards are read; XIDs are told by NVML and by the kernel's log")

    for code, action in ((13, "restart_program"), (31, "restart_program"), (48, "follow_procedure")):
        _next_sample(daemon)  # both tell it within one tick, then
        kernel.write(f"NVRM: Xid (PCI:0000:02:00): {code}, pid=4242, name=python, what the driver says of it")
        mock.xid(1, code)
        error = _error(daemon, 1, code).decode(GpuError)
        assert (error.action, error.count, error.fatal, error.source) == (action, 1, False, "nvml")
        assert (error.process, error.pid) == ("python", 4242), "the kernel's log says whose it was"
    assert daemon.directive("gpu1").action == "run"
    tell("gpu1: XID 13, 31 and 48: its target goes on")

    before, began_s = daemon.position(), time.monotonic()
    for _ in range(10):
        mock.xid(2, 13, count=BURST // 10)
        daemon.sample(lambda sample: bool(sample.gpus[2].xids), after=daemon.position(samples_key()))
    # it is said once at once, and once at the end of each window that it reached into
    most_events = 3 + (time.monotonic() - began_s) / times.fold_s
    counts: Counter[str] = Counter()
    while counts["gpu2"] < BURST:
        entry = daemon.event("flyball.gpu.error", _is_about("gpu2"), after=before, within_s=2 * times.fold_s + 30)
        before = entry.id
        error = entry.event.decode(GpuError)
        assert error.xid == 13
        counts[error.target] += error.count
        counts["events"] += 1
    assert counts["gpu2"] == BURST and counts["events"] <= most_events, counts
    tell(f"gpu2: a burst of {BURST} XIDs came in {counts['events']} events")

    with mock.together():
        mock.xid(3, 79)
        mock.set(3, lost=1)
    fatal = _error(daemon, 3, 79).decode(GpuError)
    assert (fatal.action, fatal.fault_class, fatal.fatal) == ("reboot_host", "host", True)
    lost = daemon.event("flyball.gpu.error", lambda event: event.decode(GpuError).kind == "lost").event
    assert lost.decode(GpuError).target == "gpu3"
    paused = daemon.event("flyball.directive.issued", lambda event: event.decode(Directive).action == "pause").event
    directive = paused.decode(Directive)
    assert directive.target == "gpu3" and directive.speed == 0
    assert "reboot the host" in directive.reason and "paused until it answers again" in directive.reason
    assert [daemon.directive(f"gpu{index}").action for index in range(CARDS)] == ["run", "run", "run", "pause"]
    tell("gpu3: XID 79, and it is lost: paused; the other targets go on")

    mock.set(3, lost=0)
    recovered = daemon.event("flyball.gpu.recovered", within_s=times.recovery_s + 30).event.decode(GpuRecovered)
    assert recovered.target == "gpu3" and set(recovered.kinds) == {"lost", "xid"} and recovered.resumed
    daemon.event(
        "flyball.directive.issued",
        lambda event: event.subject == "gpu3" and event.decode(Directive).action == "run",
        after=_entry_of(daemon, paused),
    )
    assert [daemon.directive(f"gpu{index}").action for index in range(CARDS)] == ["run"] * CARDS
    tell("gpu3: found again, and its target goes on")


def tell_all(daemon: Daemon, tell: Callable[[str], None]) -> None:
    """Every event that came of it, in order."""
    tell("every fault, recovery and directive:")
    for event in daemon.events("flyball.gpu.error", "flyball.gpu.recovered", "flyball.directive.issued"):
        kind = event.type.removeprefix("flyball.")
        action = event.decode(GpuError).action if kind == "gpu.error" else ""
        tell(f"  {kind:<17} {action:<16} {event.text}")


def _next_sample(daemon: Daemon) -> None:
    daemon.sample(lambda sample: True, after=daemon.position(samples_key()))


def _is_about(target: str) -> Callable[[Event], bool]:
    return lambda event: event.subject == target


def _error(daemon: Daemon, index: int, code: int) -> Event:
    """The event of an XID."""

    def is_it(event: Event) -> bool:
        error = event.decode(GpuError)
        return (error.target, error.xid) == (f"gpu{index}", code)

    return daemon.event("flyball.gpu.error", is_it).event


def _entry_of(daemon: Daemon, event: Event) -> str:
    return daemon.event(event.type, lambda other: other.id == event.id).id


def main() -> int:
    """The story at its full length."""
    began_s = time.monotonic()

    def tell(line: str) -> None:
        print(f"{time.monotonic() - began_s:6.1f} s  {line}", flush=True)

    times = Times()
    with short_directory() as state:
        state.mkdir(mode=0o700)
        mock = MockNvml(state / "nvml", library=build_library(), gpus=CARDS)
        try:
            with (
                mock,
                FakeKernelLog(state / "kmsg") as kernel,
                Daemon(state, times.config(kernel.path), environ=mock.environment()) as daemon,
            ):
                play(daemon, mock, kernel, times, tell)
                tell_all(daemon, tell)
        except AssertionError as error:
            tell(f"FAILED: {error}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
