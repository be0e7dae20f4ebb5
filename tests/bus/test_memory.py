"""At 80 % of the server's memory samples go, then old events; decisions never stop for lack of it."""

import pytest

from supervisor.bus import memory
from supervisor.bus.keys import events_key, samples_key
from supervisor.bus.memory import keep_memory
from tests.bus.talk import Bus


async def fill(bus: Bus, key: str, entries: int) -> None:
    """Entries of a kilobyte; made by the server, since buffers of ours would count as its memory."""
    script = "for i = 1, ARGV[1] do redis.call('XADD', KEYS[1], '*', 'text', string.rep('x', 1000)) end"
    for start in range(0, entries, 500):
        await bus.client.eval(script, 1, key, min(500, entries - start))


async def limit(bus: Bus, share: float) -> None:
    """Let what is used now be so much of the limit."""
    used = int((await bus.client.info("memory"))["used_memory"])
    await bus.client.config_set("maxmemory", int(used / share))


async def lengths(bus: Bus) -> tuple[int, int]:
    return await bus.client.xlen(samples_key()), await bus.client.xlen(events_key())


async def test_without_a_limit_nothing_is_trimmed(own_bus: Bus) -> None:
    await fill(own_bus, samples_key(), 200)
    await keep_memory(own_bus.connection, 0)
    assert await lengths(own_bus) == (200, 0)


async def test_with_room_nothing_is_trimmed(own_bus: Bus) -> None:
    await fill(own_bus, samples_key(), 200)
    await limit(own_bus, 0.7)
    await keep_memory(own_bus.connection, 0)
    assert await lengths(own_bus) == (200, 0)


async def test_samples_go_first(own_bus: Bus) -> None:
    await fill(own_bus, samples_key(), 5000)
    await fill(own_bus, events_key(), 1500)
    await limit(own_bus, 0.9)
    await keep_memory(own_bus.connection, 0)
    assert await lengths(own_bus) == (memory.SAMPLES_LEFT, 1500)


async def test_events_go_where_samples_were_not_enough(own_bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    await fill(own_bus, samples_key(), memory.SAMPLES_LEFT + 5)  # as many as came since the last time
    await fill(own_bus, events_key(), 5000)
    await limit(own_bus, 0.95)
    await keep_memory(own_bus.connection, 0)
    assert await lengths(own_bus) == (memory.SAMPLES_LEFT, memory.OTHERS_LEFT)
    assert "trimmed 5 samples, 4000 events" in caplog.text


async def test_the_newest_stay(own_bus: Bus) -> None:
    await fill(own_bus, samples_key(), 5000)
    newest = await own_bus.client.xadd(samples_key(), {"n": "newest"})
    await limit(own_bus, 0.9)
    await keep_memory(own_bus.connection, 0)
    assert (await own_bus.client.xrevrange(samples_key(), count=1))[0][0] == newest
