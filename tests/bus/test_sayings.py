"""What a commit says on a channel is said in its step, once, and never later."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from schemas.envelope import event_id
from schemas.workload import Ask, ask_channel
from supervisor.bus.commit import Commit, Saying, as_answered, from_bytes, to_bytes
from supervisor.handler import Decisions
from supervisor.runtime.results import Origin, to_commit
from tests.bus.talk import HOST, PATIENCE_S, Bus, an_event, decided

CHANNEL = ask_channel(HOST, "trainer")


@asynccontextmanager
async def listening(bus: Bus) -> AsyncIterator[Any]:
    """Everything said to this host's workloads."""
    async with bus.client.pubsub() as pubsub:
        await pubsub.psubscribe(ask_channel(HOST, "*"))
        assert (await pubsub.get_message(timeout=PATIENCE_S))["type"] == "psubscribe"
        yield pubsub


async def heard(bus: Bus, pubsub: Any) -> list[tuple[str, bytes]]:
    """Channel and message of all that was said so far."""
    await bus.client.publish(ask_channel(HOST, "nobody"), b"end")
    said = []
    async with asyncio.timeout(PATIENCE_S):
        while (message := await pubsub.get_message(timeout=PATIENCE_S))["data"] != b"end":
            said.append((message["channel"].decode(), message["data"]))
    return said


def asking(token: str = "") -> Commit:
    return msgspec.structs.replace(
        decided(token=token, events=[an_event(1)]), sayings=[Saying(CHANNEL, '{"what": "evidence ä"}')]
    )


async def test_it_is_said_in_the_step(bus: Bus) -> None:
    async with listening(bus) as pubsub:
        await bus.commit(asking())
        assert await heard(bus, pubsub) == [(CHANNEL, '{"what": "evidence ä"}'.encode())]
    assert len(await bus.events()) == 1


async def test_the_same_commit_again_says_nothing(bus: Bus) -> None:
    async with listening(bus) as pubsub:
        await bus.commit(asking("t"))
        await bus.commit(asking("t"))
        assert len(await heard(bus, pubsub)) == 1


async def test_who_lost_the_lease_says_nothing(bus: Bus) -> None:
    async with listening(bus) as pubsub:
        with pytest.raises(Exception, match="lease"):
            await bus.commit(asking(), epoch=bus.epoch + 1)
        assert await heard(bus, pubsub) == []


async def test_an_ask_of_a_handler_is_json_on_the_channel_of_its_workload(bus: Bus) -> None:
    ask = Ask(id="c-1", host=HOST, workload="trainer", pid=12, start_time_s=3.25)
    commit, _ = to_commit(Origin(HOST, "test", 0, 1000), "input-1", Decisions(asks=[ask]), wall_s=0.0)
    assert commit.token.endswith(event_id(f"{HOST}/test", "input-1", -1))
    assert not commit.is_empty
    async with listening(bus) as pubsub:
        await bus.commit(commit)
        ((channel, message),) = await heard(bus, pubsub)
    assert channel == "flyball:ask:box:workload.trainer"
    assert msgspec.json.decode(message, type=Ask) == ask


def test_nothing_is_said_later() -> None:
    """Neither from the spool nor to a server that may have lost the commit; all else of it is kept."""
    commit = asking("t")
    for later in (from_bytes(to_bytes(commit)), as_answered(commit, [1, [], []])):
        assert list(later.sayings) == []
        assert list(later.appends) == list(commit.appends)


def test_what_an_older_version_spooled_is_read() -> None:
    older = msgspec.msgpack.encode(msgspec.to_builtins(decided(token="t"))[:13])
    assert from_bytes(older).sayings == ()
