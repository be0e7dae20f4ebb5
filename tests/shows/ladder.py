"""The closed loop: a card gets hot, or full, and cools down again, while a program runs that obeys.

`python tests/shows/ladder.py` plays it with the default waits (about 7 minutes), says what happened, and ends with 1
if anything was not as it must be. The tests play it with shorter ones.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from schemas.envelope import Event
from schemas.event import Acknowledged, PauseFutile, StateChanged
from schemas.workload import Action, Directive
from supervisor.bus.keys import samples_key
from tests.daemon import Daemon, short_directory
from tests.mocknvml.build import build_library
from tests.mocknvml.control import GIB, MockNvml
from tests.program import Program

#: The rate may be so far from the speed: what the issue of the closed loop asks for.
TOLERANCE: Final = 0.1
TOTAL_GIB: Final = 80


class Waits(NamedTuple):
    """The waits that count, in seconds: the ladder's own, and how long a rate is measured."""

    interval_s: float = 1.0
    cooldown_s: float = 30.0
    pause_s: float = 60.0
    measure_s: float = 5.0

    @property
    def config(self) -> str:
        """The daemon's configuration: the ladder alone, with the default waits as everybody gets them."""
        return (
            f"[sampling]\ninterval_s = {self.interval_s}\nfast_interval_s = {self.interval_s / 10}\n"
            f'[throttle]\npolicy = "ladder"\n'
            f"throttle_cooldown_seconds = {self.cooldown_s}\ncritical_pause_seconds = {self.pause_s}\n"
        )


class Stage:
    """The daemon, a card and a program on it; each method is a scene that fails as an assertion does."""

    def __init__(
        self, daemon: Daemon, mock: MockNvml, program: Program, waits: Waits, tell: Callable[[str], None]
    ) -> None:
        """`tell` gets a line about each thing that happened."""
        self.daemon, self.mock, self.program, self.waits, self.tell = daemon, mock, program, waits, tell
        self._since = "0-0"

    def expect(self, state: str, action: Action, speed: float, cleanup: str = "none") -> Directive:
        """The next change of the card's state is to this one, and the program does as it is told."""
        entry = self.daemon.event(
            "flyball.gpu.state_changed", after=self._since, within_s=self.waits.cooldown_s + self.waits.pause_s + 30
        )
        self._since = entry.id
        change = entry.event.decode(StateChanged)
        assert change.state == state, f"expected {state}: {entry.event.text}"
        self.tell(entry.event.text)
        return self._directed(entry.id, action, speed, cleanup)

    def expect_futile(self) -> None:
        """A pause for memory that does not help ends at half speed with a cleanup."""
        entry = self.daemon.event("flyball.pause.futile", after=self._since, within_s=self.waits.pause_s + 30)
        self._since = entry.id
        assert entry.event.decode(PauseFutile).paused_s >= self.waits.pause_s, entry.event.text
        self.tell(entry.event.text)
        self._directed(entry.id, "throttle", 0.5, "soft")

    def _directed(self, after: str, action: Action, speed: float, cleanup: str) -> Directive:
        """The directive that follows, heard, applied and obeyed."""
        entry = self.daemon.event("flyball.directive.issued", lambda event: event.subject == "gpu0", after=after)
        directive = entry.event.decode(Directive)
        assert (directive.action, directive.speed, directive.cleanup) == (action, speed, cleanup), entry.event.text
        self.daemon.event("flyball.directive.acknowledged", is_answer(directive, "accepted"), after=after)
        self.daemon.event("flyball.directive.acknowledged", is_answer(directive, "applied"), after=after)
        self._measure(speed)
        return directive

    def _measure(self, speed: float) -> None:
        """The program goes as fast as it was told."""
        # the step in hand when the directive was applied still belongs to the speed before
        from_s = time.monotonic() + 0.1
        to_s = from_s + self.waits.measure_s
        time.sleep(to_s - time.monotonic())
        pace = self.program.pace(from_s, to_s)
        self.tell(f"  {self.program.name} does {pace.rate_hz:.1f} steps/s, {pace.share:.1%} of its full speed")
        assert abs(pace.share - speed) <= TOLERANCE * speed, f"the program goes at {pace.share:.1%}, told {speed:.0%}"

    def hold(self, seconds: float) -> None:
        """Nothing changes while the card is read for so long."""
        from_s = time.monotonic()
        self.daemon.sample(
            lambda sample: sample.monotonic_s >= from_s + seconds,
            after=self.daemon.position(samples_key()),
            within_s=seconds + 30,
        )
        news = self.daemon.events("flyball.gpu.state_changed", "flyball.pause.futile", after=self._since)
        assert not news, f"something changed: {news[0].text}"
        self.tell(f"  nothing changed for {seconds:g} s")

    def fast(self, after: str) -> None:
        """The card was sampled fast since then."""
        _, sample = self.daemon.sample(lambda sample: sample.scope == "fast", after=after)
        assert [gpu.index for gpu in sample.gpus] == [0], sample
        assert sample.interval_s == self.waits.interval_s / 10, sample
        self.tell(f"  seen from close up, every {sample.interval_s:g} s")


def is_answer(directive: Directive, stage: str) -> Callable[[Event], bool]:
    """Whether an event says that this directive was `accepted` or `applied`."""

    def is_it(event: Event) -> bool:
        told = event.decode(Acknowledged)
        return (told.directive, told.stage) == (directive.id, stage)

    return is_it


def heat(stage: Stage) -> None:
    """From 45 °C to 92 °C and back."""
    mock, waits = stage.mock, stage.waits
    stage.expect("OPTIMAL", "run", 1.0)
    mock.set(0, temperature=70)
    stage.expect("NORMAL", "throttle", 0.8)
    near = stage.daemon.position(samples_key())
    mock.set(0, temperature=81)
    stage.expect("THROTTLED", "throttle", 0.5)
    stage.fast(near)
    mock.set(0, temperature=87)
    paused_s = time.monotonic()
    stage.expect("CRITICAL", "pause", 0.0)
    mock.set(0, temperature=92)
    stage.expect("CRITICAL", "pause", 0.0, "emergency")
    mock.set(0, temperature=84)
    stage.expect("CRITICAL", "pause", 0.0)
    stage.tell("84 °C is below 85 °C, but not by the hysteresis")
    stage.hold(waits.cooldown_s)
    mock.set(0, temperature=80)
    cool_s = time.monotonic()
    stage.expect("THROTTLED", "throttle", 0.5)
    assert time.monotonic() - cool_s >= waits.cooldown_s, "the cooldown was cut short"
    assert time.monotonic() - paused_s >= waits.pause_s, "the pause was cut short"
    mock.set(0, temperature=73)
    stage.tell("73 °C is below 75 °C, but not by the hysteresis")
    stage.hold(waits.cooldown_s)
    mock.set(0, temperature=70)
    stage.expect("NORMAL", "throttle", 0.8)
    mock.set(0, temperature=45)
    stage.expect("OPTIMAL", "run", 1.0)


def fill(stage: Stage) -> None:
    """From 10 % of VRAM to 97 % and back."""
    mock = stage.mock

    def fill_to(percent: float) -> None:
        mock.set(0, memory_used=int(TOTAL_GIB * GIB * percent / 100))

    fill_to(72)
    stage.expect("NORMAL", "throttle", 0.8)
    fill_to(88)
    stage.expect("THROTTLED", "throttle", 0.5)
    fill_to(97)
    stage.expect("CRITICAL", "pause", 0.0)
    stage.expect_futile()
    fill_to(93)
    stage.tell("93 % is below 95 %, but not by the hysteresis")
    stage.hold(stage.waits.cooldown_s)
    fill_to(91)
    stage.expect("THROTTLED", "throttle", 0.5)
    fill_to(80)
    stage.expect("NORMAL", "throttle", 0.8)
    fill_to(10)
    stage.expect("OPTIMAL", "run", 1.0)
    assert stage.program.cleanups[-1] == "soft", stage.program.cleanups


@contextmanager
def subscribed(socket: Path, channel: str) -> Iterator[list[str]]:
    """A real redis-cli that listens from now on; once it is left, the list holds the lines that it printed."""
    words = ["redis-cli", "-s", str(socket), "SUBSCRIBE", channel]
    lines: list[str] = []
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as listener:
        assert listener.stdout is not None, "it is a pipe"
        try:
            # the answer to SUBSCRIBE: its name, the channel, and how many there are
            lines += [listener.stdout.readline().rstrip() for _ in range(3)]
            yield lines
        finally:
            listener.terminate()
            lines += listener.stdout.read().splitlines()


def newest_events(socket: Path) -> str:
    """What a real redis-cli shows of the newest ten events."""
    words = ["redis-cli", "-s", str(socket), "XREVRANGE", "flyball:events:{0}", "+", "-", "COUNT", "10"]
    shown = subprocess.run(words, capture_output=True, text=True, check=True)
    return shown.stdout


def assert_acknowledged(daemon: Daemon) -> int:
    """Every directive about the card was heard and applied by the program that obeys it; how many there were."""
    directives = [
        directive
        for event in daemon.events("flyball.directive.issued")
        if (directive := event.decode(Directive)).target == "gpu0"
    ]
    acknowledged = {
        (told.directive, told.stage)
        for event in daemon.events("flyball.directive.acknowledged")
        for told in [event.decode(Acknowledged)]
    }
    missing = [
        (directive.reason, stage)
        for directive in directives
        for stage in ("accepted", "applied")
        if (directive.id, stage) not in acknowledged
    ]
    assert not missing, f"not acknowledged: {missing}"
    seqs = [directive.seq for directive in directives]
    assert seqs == sorted(set(seqs)), f"seq went back: {seqs}"
    return len(directives)


def main() -> int:
    """Both stories with the default waits."""
    began_s = time.monotonic()

    def tell(line: str) -> None:
        print(f"{time.monotonic() - began_s:6.1f} s  {line}", flush=True)

    waits = Waits()
    with short_directory() as state:
        state.mkdir(mode=0o700)
        mock = MockNvml(state / "nvml", library=build_library())
        with mock, Daemon(state, waits.config, environ=mock.environment()) as daemon:
            socket, channel = state / "bus.sock", f"flyball:pause:{daemon.host}:gpu0"
            try:
                with subscribed(socket, channel) as heard, Program(daemon.workload_environ) as program:
                    program.next_step()
                    stage = Stage(daemon, mock, program, waits, tell)
                    heat(stage)
                    fill(stage)
                    tell(f"{assert_acknowledged(daemon)} directives, each heard and applied")
            except AssertionError as error:
                tell(f"FAILED: {error}")
                return 1
            print(f"\n$ redis-cli SUBSCRIBE {channel}", *heard, sep="\n")
            print("\n$ redis-cli XREVRANGE 'flyball:events:{0}' + - COUNT 10", newest_events(socket), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
