"""The ladder behind the door of every handler."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.throttle.handler import Throttle
from handlers.throttle.policy import Governor
from handlers.throttle.settings import Settings
from schemas.demand import Demand
from schemas.envelope import Event, MalformedEntry
from schemas.event import EVENT_TYPES
from schemas.sample import Sample
from supervisor.handler import Decisions, Withdrawal
from tests.handlers.samples import context, event, gpu, host, sample, sampled


def throttle() -> Throttle:
    return Throttle(Settings(), ())


async def feed(handler: Throttle, one: Sample, *, replaying: bool = False) -> Decisions | None:
    return await handler.handle(sampled(one), context(one.monotonic_s, replaying=replaying))


async def test_a_change_of_state_comes_with_its_demand() -> None:
    decisions = await feed(throttle(), sample(1, [gpu(81), gpu(40, index=1)], figures=host(96)))
    assert decisions is not None
    assert [draft.type for draft in decisions.events] == [
        "flyball.gpu.state_changed",
        "flyball.gpu.state_changed",
        "flyball.host.state_changed",
    ]
    assert [(one.target, one.speed) for one in decisions.demands if isinstance(one, Demand)] == [
        ("gpu0", 0.5),
        ("gpu1", 1.0),
        ("host", 0.0),
    ]
    for draft, demand in zip(decisions.events, decisions.demands, strict=True):
        assert isinstance(draft.data, EVENT_TYPES[draft.type]) and draft.subject == demand.target
        assert isinstance(demand, Demand) and demand.cause == sample(1).id


async def test_nothing_new_is_nothing() -> None:
    handler = throttle()
    await feed(handler, sample(1, [gpu(50)]))
    assert await feed(handler, sample(2, [gpu(51)])) is None


async def test_samples_of_other_hosts_are_not_ours() -> None:
    handler = throttle()
    assert await feed(handler, sample(1, [gpu(99)], host="other")) is None
    assert handler.view() == {"targets": {}}


async def test_what_is_no_sample_is_malformed() -> None:
    with pytest.raises(MalformedEntry):
        await throttle().handle(event("flyball.host.sampled", {"host": 1}), context())


async def test_a_card_that_is_gone_is_withdrawn() -> None:
    handler = throttle()
    await feed(handler, sample(1, [gpu(50), gpu(50, index=1)]))
    decisions = [await feed(handler, sample(second, [gpu(50)])) for second in (2, 3, 4)]
    assert decisions[:2] == [None, None] and decisions[2] is not None
    assert decisions[2].demands == [Withdrawal("throttle", "gpu1")]


async def test_silence_is_noticed_without_a_sample_but_our_own_is_not_held_against_others() -> None:
    handler = throttle()
    await feed(handler, sample(10, [gpu(50)]))
    assert handler.tick(context(60)) is None  # we only just woke up
    assert handler.tick(context(62)) is None
    decisions = handler.tick(context(63.5))
    assert decisions is not None and "gpu0 is BLIND" in decisions.events[0].text
    assert handler.view()["targets"]["gpu0"]["state"] == "BLIND"


async def test_a_tick_of_another_boot_measures_nothing() -> None:
    handler = throttle()
    await feed(handler, sample(10, [gpu(50)]))
    for second in (100, 102, 104):
        assert handler.tick(context(second, boot_id="another")) is None


async def test_it_knows_what_it_demands_after_a_restart_too() -> None:
    before, after = throttle(), throttle()
    assert before.demands() == []
    await feed(before, sample(1, [gpu(80), gpu(40, index=1)]))
    after.restore(before.snapshot())
    assert await feed(after, sample(2, [gpu(80), gpu(70, index=1)]), replaying=True) is not None
    assert [(one.target, one.speed) for one in after.demands()] == [("gpu0", 0.5), ("gpu1", 0.8)]


async def test_a_pause_survives_a_restart() -> None:
    handler = throttle()
    await feed(handler, sample(1, [gpu(86)]))
    for second in range(2, 61):
        if second == 30:
            stored, handler = handler.snapshot(), throttle()
            handler.restore(stored)
        assert await feed(handler, sample(second, [gpu(50)])) is None
    decisions = await feed(handler, sample(61, [gpu(50)]))
    assert decisions is not None and "THROTTLED (was CRITICAL)" in decisions.events[0].text


async def test_an_emergency_of_before_a_restart_is_demanded_again_only_once_it_is_proven() -> None:
    before, after = throttle(), throttle()
    for second in (1, 2):
        await feed(before, sample(second, [gpu(92)]))
    assert [one.cleanup for one in before.demands()] == ["emergency"]
    after.restore(before.snapshot())
    assert [(one.speed, one.cleanup) for one in after.demands()] == [(0.0, "none")]
    assert [one.cleanup for one in before.demands()] == ["emergency"]
    await feed(after, sample(3, [gpu(92)]))
    assert [one.cleanup for one in after.demands()] == ["none"]
    decisions = await feed(after, sample(4, [gpu(92)]))
    assert decisions is not None and "emergency cleanup" in decisions.events[0].text
    assert [one.cleanup for one in after.demands()] == ["emergency"]


async def test_what_a_demo_left_behind_is_withdrawn_by_the_first_real_sample() -> None:
    demo, real = throttle(), throttle()
    await feed(demo, sample(1, [gpu(92)], figures=host(20), simulated=True))
    real.restore(demo.snapshot())
    decisions = await feed(real, sample(2, figures=host(20)))
    assert decisions is not None
    assert Withdrawal("throttle", "gpu0") in decisions.demands
    assert list(real.view()["targets"]) == ["host"]


async def test_the_view_says_since_when_and_what_it_waits_for() -> None:
    handler = throttle()
    await feed(handler, sample(1, [gpu(86)]))
    assert handler.view()["targets"]["gpu0"] == {
        "state": "CRITICAL",
        "reason": "CRITICAL since 12:00:00 UTC: 86 °C is above 85 °C; "
        "up after 60 s at 82 °C and 92 % of memory or below",
    }


async def test_missed_samples_start_the_cooldown_again() -> None:
    handler = throttle()
    await feed(handler, sample(1, [gpu(76)]))
    for second in range(2, 32):
        await feed(handler, sample(second, [gpu(50)]))
    assert handler.missed("samples", context(31)) is None
    assert await feed(handler, sample(32, [gpu(50)])) is None


@pytest.mark.parametrize("stored", [b"", b"\xff", b"\x01", msgspec.msgpack.encode(Governor(version=2))])
def test_an_unusable_snapshot_is_refused(stored: bytes) -> None:
    with pytest.raises(ValueError):
        throttle().restore(stored)


def test_the_edges_are_where_critical_begins() -> None:
    edges = Throttle(Settings(temp_throttle=80.0), ()).edges()
    assert {(edge.figure, edge.value, edge.margin) for edge in edges} == {
        ("temperature_celsius", 80.0, 5.0),
        ("memory_used_percent", 95.0, 5.0),
        ("host_memory_used_percent", 95.0, 5.0),
    }


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False), st.text(max_size=5)
)
fields = st.dictionaries(
    st.sampled_from([*Sample.__struct_fields__, *type(gpu()).__struct_fields__]),
    st.one_of(scalars, st.lists(scalars, max_size=2)),
    max_size=8,
)


@given(fields, st.lists(fields, max_size=2))
async def test_whatever_the_schema_accepts_can_be_decided_on(
    top: dict[str, object], cards: list[dict[str, object]]
) -> None:
    base = msgspec.to_builtins(sample(1, [gpu()]))
    base["gpus"] = [msgspec.to_builtins(gpu()) | card for card in cards]
    data = msgspec.json.encode(base | top)
    handler = throttle()
    await feed(handler, sample(0.5, [gpu()]))
    try:
        await handler.handle(Event("id", "flyball.host.sampled", "s", "s", "t", "", data), context(1))
    except MalformedEntry:
        with pytest.raises(msgspec.DecodeError):
            msgspec.json.decode(data, type=Sample)
    handler.tick(context(9))
    handler.tick(context(11))
