"""What people read: the verdict on each resource, and the line that is rewritten."""

import io
import sys

import pytest

from handlers.leak.commands.tracing.progress import Progress
from handlers.leak.commands.tracing.wording import described, gravest, moment
from schemas.leak import Cause, Interval, Jump, Verdict
from supervisor.command import Look

MB = 2**20
LOOK = Look(
    pids=(7, 8), threads=12, rss_bytes=345 * MB, rss_anon_bytes=MB, vms_bytes=MB, handles=None, cpu_s=1.0
)  # fmt: skip
LEAK = Verdict(
    resource="threads", stage="confirmed", at_s=60, since_s=12.2, rate_per_s=Interval(0.5, 0.45, 0.55),
    cause=Cause(driver="calls.add_sections", per_call=Interval(1.0, 0.98, 1.02), explained=0.97),
    jumps=(Jump(at_s=11, amount=34, first_call="calls.add_sections"), Jump(at_s=90, amount=-3)),
)  # fmt: skip


def test_a_leak_with_its_driver_and_jumps() -> None:
    assert list(described({"threads": LEAK})) == [
        "threads  confirmed · since 12 s · grows by 30 a min (27 to 33)"
        " · driven by calls.add_sections: 1 (0.98 to 1.02) a call, which explains 97%",
        "         jump of +34 at 11 s, at the first call of add_sections",
        "         jump of -3 at 1:30",
    ]


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        (Cause(driver="time"), "driven by time alone"),
        (Cause(driver="threads", per_call=Interval(MB, MB, 2 * MB), through="calls.add"),
         "driven by threads: 1 MB (1 to 2) a thread; behind it stands calls.add"),
        (Cause(driver="calls.add", alike=("time",), tell_apart="pause the calls for 2 min"),
         "driver unidentifiable (calls.add and time move together); pause the calls for 2 min"),
        (Cause(driver="gauge.children", per_call=Interval(5 * MB, 4 * MB, 6 * MB)),
         "driven by gauge.children: 5 MB (4 to 6) a unit"),
    ],
)  # fmt: skip
def test_a_cause(cause: Cause, said: str) -> None:
    (line,) = described({"rss": Verdict(resource="rss", stage="suspected", cause=cause)})
    assert line == f"rss  suspected · {said}"


def test_what_is_not_decided_yet_says_until_when() -> None:
    verdicts = {
        "rss": Verdict(resource="rss", stage="warming", undecided_until_s=185.0, reason="it grows ever slower"),
        "threads": Verdict(resource="threads", stage="steady", rate_per_s=Interval(0, 0, 0)),
    }
    assert list(described(verdicts)) == [  # type: ignore[arg-type]
        "rss      warming · undecided until 3:05 · it grows ever slower",
        "threads  steady",
    ]


def test_the_gravest() -> None:
    assert gravest([]) is None
    found = gravest([Verdict(resource="rss", stage="warming"), LEAK, Verdict(resource="vms", stage="suspected")])
    assert found is LEAK


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1:00"), (185, "3:05"), (3723, "1:02:03")]
)
def test_a_moment(seconds: float, said: str) -> None:
    assert moment(seconds) == said


class Terminal(io.StringIO):
    """A terminal of 70 columns, as far as text goes."""

    def isatty(self) -> bool:
        return True


def on_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """It is standard error from now on; pytest takes it back between a fixture and the test."""
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setenv("COLUMNS", "70")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return terminal


def test_a_leak_is_red_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_terminal(monkeypatch)
    Progress(quiet=False).show(60, LOOK, {}, {"threads": LEAK})
    assert terminal.getvalue() == "\r\x1b[K1:00 · 345.0 MB · 12 threads · ? handles · \x1b[31mthreads confirmed\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    terminal.truncate(0)
    Progress(quiet=False).show(60, LOOK, {}, {"threads": LEAK})
    assert "\x1b[31m" not in terminal.getvalue()


def test_a_line_is_never_wider_than_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """It could not be taken back."""
    terminal = on_terminal(monkeypatch)
    Progress(quiet=False).show(60, LOOK, {"a_method_with_a_long_name": 1e6}, {"threads": LEAK})
    line = terminal.getvalue().removeprefix("\r\x1b[K").replace("\x1b[31m", "").replace("\x1b[0m", "")
    assert len(line) == 69


def test_a_terminal_is_not_rewritten_too_often(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_terminal(monkeypatch)
    progress = Progress(quiet=False)
    for tick in range(11):
        progress.show(tick / 10, LOOK, {}, {})
    assert terminal.getvalue().count("\r\x1b[K") == 3


def test_elsewhere_a_line_comes_each_half_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", heard := io.StringIO())
    progress = Progress(quiet=False)
    for second in range(100):
        progress.show(second, LOOK, {"add": second, "requests.completed": 5}, {})
    assert heard.getvalue().splitlines() == [
        f"flyball: {at} · 345.0 MB · 12 threads · ? handles · add {second}"
        for at, second in (("30 s", 30), ("1:00", 60), ("1:30", 90))
    ]
