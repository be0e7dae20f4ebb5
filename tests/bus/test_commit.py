"""A commit happens as a whole, once, whatever is sent how often."""

import pytest

from schemas.envelope import event_id
from supervisor.bus.commit import Acknowledge, Append, Commit, HashChange, from_bytes, set_demand, to_bytes
from supervisor.bus.keys import commands_key, dead_key, events_key, inbox_key, record_key
from supervisor.errors import BusError
from tests.bus.talk import HOST, Bus, a_demand, an_event, decided

GROUP = "throttle.box"


async def pending(bus: Bus) -> int:
    return int((await bus.client.xpending(inbox_key(), GROUP))["pending"])


async def delivered(bus: Bus) -> str:
    """An entry of the inbox that the group has in hand."""
    entry = await bus.client.xadd(inbox_key(), {"n": 1})
    await bus.client.xgroup_create(inbox_key(), GROUP, "0")
    await bus.client.xreadgroup(GROUP, "flyball", {inbox_key(): ">"})
    assert await pending(bus) == 1
    return str(entry.decode())


async def test_everything_is_in_one_step(bus: Bus) -> None:
    entry = await delivered(bus)
    key = record_key("override", "gpu0")
    (directive,) = await bus.commit(
        decided(
            token="t", events=[an_event(1), an_event(2)], appends=[Append(dead_key(), 100, ["why", "so"])],
            demands=[set_demand(a_demand())], hashes=[HashChange(key, ["who", "me"], 60_000)],
            acknowledges=[Acknowledge(inbox_key(), GROUP, [entry])],
        )
    )  # fmt: skip
    assert [event.id for event in await bus.events()] == ["event-1", "event-2", directive.id]
    assert [fields for _, fields in await bus.client.xrange(dead_key())] == [{b"why": b"so"}]
    assert await bus.client.hgetall(key) == {b"who": b"me"}
    assert 0 < await bus.client.pttl(key) <= 60_000
    assert directive == await bus.retained()
    assert await pending(bus) == 0


async def test_the_same_again_does_nothing_but_acknowledge(bus: Bus) -> None:
    entry = await delivered(bus)
    commit = decided(token="t", events=[an_event(1)], demands=[set_demand(a_demand())])
    assert len(await bus.commit(commit)) == 1
    said = await bus.events()
    again = decided(
        token="t", events=[an_event(1)], demands=[set_demand(a_demand(0.1))],
        acknowledges=[Acknowledge(inbox_key(), GROUP, [entry])],
    )  # fmt: skip
    assert await bus.commit(again) == []
    assert await bus.events() == said
    assert (await bus.retained() or a_demand()).speed == 0.5
    assert await pending(bus) == 0


async def test_without_a_token_it_is_done_each_time(bus: Bus) -> None:
    for _ in range(2):
        await bus.commit(decided(events=[an_event(1)]))
    assert len(await bus.events()) == 2


async def test_a_token_lives_for_an_hour(bus: Bus) -> None:
    await bus.commit(decided(token="t"))
    assert 3_500_000 < await bus.client.pttl("flyball:idempotency:{0}:t") <= 3_600_000


async def test_ids_follow_from_the_input(bus: Bus) -> None:
    first, second = await bus.commit(
        decided(
            input_id="sample-7", events=[an_event(1)],
            demands=[set_demand(a_demand()), set_demand(a_demand(0, target="gpu1"))],
        )
    )  # fmt: skip
    assert first.id == event_id(f"{HOST}/test", "sample-7", 1)
    assert second.id == event_id(f"{HOST}/test", "sample-7", 2)
    assert first.cause == second.cause == "sample-7"


async def test_a_hash_is_deleted_by_no_fields(bus: Bus) -> None:
    key = record_key("workload", "trainer")
    await bus.commit(decided(hashes=[HashChange(key, ["a", "1", "b", "2"])]))
    assert await bus.client.pttl(key) == -1
    await bus.commit(decided(hashes=[HashChange(key, [])]))
    assert not await bus.client.exists(key)


async def test_a_command_goes_to_its_host(bus: Bus) -> None:
    await bus.commit(decided(appends=[Append(commands_key("other"), 10, ["id", "c"])]))
    assert await bus.client.xlen(commands_key("other")) == 1


async def test_streams_keep_about_what_they_should(bus: Bus) -> None:
    for number in range(30):
        await bus.commit(
            decided(appends=[Append(dead_key(), 100, ["n", str(n)]) for n in range(20)], input_id=str(number))
        )
    assert 100 <= await bus.client.xlen(dead_key()) < 300


async def test_what_it_makes_of_text_is_text(bus: Bus) -> None:
    text = 'he said "no\\n", Ärger 🔥\n\t\x01\x7f/'
    event = an_event(1)
    changed = type(event)(event.id, event.type, event.source, text, event.time, text, b'{"a":"\xc3\xa4"}')
    await bus.commit(decided(events=[changed]))
    assert await bus.events() == [changed]


async def test_the_spool_gives_back_what_it_got(bus: Bus) -> None:
    commit = decided(
        token="t", events=[an_event(1)], demands=[set_demand(a_demand())], hashes=[HashChange("k", ["a", "b"], 5)],
        acknowledges=[Acknowledge("s", "g", ["1-0"])],
    )  # fmt: skip
    again = from_bytes(to_bytes(commit))
    assert again.appends == list(commit.appends)
    assert (again.token, again.ordinal, again.demands, again.hashes, again.acknowledges) == (
        commit.token, commit.ordinal, list(commit.demands), list(commit.hashes), list(commit.acknowledges)
    )  # fmt: skip
    assert bus.command(again) == bus.command(commit)


async def test_a_commit_that_is_refused_says_why_and_leaves_the_connection_in_step(bus: Bus) -> None:
    await bus.client.set(events_key(), "not a stream")
    good = decided(hashes=[HashChange(record_key("override", "x"), ["a", "1"])])
    await bus.connection.send(bus.command(decided(events=[an_event(1)])), bus.command(good))
    refused, done = await bus.connection.replies(2)
    assert isinstance(refused, BusError)
    assert "WRONGTYPE" in str(refused)
    assert done == [1, [], []]
    assert await bus.connection.ask("ECHO", "in step") == b"in step"


@pytest.mark.parametrize("empty", [decided(), decided(token="t")])
async def test_an_empty_commit_is_allowed(bus: Bus, empty: Commit) -> None:
    assert await bus.commit(empty) == []
