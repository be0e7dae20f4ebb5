"""The directive that stands is what the demands come to, is said when it changes, and is the same everywhere."""

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.demand import Demand, standing
from schemas.workload import Directive, directive_key
from supervisor.bus.commit import DemandChange, set_demand
from supervisor.bus.keys import demands_key
from tests.bus.talk import HOST, Bus, Ear, a_demand, as_json, decided

#: What breaks what is glued together by hand.
NASTY = [
    'quoted "reason"', "back\\slash \\n \\u0041", "line\nbreak\r\n\ttab", "Ärger 🔥 in 机", "\x01\x1f\x7f", "'; --", "",
    "100 % of {0}",
    '","speed":1,"x":"',
]  # fmt: skip

issuers = st.sampled_from(["throttle", "operator", "guard", "Guard", "guard.2", "xid-79", "a", "B", "ä"])
speeds = st.sampled_from([0.0, 0.25, 0.5, 0.5001, 1 / 3, 1.0]) | st.floats(0, 1)
demands = st.builds(
    Demand,
    issuer=issuers,
    target=st.just("gpu0"),
    action=st.sampled_from(["run", "throttle", "pause"]),
    speed=speeds,
    cleanup=st.sampled_from(["none", "soft", "hard", "emergency"]),
    reason=st.text(st.characters(exclude_categories=["Cs"])),
    cause=st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    overrides=st.booleans(),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=st.lists(demands, max_size=6, unique_by=lambda demand: demand.issuer))
async def test_the_server_derives_what_the_schema_says(bus: Bus, said: list[Demand]) -> None:
    await bus.client.delete(demands_key(HOST, "gpu0"), directive_key(HOST, "gpu0"))
    await bus.demand(*said)
    retained = await bus.retained()
    expected = standing(said)
    if expected is None:
        assert retained is None
        return
    assert retained is not None
    assert retained.speed == float(f"{expected.speed:.4g}")
    assert (retained.action, retained.cleanup, retained.reason, retained.cause) == (
        expected.action, expected.cleanup, expected.reason, expected.cause or "input-1"
    )  # fmt: skip


@pytest.mark.parametrize("reason", NASTY)
async def test_hash_message_event_and_answer_are_one(bus: Bus, reason: str) -> None:
    async with Ear(bus.client) as ear:
        (answered,) = await bus.demand(a_demand(0, reason=reason, cause=reason or "sample"))
        messages = await ear.heard()
        await bus.connection.call("announce", [bus.lease, directive_key(HOST, "gpu0")], bus.epoch)
        again = await ear.heard()
    (event,) = await bus.events()
    assert answered.reason == reason
    assert await bus.retained() == answered
    assert event.decode(Directive) == answered
    assert event.id == answered.id
    assert event.subject == "gpu0"
    assert [channel for channel, _ in messages] == ["throttle", "pause"]
    assert {data for _, data in messages} == {event.data}
    assert [(channel, msgspec.json.decode(data)) for channel, data in again] == [("throttle", as_json(answered))]


async def test_what_it_says_to_people(bus: Bus) -> None:
    await bus.demand(a_demand(0.5, reason="79 °C", cleanup="soft"))
    await bus.demand(a_demand(0, reason="93 °C"))
    await bus.withdraw("gpu0", "throttle")
    assert [event.text for event in await bus.events()] == [
        "gpu0: throttle to speed 0.5, soft cleanup; 79 °C",
        "gpu0: pause; 93 °C",
        "gpu0: run; nobody demands anything",
    ]


async def test_channels_hear_changes_only(bus: Bus) -> None:
    async with Ear(bus.client) as ear:
        for speed in (1.0, 0.5, 0.5, 0.0, 0.0, 0.5, 1.0):
            await bus.demand(a_demand(speed))
        await bus.withdraw("gpu0", "throttle")
        await bus.withdraw("gpu0", "throttle")
        heard = await ear.heard()
    said = [(channel, msgspec.json.decode(data, type=Directive)) for channel, data in heard]
    assert [(channel, directive.action, directive.speed) for channel, directive in said] == [
        ("throttle", "run", 1), ("throttle", "throttle", 0.5),
        ("throttle", "pause", 0), ("pause", "pause", 0),
        ("throttle", "throttle", 0.5), ("pause", "throttle", 0.5),
        ("throttle", "run", 1), ("throttle", "run", 1),
    ]  # fmt: skip
    assert said[-1][1].reason == "nobody demands anything"


async def test_only_the_issuer_withdraws(bus: Bus) -> None:
    await bus.demand(a_demand(0.5), a_demand(0.2, "guard"))
    assert await bus.withdraw("gpu0", "operator") == []
    (directive,) = await bus.withdraw("gpu0", "guard")
    assert directive.speed == 0.5


async def test_a_new_cause_alone_changes_nothing(bus: Bus) -> None:
    await bus.demand(a_demand(cause="sample-1"))
    assert await bus.demand(a_demand(cause="sample-2")) == []


async def test_each_target_has_its_own(bus: Bus) -> None:
    await bus.demand(a_demand(0.5), a_demand(0, target="host"), a_demand(1, target="workload.trainer"))
    standing_now = [await bus.retained(target) for target in ("gpu0", "host", "workload.trainer")]
    assert [directive and directive.speed for directive in standing_now] == [0.5, 0, 1]
    assert all(directive and directive.seq == (bus.epoch << 32) + 1 for directive in standing_now)


async def test_within_a_commit_the_last_word_counts(bus: Bus) -> None:
    changes = [DemandChange("gpu0", "throttle", ""), set_demand(a_demand(0.3)), set_demand(a_demand(0.7))]
    (directive,) = await bus.commit(decided(demands=changes))
    assert directive.speed == 0.7


async def test_seq_only_grows(bus: Bus) -> None:
    seen = []
    for round_ in range(3):
        for speed in (0.5, 0.0, 1.0):
            seen += [directive.seq for directive in await bus.demand(a_demand(speed, reason=str(round_)))]
        bus.epoch = await bus.take()
    assert seen == sorted(set(seen))
    assert [seq >> 32 for seq in seen] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert [seq & 0xFFFFFFFF for seq in seen] == [1, 2, 3] * 3


async def test_seq_grows_over_the_loss_of_all_data(bus: Bus) -> None:
    bus.epoch = await bus.take(known=40)
    (before,) = await bus.demand(a_demand(0.5))
    await bus.client.flushall()
    bus.epoch = await bus.take(known=bus.epoch)
    (after,) = await bus.demand(a_demand(0.5))
    assert after.seq > before.seq


async def test_seq_grows_over_the_loss_of_the_last_writes(bus: Bus) -> None:
    """What a server killed in the middle of a flush forgot, subscribers may have heard."""
    await bus.demand(a_demand(0.5))
    kept = await bus.client.dump(directive_key(HOST, "gpu0"))
    (heard,) = await bus.demand(a_demand(0))
    await bus.client.restore(directive_key(HOST, "gpu0"), 0, kept, replace=True)
    bus.epoch = await bus.take()
    (after,) = await bus.demand(a_demand(0.7))
    assert after.seq > heard.seq


async def test_seq_is_exact_at_high_epochs(bus: Bus) -> None:
    bus.epoch = await bus.take(known=(1 << 21) - 2)
    seqs = [(await bus.demand(a_demand(speed)))[0].seq for speed in (0.1, 0.2, 0.3)]
    assert seqs == [(((1 << 21) - 1) << 32) + n for n in (1, 2, 3)]


@pytest.mark.parametrize(
    "junk",
    ["not json", "[]", "null", "{}", '{"issuer":"x","speed":"fast","action":"run"}',
     '{"issuer":"x","speed":0.1,"action":"explode"}',
     '{"issuer":"x","speed":-3,"action":"pause"}', '{"issuer":7,"speed":0,"action":"pause"}'],
)  # fmt: skip
async def test_junk_among_the_demands_silences_nobody(bus: Bus, junk: str) -> None:
    await bus.client.hset(demands_key(HOST, "gpu0"), "x", junk)
    (directive,) = await bus.demand(a_demand(0.5))
    assert directive.speed == 0.5


async def test_a_demand_of_a_later_version_is_understood_as_far_as_it_goes(bus: Bus) -> None:
    text = '{"issuer":"guard","speed":0.1,"action":"throttle","cleanup":"gentle","reason":null,"news":[1]}'
    await bus.client.hset(demands_key(HOST, "gpu0"), "guard", text)
    (directive,) = await bus.demand(a_demand(0.5))
    assert (directive.speed, directive.cleanup, directive.reason) == (0.1, "none", "")


async def test_junk_in_the_place_of_a_directive_is_written_over(bus: Bus) -> None:
    key = directive_key(HOST, "gpu0")
    await bus.client.hset(key, mapping={"seq": "many", "speed": "fast", "action": "sing"})
    assert await bus.connection.call("announce", [bus.lease, key], bus.epoch) == 0
    (directive,) = await bus.demand(a_demand(0.5))
    assert await bus.retained() == directive
    assert directive.seq == (bus.epoch << 32) + 1
    assert await bus.connection.call("announce", [bus.lease, key], bus.epoch) == 1
