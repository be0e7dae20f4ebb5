"""The ledger never promises more than there is, to nobody twice, and says what became of every request."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handlers.memory.capacity import Capacity, room
from schemas.envelope import Event, event_id
from schemas.event import LedgerRead
from schemas.workload import LedgerAnswer, Release, Reservation, Reserve, Started, memory_channel, reservation_key
from supervisor.bus.commit import Commit, answers, as_answered, from_bytes, to_bytes
from supervisor.bus.keys import capacity_key, idempotency_key
from supervisor.bus.ledger import ledger_change
from supervisor.handler import LedgerEntry, Reconcile
from tests.bus.talk import HOST, Bus, decided

MIB: Final = 2**20
GIB: Final = 2**30
WALL_S: Final = 1_795_000_000.5
LEDGER: Final = reservation_key(HOST)


class Ledger:
    """What the tests ask of it."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self._asked = 0

    async def measure(
        self,
        limit: int,
        used: int = 0,
        target: str = "gpu0",
        *,
        reserve: int = 0,
        held: Mapping[str, int] | None = None,
    ) -> None:
        """Say what a target has: bytes, and how much of it the owners of the requests use."""
        fields = {
            "limit_bytes": limit, "reserve_bytes": reserve, "used_bytes": used, "held": msgspec.json.encode(held or {}),
        }  # fmt: skip
        await self.bus.client.hset(capacity_key(HOST, target), mapping=fields)

    async def ask(self, *entries: LedgerEntry, token: str = "") -> list[LedgerAnswer]:
        """Commit these changes; a token makes that idempotent."""
        return answers(await self.send(self.commit(*entries, token=token)))

    async def send(self, commit: Commit) -> Any:
        await self.bus.connection.open()
        return await self.bus.connection.ask(*self.bus.command(commit))

    def commit(self, *entries: LedgerEntry, token: str = "") -> Commit:
        self._asked += 1
        changes = [ledger_change(entry, WALL_S) for entry in entries]
        return decided(token=token, input_id=token or f"input-{self._asked}", ledger=changes)

    async def reserve(self, name: str, size: int = GIB, request: str = "", **fields: Any) -> LedgerAnswer:
        (answer,) = await self.ask(asks(name, size, request, **fields))
        return answer

    async def release(self, name: str, **fields: Any) -> LedgerAnswer:
        entry = LedgerEntry(request=f"{name} back", change=Release(allocation_id=name), **fields)
        (answer,) = await self.ask(entry)
        return answer

    async def started(self, name: str) -> LedgerAnswer:
        (answer,) = await self.ask(LedgerEntry(request=f"{name} up", change=Started(allocation_id=name)))
        return answer

    async def reconcile(self, *known: Reservation) -> None:
        assert await self.ask(LedgerEntry(request="start", change=Reconcile(known))) == []

    async def standing(self) -> dict[str, Reservation]:
        """The hash."""
        entries = await self.bus.client.hgetall(LEDGER)
        return {name.decode(): msgspec.json.decode(text, type=Reservation) for name, text in entries.items()}

    async def events(self) -> list[Event]:
        return [event for event in await self.bus.events() if event.type.startswith("flyball.memory.")]


def asks(name: str, size: int = GIB, request: str = "", **fields: Any) -> LedgerEntry:
    """A request for so much of gpu0, or for `parts`."""
    given_to_entry = {key: fields.pop(key) for key in ("reason", "entered_ms") if key in fields}
    fields.setdefault("parts", {"gpu0": size})
    change = Reserve(allocation_id=name, owner=fields.pop("owner", "llm"), **fields)
    return LedgerEntry(request=request or f"{name} asked", change=change, **given_to_entry)


@pytest.fixture
async def ledger(bus: Bus) -> AsyncIterator[Ledger]:
    """An empty ledger that was compared, and a card of 8 GiB."""
    ledger = Ledger(bus)
    await ledger.reconcile()
    await ledger.measure(8 * GIB)
    yield ledger


async def test_what_is_granted_stands_and_is_told(ledger: Ledger) -> None:
    pubsub = ledger.bus.client.pubsub()
    await pubsub.subscribe(memory_channel(HOST))
    answer = await ledger.reserve("a", 2 * GIB, ttl_s=60.0, pid=7, start_time_s=1.25)
    reservation = Reservation(
        allocation_id="a", owner="llm", parts={"gpu0": 2 * GIB}, request="a asked", since_s=WALL_S,
        expires_s=WALL_S + 60, pid=7, start_time_s=1.25,
    )  # fmt: skip
    assert answer == LedgerAnswer(
        request="a asked", allocation_id="a", outcome="reserved", text="a: 2048 MiB of gpu0 reserved for llm",
        reservation=reservation, available={"gpu0": 6 * GIB},
    )  # fmt: skip
    assert await ledger.standing() == {"a": reservation}
    (event,) = await ledger.events()
    assert (event.type, event.subject, event.text) == ("flyball.memory.reserved", "a", answer.text)
    assert event.id == event_id(f"{HOST}/test", "input-2", 0)
    assert event.decode(LedgerAnswer) == answer
    messages = [await pubsub.get_message(timeout=20) for _ in range(2)]
    assert messages[1]["data"] == event.data
    await pubsub.aclose()


async def test_what_is_not_there_is_denied_with_what_is_and_who_has_the_rest(ledger: Ledger) -> None:
    await ledger.measure(8 * GIB, used=GIB, reserve=512 * MIB)
    await ledger.reserve("a", 2 * GIB)
    answer = await ledger.reserve("b", 6 * GIB)
    assert (answer.outcome, answer.reservation) == ("denied", None)
    assert answer.available == {"gpu0": int(4.5 * GIB)}
    assert [holder.allocation_id for holder in answer.holders] == ["a"]
    assert answer.text == (
        "b: 6144 MiB of gpu0 denied to llm: 4608 MiB of gpu0 can be had: of 8192 MiB, 512 MiB are kept free, "
        "2048 MiB reserved and 1024 MiB used by others; reserved: a (2048 MiB)"
    )
    assert (await ledger.events())[-1].type == "flyball.memory.denied"
    assert list(await ledger.standing()) == ["a"]


async def test_the_last_byte_can_be_had(ledger: Ledger) -> None:
    assert (await ledger.reserve("a", 8 * GIB + 1)).outcome == "denied"
    assert (await ledger.reserve("a", 8 * GIB)).outcome == "reserved"
    assert (await ledger.reserve("b", 1)).outcome == "denied"


async def test_all_parts_or_nothing(ledger: Ledger) -> None:
    await ledger.measure(GIB, target="host")
    answer = await ledger.reserve("a", parts={"gpu0": GIB, "host": 2 * GIB})
    assert (answer.outcome, answer.available) == ("denied", {"gpu0": 8 * GIB, "host": GIB})
    assert await ledger.standing() == {}
    answer = await ledger.reserve("a", parts={"host": GIB, "gpu0": GIB})
    assert answer.text == "a: 1024 MiB of gpu0 and 1024 MiB of RAM reserved for llm"
    assert answer.available == {"gpu0": 7 * GIB, "host": 0}


async def test_what_nobody_knows_is_denied(ledger: Ledger) -> None:
    answer = await ledger.reserve("a", parts={"gpu1": 1})
    assert (answer.outcome, answer.available) == ("denied", {})
    assert "what is free of gpu1 is not known" in answer.text
    for junk in ({"held": "{"}, {"used_bytes": "much"}, {"held": "7"}):
        await ledger.measure(GIB, target="gpu1")
        await ledger.bus.client.hset(capacity_key(HOST, "gpu1"), mapping=junk)
        assert (await ledger.reserve("a", parts={"gpu1": 1})).outcome == "denied"


async def test_use_that_was_reserved_is_not_counted_twice(ledger: Ledger) -> None:
    await ledger.reserve("a", 4 * GIB, request="ra")
    await ledger.measure(8 * GIB, used=3 * GIB, held={"ra": 3 * GIB})
    assert (await ledger.reserve("b", 4 * GIB)).outcome == "reserved"
    await ledger.measure(8 * GIB, used=5 * GIB, held={"ra": 5 * GIB})  # a GiB more than it has reserved
    await ledger.release("b")
    assert (await ledger.reserve("b", 4 * GIB)).available == {"gpu0": 3 * GIB}


async def test_what_an_earlier_owner_of_the_name_uses_is_another_ones(ledger: Ledger) -> None:
    await ledger.reserve("a", 6 * GIB, request="first")
    await ledger.measure(8 * GIB, used=6 * GIB, held={"first": 6 * GIB})
    await ledger.release("a")
    assert (await ledger.reserve("a", 6 * GIB, request="second")).outcome == "denied"


async def test_a_name_stands_once(ledger: Ledger) -> None:
    first = await ledger.reserve("a", request="one")
    answer = await ledger.reserve("a", request="two", owner="other")
    assert (answer.outcome, answer.reservation) == ("duplicate", first.reservation)
    assert answer.text == "a: denied to other: there is a reservation of that name, of llm"
    assert (await ledger.events())[-1].type == "flyball.memory.denied"
    assert await ledger.standing() == {"a": first.reservation}


async def test_the_same_request_again_is_granted_again(ledger: Ledger) -> None:
    """Even where nothing is left, since it is what it holds; and it is no news."""
    first = await ledger.reserve("a", 8 * GIB, request="one")
    again = await ledger.reserve("a", 8 * GIB, request="one")
    assert (again.outcome, again.reservation, again.available) == ("reserved", first.reservation, {"gpu0": 0})
    assert len(await ledger.events()) == 1


async def test_what_is_given_back_is_free(ledger: Ledger) -> None:
    reserved = await ledger.reserve("a", 8 * GIB)
    released = await ledger.release("a")
    assert (released.outcome, released.reservation) == ("released", reserved.reservation)
    assert released.text == "a: 8192 MiB of gpu0 given back"
    assert (await ledger.release("a")).outcome == "unknown"
    assert (await ledger.reserve("b", 8 * GIB)).outcome == "reserved"
    assert [event.type.rpartition(".")[2] for event in await ledger.events()] == ["reserved", "released", "reserved"]


async def test_what_ends_by_itself_says_why(ledger: Ledger) -> None:
    await ledger.reserve("a")
    answer = await ledger.release("a", reason="process 7 of llm has ended")
    assert (answer.outcome, answer.text) == (
        "expired",
        "a: 1024 MiB of gpu0 are free again: process 7 of llm has ended",
    )
    assert (await ledger.events())[-1].type == "flyball.memory.expired"


async def test_a_later_one_of_the_same_name_is_left_alone(ledger: Ledger) -> None:
    await ledger.reserve("a", request="two")
    assert (await ledger.release("a", of="one", reason="its time is over")).outcome == "unknown"
    assert list(await ledger.standing()) == ["a"]
    assert (await ledger.release("a", of="two", reason="its time is over")).outcome == "expired"


async def test_one_starts_at_a_time_on_a_card(ledger: Ledger) -> None:
    await ledger.measure(8 * GIB, target="gpu1")
    await ledger.measure(8 * GIB, target="host")
    both = {"gpu0": 1, "host": 1}
    first = await ledger.reserve("a", parts=both, exclusive_start=True)
    assert first.reservation is not None and first.reservation.starting
    denied = await ledger.reserve("b", parts=both, exclusive_start=True)
    assert denied.outcome == "denied"
    assert "a of llm is in its start-up on gpu0; ask again when it has started" in denied.text
    assert (await ledger.reserve("c", parts=both)).outcome == "reserved"
    assert (await ledger.reserve("d", parts={"gpu1": 1, "host": 1}, exclusive_start=True)).outcome == "reserved"
    answer = await ledger.started("a")
    assert (answer.outcome, answer.text) == ("started", "a: llm has started")
    assert answer.reservation == msgspec.structs.replace(first.reservation, starting=False)
    assert (await ledger.standing())["a"] == answer.reservation
    assert (await ledger.reserve("b", parts=both, exclusive_start=True)).outcome == "reserved"
    said = len(await ledger.events())
    assert (await ledger.started("a")).outcome == "started"
    assert len(await ledger.events()) == said, "that is no news"
    assert (await ledger.started("x")).outcome == "unknown"


async def test_one_that_starts_and_ends_lets_the_next_one_start(ledger: Ledger) -> None:
    await ledger.reserve("a", exclusive_start=True)
    await ledger.release("a")
    assert (await ledger.reserve("b", exclusive_start=True)).outcome == "reserved"


async def test_a_refusal_of_the_handler_stands_whatever_is_free(ledger: Ledger) -> None:
    answer = await ledger.reserve("a", 1, reason="there is no gpu0 here")
    assert (answer.outcome, answer.available) == ("denied", {"gpu0": 8 * GIB})
    assert "there is no gpu0 here" in answer.text


async def test_a_request_that_waited_too_long_is_denied(ledger: Ledger) -> None:
    seconds, micros = await ledger.bus.client.time()
    now_ms = seconds * 1000 + micros // 1000
    answer = await ledger.reserve("a", 1, entered_ms=now_ms - 31_000, valid_s=30.0)
    assert answer.outcome == "denied"
    assert "it was asked 31 s ago, and was valid for 30 s; ask again" in answer.text
    assert (await ledger.reserve("a", 1, entered_ms=now_ms - 29_000, valid_s=31.0)).outcome == "reserved"


async def test_the_ledger_is_bounded(ledger: Ledger) -> None:
    for start in range(0, 1024, 256):
        await ledger.ask(*(asks(f"n{number}", 1) for number in range(start, start + 256)))
    answer = await ledger.reserve("one-more", 1)
    assert answer.outcome == "denied"
    assert "there are 1024 reservations, as many as may be" in answer.text
    assert len(answer.holders) == 16


async def test_junk_in_the_ledger_promises_nothing_until_it_is_released(ledger: Ledger) -> None:
    ownerless = '{"parts":{"gpu0":1},"request":"x","starting":true}'
    for junk in ("not json", "[]", '{"parts":{"gpu0":"much"},"request":"x"}', '{"parts":{}}', ownerless):
        await ledger.bus.client.hset(LEDGER, "junk", junk)
        answer = await ledger.reserve("a", 1)
        assert "the entry junk of the ledger cannot be read" in answer.text
        assert (answer.outcome, (await ledger.release("junk")).outcome) == ("denied", "released")
    assert (await ledger.reserve("a", 1)).outcome == "reserved"


async def test_large_numbers_are_exact(ledger: Ledger) -> None:
    await ledger.measure(2**50 + 7)
    answer = await ledger.reserve("a", 2**50 - 1, pid=2**31 - 1, start_time_s=123456789.01)
    assert answer.reservation is not None
    assert (answer.reservation.parts["gpu0"], answer.reservation.start_time_s) == (2**50 - 1, 123456789.01)
    assert answer.available == {"gpu0": 8}
    assert (await ledger.standing())["a"] == answer.reservation


async def test_changes_of_one_commit_see_each_other(ledger: Ledger) -> None:
    entries = [
        asks("a", 8 * GIB), asks("b", 1), LedgerEntry(request="r", change=Release(allocation_id="a")), asks("b", 1),
    ]  # fmt: skip
    assert [answer.outcome for answer in await ledger.ask(*entries)] == ["reserved", "denied", "released", "reserved"]


async def test_every_sentence_bears_the_mark(ledger: Ledger) -> None:
    commit = msgspec.structs.replace(ledger.commit(asks("a", 1), asks("a", 1, "again")), mark="SIMULATED")
    said = [answer.text for answer in answers(await ledger.send(commit))]
    assert said == [
        "SIMULATED: a: 0 MiB of gpu0 reserved for llm",
        "SIMULATED: a: denied to llm: there is a reservation of that name, of llm",
    ]


# -- once, whatever is sent how often ---------------------------------------------------------------------------------


async def test_the_same_commit_again_gets_the_same_answers(ledger: Ledger) -> None:
    entries = [asks("a", 8 * GIB), asks("b", 1)]
    first = await ledger.ask(*entries, token="t")
    await ledger.release("a")
    said = len(await ledger.events())
    assert await ledger.ask(*entries, token="t") == first
    assert (await ledger.standing(), len(await ledger.events())) == ({}, said)


async def test_the_spool_gives_back_what_it_got(ledger: Ledger) -> None:
    commit = ledger.commit(asks("a", parts={"gpu0": 1, "host": 2}), LedgerEntry(request="s", change=Reconcile(())))
    again = from_bytes(to_bytes(commit))
    assert ledger.bus.command(again) == ledger.bus.command(commit)
    done = as_answered(commit, await ledger.send(commit))
    assert ledger.bus.command(from_bytes(to_bytes(done))) == ledger.bus.command(done)


async def test_a_server_that_lost_its_last_writes_does_not_decide_anew(ledger: Ledger) -> None:
    """Whoever asked knows its answer: what was granted stands again, what was denied is not granted."""
    before = await ledger.bus.client.dump(LEDGER)
    assert before is None
    commits = [
        ledger.commit(asks("a", 5 * GIB), token="t1"),
        ledger.commit(asks("b", 5 * GIB), token="t2"),
        ledger.commit(asks("c", GIB, exclusive_start=True), token="t3"),
        ledger.commit(LedgerEntry(request="up", change=Started(allocation_id="c")), token="t4"),
        ledger.commit(asks("d", GIB), token="t5"),
        ledger.commit(LedgerEntry(request="back", change=Release(allocation_id="d")), token="t6"),
    ]
    replies = [await ledger.send(commit) for commit in commits]
    stood, said = await ledger.standing(), await ledger.events()
    await ledger.bus.client.delete(
        LEDGER, "flyball:events:{0}", *map(idempotency_key, ("t1", "t2", "t3", "t4", "t5", "t6"))
    )
    await ledger.measure(5 * GIB)  # by now others use the rest
    for commit, reply in zip(commits, replies, strict=True):
        again = await ledger.send(as_answered(commit, reply))
        assert answers(again) == answers(reply)
    assert await ledger.standing() == stood
    assert sorted(stood) == ["a", "c"]
    assert [(event.type, event.data) for event in await ledger.events()] == [(one.type, one.data) for one in said]


# -- a start, and the loss of everything ------------------------------------------------------------------------------


async def test_nothing_is_promised_before_the_ledger_is_known(bus: Bus) -> None:
    ledger = Ledger(bus)
    await ledger.measure(8 * GIB)
    answer = await ledger.reserve("a", 1)
    assert answer.outcome == "denied"
    assert "what is reserved is not known yet; ask again in a second" in answer.text
    await ledger.reconcile()
    assert (await ledger.reserve("a", 1)).outcome == "reserved"
    bus.epoch = await bus.take()
    assert (await ledger.reserve("b", 1)).outcome == "reserved", "a new epoch over the same data knows it"


async def test_a_ledger_that_is_known_is_no_news(ledger: Ledger) -> None:
    answer = await ledger.reserve("a")
    assert answer.reservation is not None
    said = await ledger.events()
    await ledger.reconcile(answer.reservation)
    assert await ledger.events() == said


async def test_a_ledger_that_is_not_known_is_told_whole(ledger: Ledger) -> None:
    a, b = [(await ledger.reserve(name)).reservation for name in "ab"]
    assert a is not None and b is not None
    stale = msgspec.structs.replace(a, request="another")
    gone = msgspec.structs.replace(a, allocation_id="gone")
    for known in ((), (a,), (stale, b), (a, b, gone)):
        await ledger.reconcile(*known)
        event = (await ledger.events())[-1]
        read = event.decode(LedgerRead)
        assert event.type == "flyball.memory.ledger_read"
        assert {one.allocation_id: one for one in read.reservations} == await ledger.standing()
        assert (len(read.reservations), read.restored, read.cause) == (2, (), "start")
        assert event.text == "the ledger holds 2 reservations, which the supervisor did not know"


async def test_what_the_bus_lost_is_written_again(ledger: Ledger) -> None:
    answers_before = [await ledger.reserve(name, GIB) for name in "ab"]
    stood = await ledger.standing()
    await ledger.bus.client.flushall()
    await ledger.bus.take(known=ledger.bus.epoch)
    ledger.bus.epoch += 1
    await ledger.measure(8 * GIB)
    assert (await ledger.reserve("c", 1)).outcome == "denied"
    await ledger.reconcile(*(answer.reservation for answer in answers_before if answer.reservation is not None))
    assert await ledger.standing() == stood
    event = (await ledger.events())[-1]
    assert event.decode(LedgerRead).restored == ("a", "b")
    assert event.text == "the ledger holds 2 reservations; the bus had lost 2 of them: a, b"
    assert (await ledger.reserve("c", 6 * GIB)).outcome == "reserved"


# -- the rule ---------------------------------------------------------------------------------------------------------

#: Few enough that they meet, and too large for 32 bits.
SIZES = st.integers(0, 48).map(lambda number: number * (2**40 + 1))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    limit=SIZES, reserve=SIZES, used=SIZES, wanted=SIZES.filter(bool),
    rows=st.lists(st.tuples(SIZES.filter(bool), SIZES, st.sampled_from(["gpu0", "gpu1"])), max_size=5),
)  # fmt: skip
async def test_the_server_counts_as_the_policy_does(
    bus: Bus, limit: int, reserve: int, used: int, wanted: int, rows: Sequence[tuple[int, int, str]]
) -> None:
    ledger = Ledger(bus)
    await bus.client.delete(LEDGER)
    standing = [
        Reservation(allocation_id=f"n{at}", owner="o", parts={target: size}, request=f"r{at}", since_s=0)
        for at, (size, _, target) in enumerate(rows)
    ]
    if standing:
        await bus.client.hset(LEDGER, mapping={one.allocation_id: msgspec.json.encode(one) for one in standing})
    await ledger.reconcile(*standing)
    held = {f"r{at}": size for at, (_, size, _) in enumerate(rows)}
    await ledger.measure(limit, used, reserve=reserve, held=held)
    left = room(Capacity("gpu0", limit, reserve, used, held), standing).available_bytes
    answer = await ledger.reserve("new", wanted)
    assert (answer.outcome == "reserved") == (wanted <= left)
    assert answer.available["gpu0"] == max(0, left - wanted if wanted <= left else left)


async def test_those_who_race_never_get_more_than_there_is(ledger: Ledger) -> None:
    """Thirty connections at once, each for a GiB of eight."""
    clients = [Ledger(Bus(ledger.bus.server)) for _ in range(30)]
    try:
        for number, client in enumerate(clients):
            client.bus.epoch = ledger.bus.epoch
            client._asked = 1000 * (number + 1)
        given_to = await asyncio.gather(*(client.reserve(f"n{at}") for at, client in enumerate(clients)))
        assert sorted(answer.outcome for answer in given_to) == ["denied"] * 22 + ["reserved"] * 8
        assert len(await ledger.standing()) == 8
    finally:
        for client in clients:
            await client.bus.close()
