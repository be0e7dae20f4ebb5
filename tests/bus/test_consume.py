"""A group reads everything once and in order, its own pending entries first, and knows what it never saw."""

from collections.abc import AsyncIterator

import pytest

from supervisor.bus import consume
from supervisor.bus.connection import Connection
from supervisor.bus.consume import BATCH, CONSUMER, Consumer, Delivery, Gap
from supervisor.bus.keys import events_key, inbox_key, samples_key
from supervisor.errors import BusError
from supervisor.handler import Stream
from tests.bus.talk import HOST, Bus, a_demand

GROUP = "throttle.box"


class Reader:
    """A consumer of samples, inbox and events with its own connection, as a handler has one."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.connection = Connection(bus.server.url, timeout_s=5.0)
        self.consumer = Consumer(
            self.connection, GROUP, {"samples": samples_key(), "inbox": inbox_key(), "events": events_key()}
        )

    async def read(self, *done: Delivery, block_s: float = 0.001) -> list[Delivery]:
        """One turn: acknowledge and read."""
        acknowledge: dict[Stream, list[str]] = {}
        for delivery in done:
            acknowledge.setdefault(delivery.stream, []).append(delivery.entry)
        replies = await self.consumer.send([], acknowledge, block_s)
        assert await self.connection.replies(replies) == [len(entries) for entries in acknowledge.values()]
        return await self.consumer.receive(block_s)

    async def drain(self) -> list[int]:
        """The numbers of everything there is, acknowledged."""
        numbers: list[int] = []
        deliveries: list[Delivery] = []
        while True:
            was_pending = self.consumer.reads_pending
            deliveries = await self.read(*deliveries)
            if not deliveries and not was_pending:
                return numbers
            numbers += [number(delivery) for delivery in deliveries]


def number(delivery: Delivery) -> int:
    assert delivery.fields is not None
    return int(delivery.fields[1])


async def add(bus: Bus, key: str, *numbers: int) -> list[str]:
    return [(await bus.client.xadd(key, {"n": n})).decode() for n in numbers]


@pytest.fixture
async def reader(bus: Bus) -> AsyncIterator[Reader]:
    reader = Reader(bus)
    assert await reader.consumer.open() == []
    yield reader
    await reader.connection.close()


@pytest.fixture
async def successor(bus: Bus) -> AsyncIterator[Reader]:
    """Another process in the place of the reader."""
    reader = Reader(bus)
    yield reader
    await reader.connection.close()


async def test_a_new_group_reads_the_inbox_from_its_beginning_and_samples_from_now(bus: Bus) -> None:
    await add(bus, inbox_key(), 1)
    await add(bus, samples_key(), 2)
    reader = Reader(bus)
    await reader.consumer.open()
    await add(bus, samples_key(), 3)
    assert sorted(await reader.drain()) == [1, 3]
    await reader.connection.close()


async def test_everything_comes_once_and_in_order(bus: Bus, reader: Reader) -> None:
    await add(bus, samples_key(), *range(3 * BATCH + 7))
    assert await reader.drain() == list(range(3 * BATCH + 7))
    assert await reader.read() == []


async def test_acknowledgements_travel_with_the_next_read(bus: Bus, reader: Reader) -> None:
    await add(bus, samples_key(), 1, 2)
    assert await reader.read() == []  # nothing of ours is pending
    first = await reader.read()
    assert [number(delivery) for delivery in first] == [1, 2]
    assert (await bus.client.xpending(samples_key(), GROUP))["pending"] == 2
    await add(bus, samples_key(), 3)
    assert [number(delivery) for delivery in await reader.read(*first)] == [3]
    assert (await bus.client.xpending(samples_key(), GROUP))["pending"] == 1


async def test_what_was_pending_comes_first_after_a_start(bus: Bus, reader: Reader, successor: Reader) -> None:
    await add(bus, samples_key(), 1, 2)
    await reader.read()
    assert len(await reader.read()) == 2
    await add(bus, samples_key(), 3)
    await successor.consumer.open()
    assert successor.consumer.reads_pending
    assert await successor.drain() == [1, 2, 3]
    assert not successor.consumer.reads_pending


async def test_what_another_consumer_left_is_taken_over(
    bus: Bus, reader: Reader, successor: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add(bus, samples_key(), 1)
    await bus.client.xreadgroup(GROUP, "somebody", {samples_key(): ">"})
    await successor.consumer.open()
    assert await successor.drain() == []  # it may be at work on it
    monkeypatch.setattr(consume, "CLAIM_IDLE_MS", 0)
    assert await reader.consumer.gaps() == []
    assert await reader.drain() == [1]


async def test_what_one_that_woke_up_took_is_found_again(bus: Bus, reader: Reader) -> None:
    await reader.drain()
    await add(bus, samples_key(), 1)
    await bus.client.xreadgroup(GROUP, CONSUMER, {samples_key(): ">"})  # our own name, in a process that was stopped
    assert await reader.drain() == []
    await reader.consumer.gaps()
    assert await reader.drain() == [1]


async def test_positions_follow_what_is_acknowledged(bus: Bus, reader: Reader) -> None:
    start = await reader.consumer.positions()
    assert start == {"samples": "0-0", "inbox": "0-0", "events": "0-0"}
    ids = await add(bus, samples_key(), 1, 2, 3)
    await reader.read()
    deliveries = await reader.read()
    position = (await reader.consumer.positions())["samples"]
    reread = [delivery.entry async for delivery in reader.consumer.reread("samples", position, "+")]
    assert reread == ids, "nothing is acknowledged yet"
    await reader.read(deliveries[0], deliveries[2])
    position = (await reader.consumer.positions())["samples"]
    assert [one.entry async for one in reader.consumer.reread("samples", "0-0", position)] == ids[:1]
    await reader.read(deliveries[1])
    assert (await reader.consumer.positions())["samples"] == ids[2]


async def test_rereading_leaves_the_group_alone(bus: Bus, reader: Reader) -> None:
    ids = await add(bus, samples_key(), *range(BATCH * 2 + 1))
    assert [number(one) async for one in reader.consumer.reread("samples", ids[0], ids[-2])] == list(
        range(1, BATCH * 2)
    )
    assert (await reader.consumer.positions())["samples"] == "0-0"
    assert len(await reader.drain()) == BATCH * 2 + 1


async def test_after_the_loss_of_all_data_nothing_new_is_missed(bus: Bus, reader: Reader) -> None:
    await add(bus, samples_key(), 1)
    assert await reader.drain() == [1]
    await bus.client.flushall()
    await add(bus, samples_key(), 2)
    with pytest.raises(BusError, match="NOGROUP"):
        await reader.read()
    assert await reader.consumer.open() == []
    assert await reader.drain() == [2]


async def test_nothing_is_lost_while_the_reader_keeps_up(bus: Bus, reader: Reader) -> None:
    for round_ in range(3):
        await add(bus, samples_key(), *range(round_ * 10, round_ * 10 + 10))
        await reader.drain()
        await bus.client.xtrim(samples_key(), maxlen=3, approximate=False)
        assert await reader.consumer.gaps() == []
    await bus.client.xtrim(samples_key(), maxlen=0, approximate=False)
    assert await reader.consumer.gaps() == []
    assert reader.consumer.lag == 0


async def test_what_was_trimmed_unread_is_counted(bus: Bus, reader: Reader) -> None:
    ids = await add(bus, samples_key(), *range(4))
    await reader.drain()
    more = await add(bus, samples_key(), *range(4, 14))
    assert await reader.consumer.gaps() == []
    assert reader.consumer.lag == 10
    await bus.client.xtrim(samples_key(), maxlen=3, approximate=False)
    assert await reader.consumer.gaps() == [Gap("samples", ids[-1], more[-3], 7)]
    assert await reader.drain() == [11, 12, 13]
    assert await reader.consumer.gaps() == []


async def test_a_successor_knows_what_it_missed(bus: Bus, reader: Reader, successor: Reader) -> None:
    ids = await add(bus, inbox_key(), 1)
    await reader.drain()
    more = await add(bus, inbox_key(), 2, 3, 4)
    await bus.client.xtrim(inbox_key(), maxlen=1, approximate=False)
    assert await successor.consumer.open() == [Gap("inbox", ids[0], more[-1], 2)]


async def test_nothing_is_missed_by_who_never_read(bus: Bus, reader: Reader) -> None:
    await add(bus, inbox_key(), 1, 2, 3)
    await bus.client.xtrim(inbox_key(), maxlen=1, approximate=False)
    assert await reader.consumer.gaps() == []


async def test_entries_trimmed_while_pending_come_without_fields(bus: Bus, reader: Reader, successor: Reader) -> None:
    ids = await add(bus, samples_key(), 1, 2, 3)
    await reader.read()
    await reader.read()
    assert await successor.consumer.open() == []
    await bus.client.xtrim(samples_key(), maxlen=1, approximate=False)
    came = await successor.read()
    assert [(one.entry, one.fields is None) for one in came] == list(zip(ids, (True, True, False), strict=True))
    (gap,) = consume.trimmed("samples", [one.entry for one in came if one.fields is None])
    assert (gap.stream, gap.first, gap.lost) == ("samples", ids[1], 2)
    assert gap.after < ids[0]


async def test_entries_that_a_claim_finds_deleted_are_a_gap(bus: Bus, reader: Reader, successor: Reader) -> None:
    ids = await add(bus, samples_key(), 1, 2)
    await reader.read()
    await reader.read()
    await bus.client.xtrim(samples_key(), maxlen=0, approximate=False)
    (gap,) = await successor.consumer.open()
    assert (gap.stream, gap.first, gap.lost) == ("samples", ids[1], 2)
    assert gap.after < ids[0]


async def test_deliveries_are_counted(bus: Bus, reader: Reader, successor: Reader) -> None:
    (entry,) = await add(bus, inbox_key(), 1)
    await reader.read()
    await reader.read()
    assert await reader.consumer.deliveries() == {("inbox", entry): 1}
    await successor.consumer.open()
    await successor.read()
    assert await successor.consumer.deliveries() == {("inbox", entry): 2}


async def test_what_an_issuer_demands_is_found(bus: Bus, reader: Reader) -> None:
    await bus.demand(a_demand(target="gpu0"), a_demand(target="workload.a"), a_demand(target="host", issuer="guard"))
    assert await reader.consumer.demanded(HOST, "throttle", 0) == {"gpu0", "workload.a"}
    assert await reader.consumer.demanded("bo", "throttle", 0) == set()


async def test_a_server_without_room_still_lets_a_group_read(bus: Bus, reader: Reader, successor: Reader) -> None:
    await add(bus, samples_key(), 1)
    await bus.client.config_set("maxmemory", 1)
    try:
        await successor.consumer.open()
        assert await successor.drain() == [1]
    finally:
        await bus.client.config_set("maxmemory", 0)


async def test_two_who_make_the_group_at_once_both_read(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """One supervisor takes over from another that wakes up: each finds no group, and one of them is quicker."""
    first, second = Reader(bus), Reader(bus)

    async def none_yet(key: str) -> bool:
        return False

    monkeypatch.setattr(second.consumer, "_has_group", none_yet)
    for reader in (first, second):
        await reader.connection.open()
        assert await reader.consumer.open() == []
        await reader.connection.close()
