"""One supervisor speaks for a host: who holds the lease, who gets it next, and that nobody else is heard."""

from collections.abc import Awaitable, Callable

import msgspec
import pytest

from schemas.workload import directive_key
from supervisor.bus import lease
from supervisor.bus.commit import set_demand
from supervisor.bus.keys import samples_key, status_key
from supervisor.errors import BusLost, Fenced, HostTaken
from tests.bus.talk import HOST, Bus, Ear, a_demand, an_event, decided

OTHER = {"pid": 2, "machine_id": "n" * 32}


async def expire(bus: Bus) -> None:
    """Let the lease's time be over."""
    assert await bus.client.hset(bus.lease, "expires_ms", "1") == 0


async def test_the_first_epoch_is_1_and_each_taking_is_a_new_one(bus: Bus) -> None:
    assert bus.epoch == 1
    assert await bus.take() == 2


async def test_the_epoch_is_above_every_one_that_we_know(bus: Bus) -> None:
    assert await bus.take(known=17) == 18
    assert await bus.take(known=3) == 19


async def test_another_one_is_told_who_holds_it(bus: Bus) -> None:
    with pytest.raises(HostTaken, match=r"pid 1 on machine mmmmmmmm.* epoch 1") as caught:
        await bus.take(OTHER)
    assert caught.value.exit_code == 2
    await bus.commit(decided())


async def test_a_holder_known_to_be_dead_is_replaced_at_once(bus: Bus) -> None:
    assert await bus.take(OTHER, dead=True) == 2
    with pytest.raises(Fenced):
        await bus.commit(decided())


async def test_a_lease_whose_time_is_over_is_taken(bus: Bus) -> None:
    await expire(bus)
    assert await bus.take(OTHER) == 2


async def test_a_lease_that_is_renewed_does_not_end(bus: Bus) -> None:
    await expire(bus)
    await lease.renew(bus.connection, HOST, bus.epoch)
    with pytest.raises(HostTaken):
        await bus.take(OTHER)
    seconds, microseconds = await bus.client.time()
    expires_ms = int(await bus.client.hget(bus.lease, "expires_ms"))
    left_s = expires_ms / 1000 - (seconds + microseconds / 1e6)
    assert lease.LEASE_TTL_S - 5 < left_s <= lease.LEASE_TTL_S


async def test_what_is_given_up_is_free_and_a_new_epoch_for_anybody(bus: Bus) -> None:
    await lease.release(bus.connection, HOST, bus.epoch)
    assert await bus.take(OTHER) == 2
    await lease.release(bus.connection, HOST, 2)
    assert await bus.take() == 3
    await bus.commit(decided(), epoch=3)
    with pytest.raises(Fenced):
        await bus.commit(decided(), epoch=2)


async def test_our_own_word_of_just_before_is_still_heard(bus: Bus) -> None:
    before, bus.epoch = bus.epoch, await bus.take()
    (directive,) = await bus.commit(decided(demands=[set_demand(a_demand())]), epoch=before)
    assert directive.seq >> 32 == bus.epoch


async def test_an_epoch_that_nobody_was_given_is_refused(bus: Bus) -> None:
    with pytest.raises(Fenced):
        await bus.commit(decided(), epoch=bus.epoch + 1)


async def test_after_the_loss_of_all_data_our_word_in_flight_is_still_ours(bus: Bus) -> None:
    before = bus.epoch
    await bus.client.flushall()
    with pytest.raises(BusLost, match="lost its data"):
        await bus.commit(decided())
    bus.epoch = await bus.take(known=before)
    await bus.commit(decided(events=[an_event(1)]), epoch=before)
    assert len(await bus.events()) == 1


async def test_junk_in_the_place_of_the_holder_is_a_holder_without_a_name(bus: Bus) -> None:
    await bus.client.hset(bus.lease, "holder", "{junk")
    with pytest.raises(HostTaken, match=r"pid \?"):
        await bus.take(OTHER, dead=True)


async def test_only_one_of_two_replaces_a_dead_holder(bus: Bus) -> None:
    await bus.connection.open()
    third = {"pid": 3, "machine_id": "o" * 32}
    key = [bus.lease]
    reply = await bus.connection.call("acquire", key, msgspec.json.encode(third), 15_000, "1", 0)
    assert reply == [1, b"2"]
    reply = await bus.connection.call("acquire", key, msgspec.json.encode(OTHER), 15_000, "1", 0)
    assert reply[:2] == [0, b"2"]


Speech = Callable[[Bus], Awaitable[object]]
SPEECH: dict[str, Speech] = {
    "commit": lambda bus: bus.commit(decided(token="t", events=[an_event(1)], demands=[set_demand(a_demand())])),
    "publish": lambda bus: bus.publish(1),
    "announce": lambda bus: bus.connection.call("announce", [bus.lease, directive_key(HOST, "host")], bus.epoch),
    "renew": lambda bus: lease.renew(bus.connection, HOST, bus.epoch),
    "release": lambda bus: lease.release(bus.connection, HOST, bus.epoch),
    "report": lambda bus: lease.report(bus.connection, HOST, bus.epoch, b"{}", 15),
    "unreport": lambda bus: lease.report(bus.connection, HOST, bus.epoch, b"", 0),
}


@pytest.mark.parametrize("speech", SPEECH)
async def test_who_lost_the_lease_says_nothing_more(bus: Bus, speech: str) -> None:
    await bus.demand(a_demand(target="host"))
    await lease.report(bus.connection, HOST, bus.epoch, b"the first one's", 15)
    assert await bus.take(OTHER, dead=True) == 2
    await lease.report(bus.connection, HOST, 2, b"the second one's", 15)
    before = await bus.client.hgetall(bus.lease)
    said = await bus.events()
    async with Ear(bus.client, "host") as ear:
        with pytest.raises(Fenced, match="at epoch 2, not 1") as caught:
            await SPEECH[speech](bus)
        assert await ear.heard() == []
    assert caught.value.exit_code == 2
    assert await bus.events() == said
    assert await bus.retained() is None
    assert await bus.client.get(status_key(HOST)) == b"the second one's"
    assert not await bus.client.exists(samples_key(), "flyball:idempotency:{0}:t")
    assert await bus.client.hgetall(bus.lease) == before


async def test_the_status_goes_by_itself(bus: Bus) -> None:
    await lease.report(bus.connection, HOST, bus.epoch, b"{}", 15)
    assert 0 < await bus.client.pttl(status_key(HOST)) <= 15_000
    await lease.report(bus.connection, HOST, bus.epoch, b"", 0)
    assert not await bus.client.exists(status_key(HOST))


async def test_junk_in_the_place_of_the_lease_is_taken_over(bus: Bus) -> None:
    await bus.client.delete(bus.lease)
    await bus.client.hset(
        bus.lease, mapping={"epoch": "?", "expires_ms": "soon", "oldest": "?", "tick": "?", "boot": "boot"}
    )
    bus.epoch = await bus.take(known=7)
    assert bus.epoch == 8
    assert await bus.publish(1)
