"""What the quiet hours decide, without a daemon: the policy with a time, and the handler with a sample."""

from datetime import datetime, time

import msgspec
import pytest
from quiet_hours.event import CHANGED, QuietHoursChanged
from quiet_hours.handler import QuietHours
from quiet_hours.policy import Change, State, decide, is_quiet
from quiet_hours.settings import Settings

from schemas.envelope import Event
from schemas.sample import Gpu, Sample
from supervisor.handler import Context, Decisions, Withdrawal

NIGHT = Settings(begins="22:00", ends="07:00", speed=0.4)


@pytest.mark.parametrize(
    ("at", "quiet"), [("21:59", False), ("22:00", True), ("00:00", True), ("06:59:59", True), ("07:00", False)]
)
def test_hours_over_midnight(at: str, quiet: bool) -> None:
    """The end is no part of them."""
    assert is_quiet(NIGHT, time.fromisoformat(at)) is quiet


@pytest.mark.parametrize(("at", "quiet"), [("11:59", False), ("12:00", True), ("13:59", True), ("14:00", False)])
def test_hours_within_a_day(at: str, quiet: bool) -> None:
    """They need not run over midnight."""
    assert is_quiet(Settings(begins="12:00", ends="14:00"), time.fromisoformat(at)) is quiet


def test_only_changes_are_demanded() -> None:
    """A card that comes later is quiet, too; with the hours all demands end."""
    state, night = State(), time(23)
    assert decide(state, NIGHT, ["gpu0"], time(12)) is None
    assert decide(state, NIGHT, ["gpu0"], night) == Change({"gpu0": 0.4}, ())
    assert decide(state, NIGHT, ["gpu0"], night) is None
    assert decide(state, NIGHT, ["gpu0", "gpu1"], night) == Change({"gpu1": 0.4}, ())
    assert decide(state, NIGHT, [], time(12)) == Change({}, ("gpu0", "gpu1"))
    assert state.speeds == {}


def test_problems_name_the_key() -> None:
    """The supervisor puts the section and where the value came from before it."""
    wrong = Settings(begins="25:00", ends="x", speed=0, time_zone="Mars/Olympus")
    assert [problem.partition(":")[0] for problem in wrong.problems()] == ["begins", "ends", "speed", "time_zone"]
    assert Settings(begins="07:00").problems() == [
        "ends: 07:00 is when it begins, so it would never be quiet; choose another time"
    ]
    assert NIGHT.problems() == []


def sampled(tick: int, cards: int = 1) -> Event:
    """A sample of `box` as its stream carries it."""
    gpus = tuple(Gpu(index=index, uuid=f"GPU-{index}") for index in range(cards))
    sample = Sample(host="box", boot_id="b" * 36, tick=tick, time="", monotonic_s=tick, interval_s=1, gpus=gpus)
    return Event(sample.id, "flyball.host.sampled", "box/sampler", "box", "", "", msgspec.json.encode(sample))


def at(hour: int) -> Context:
    """What surrounds an input at that hour of the machine's own time zone."""
    wall_s = datetime(2026, 11, 21, hour).astimezone().timestamp()
    return Context(host="box", boot_id="b" * 36, stream="samples", entry="1-0", wall_s=wall_s, monotonic_s=1.0)


async def decided(handler: QuietHours, event: Event, context: Context) -> Decisions:
    """What it decides, which is something."""
    decisions = await handler.handle(event, context)
    assert decisions is not None
    return decisions


async def test_a_night() -> None:
    """What is said and demanded when it begins, and when it is over."""
    handler = QuietHours(NIGHT, ())
    assert await handler.handle(sampled(1), at(21)) is None
    begun = await decided(handler, sampled(2), at(22))
    (said,) = begun.events
    assert (said.type, said.text) == (CHANGED, "quiet hours until 07:00: gpu0 at speed 0.4")
    assert isinstance(said.data, QuietHoursChanged) and said.data.quiet
    assert [(one.target, one.speed) for one in handler.demands()] == [("gpu0", 0.4)]
    over = await decided(handler, sampled(3), at(7))
    assert over.events[0].text == "quiet hours are over: nothing is demanded of gpu0"
    assert over.demands == [Withdrawal("quiet_hours", "gpu0")]
    assert handler.demands() == []


async def test_a_restart_in_the_night_says_nothing_twice() -> None:
    """The snapshot knows what is demanded; the runtime demands it again."""
    before, after = QuietHours(NIGHT, ()), QuietHours(NIGHT, ())
    await decided(before, sampled(1), at(23))
    after.restore(before.snapshot())
    assert await after.handle(sampled(2), at(23)) is None
    assert [demand.target for demand in after.demands()] == ["gpu0"]
    with pytest.raises(ValueError, match="State"):
        after.restore(b"of something else")


async def test_other_settings_hold_at_the_next_sample() -> None:
    """As after a change through the API."""
    handler = QuietHours(NIGHT, ())
    await decided(handler, sampled(1), at(23))
    assert handler.reconfigure(Settings(begins="22:00", ends="07:00", speed=0.2))
    assert "at speed 0.2" in (await decided(handler, sampled(2), at(23))).events[0].text
