"""Samples: each tick once, and no older than is wanted by the server's own time."""

from schemas.envelope import event_from_entry
from supervisor.bus.keys import samples_key
from tests.bus.talk import Bus


async def ids(bus: Bus) -> list[str]:
    return [event_from_entry(fields).id for _, fields in await bus.client.xrange(samples_key())]


async def test_a_tick_is_published_once(bus: Bus) -> None:
    first = await bus.publish(1)
    assert await bus.publish(1) == b""
    assert await bus.publish(2) > first
    assert await bus.publish(1) == b""
    assert await ids(bus) == ["box/boot/1", "box/boot/2"]


async def test_ticks_begin_anew_with_a_boot(bus: Bus) -> None:
    await bus.publish(100)
    assert await bus.publish(1, boot="next")
    assert await ids(bus) == ["box/boot/100", "box/next/1"]


async def test_a_tick_is_published_once_over_a_new_epoch(bus: Bus) -> None:
    await bus.publish(5)
    bus.epoch = await bus.take()
    assert await bus.publish(5) == b""


async def test_old_samples_go_by_the_servers_time(bus: Bus) -> None:
    await bus.client.xadd(samples_key(), {"n": 0}, id="1000-0")
    for tick in range(300):
        await bus.client.xadd(samples_key(), {"n": tick}, id=f"{2000 + tick}-0")
    await bus.publish(1, keep_s=600)
    left = await bus.client.xrange(samples_key())
    assert 1 <= len(left) < 120  # in whole nodes, of 100 entries by default
    assert b"1000-0" not in [entry for entry, _ in left]
    for tick in range(2, 200):
        await bus.publish(tick, keep_s=600)
    assert len(await ids_of_ours(bus)) == 199


async def ids_of_ours(bus: Bus) -> list[str]:
    return [event_from_entry(fields).id for _, fields in await bus.client.xrange(samples_key()) if b"id" in fields]


async def test_a_kept_second_is_a_second(bus: Bus) -> None:
    old = int((await bus.client.time())[0] * 1000) - 5_000
    for number in range(250):
        await bus.client.xadd(samples_key(), {"n": number}, id=f"{old + number}-0")
    await bus.publish(1, keep_s=600)
    assert await bus.client.xlen(samples_key()) == 251
    await bus.publish(2, keep_s=1)
    assert await bus.client.xlen(samples_key()) < 120
