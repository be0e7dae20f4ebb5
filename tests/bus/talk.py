"""What the tests of this room say to a server, and how they look at what became of it."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import msgspec
from redis.asyncio import Redis

from schemas.demand import Demand
from schemas.envelope import Event, event_from_entry
from schemas.workload import Directive, directive_key, pause_channel, throttle_channel
from supervisor.bus import lease
from supervisor.bus.commit import (
    Acknowledge,
    Append,
    Commit,
    DemandChange,
    HashChange,
    append_event,
    call_arguments,
    directives,
    set_demand,
)
from supervisor.bus.connection import Command, Connection
from supervisor.bus.keys import events_key, idempotency_key, lease_key, samples_key
from supervisor.bus.ledger import LedgerChange
from tests.busservers import BusServer

HOST: Final = "box"
TIME: Final = "2026-11-21T12:00:00.000Z"
HOLDER: Final = {"pid": 1, "machine_id": "m" * 32}
#: Nothing here takes so long, unless it never comes.
PATIENCE_S: Final = 20.0


class Bus:
    """A server with a lease of ours on it, our connection, and a plain client beside it."""

    def __init__(self, server: BusServer) -> None:
        """Connect to nothing yet."""
        self.server = server
        self.connection = Connection(server.url, timeout_s=5.0)
        self.client: Any = Redis.from_url(server.url, protocol=2, socket_timeout=PATIENCE_S)
        self.lease = lease_key(HOST)
        self.epoch = 0

    async def open(self) -> None:
        """Take the lease."""
        self.epoch = await self.take()

    async def close(self) -> None:
        """Hang up."""
        await self.connection.close()
        await self.client.aclose()

    async def take(
        self,
        holder: dict[str, Any] = HOLDER,
        *,
        known: int = 0,
        dead: bool = False,
        connection: Connection | None = None,
    ) -> int:
        """Acquire the lease."""
        return await lease.acquire(
            connection or self.connection, HOST, holder, known_epoch=known, is_dead=lambda other: dead
        )

    def command(self, commit: Commit, epoch: int | None = None, *, events_kept: int = 1000) -> Command:
        """The command that carries a commit out under `epoch`, ours unless given."""
        keys, payload = call_arguments(
            commit, lease=self.lease, events=events_key(), epoch=self.epoch if epoch is None else epoch, shard=0,
            events_kept=events_kept,
        )  # fmt: skip
        return self.connection.function("commit", keys, payload)

    async def commit(self, commit: Commit, epoch: int | None = None) -> list[Directive]:
        """Carry a commit out; returns the directives issued."""
        await self.connection.open()
        reply = await self.connection.ask(*self.command(commit, epoch))
        return [msgspec.json.decode(text, type=Directive) for text in directives(reply)]

    async def demand(self, *demands: Demand, token: str = "") -> list[Directive]:
        """Commit these demands of `HOST`."""
        return await self.commit(decided(demands=[set_demand(demand) for demand in demands], token=token))

    async def withdraw(self, target: str, issuer: str) -> list[Directive]:
        """Commit that an issuer demands nothing of a target any more."""
        return await self.commit(decided(demands=[DemandChange(target, issuer, "")]))

    async def publish(self, tick: int, *, boot: str = "boot", keep_s: float = 600, epoch: int | None = None) -> Any:
        """Publish a sample; returns its entry's id, empty where it was there."""
        event = Event(f"{HOST}/{boot}/{tick}", "flyball.host.sampled", f"{HOST}/sampler", HOST, TIME, "", b"{}")
        keys = [self.lease, samples_key()]
        given = self.epoch if epoch is None else epoch
        return await self.connection.call("publish", keys, given, boot, tick, int(keep_s * 1000), *event.fields())

    async def events(self) -> list[Event]:
        """Every event in the stream."""
        return [event_from_entry(fields) for _, fields in await self.client.xrange(events_key())]

    async def retained(self, target: str = "gpu0") -> Directive | None:
        """The directive in its hash."""
        fields = await self.client.hgetall(directive_key(HOST, target))
        texts = {name.decode(): value.decode() for name, value in fields.items()}
        return msgspec.convert(texts, Directive, strict=False) if texts else None


class Ear:
    """Hears both channels of a target."""

    def __init__(self, client: Any, target: str = "gpu0") -> None:
        """Hear nothing yet."""
        self._pubsub = client.pubsub(ignore_subscribe_messages=False)
        self._client = client
        self._channels = (throttle_channel(HOST, target), pause_channel(HOST, target))

    async def __aenter__(self) -> "Ear":
        await self._pubsub.subscribe(*self._channels)
        for _ in self._channels:
            await self._next()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pubsub.aclose()

    async def heard(self) -> list[tuple[str, bytes]]:
        """Channel (`throttle` or `pause`) and message of everything said so far, in order."""
        await self._client.publish(self._channels[0], b"end")
        messages = []
        while (message := await self._next())["data"] != b"end":
            messages.append((message["channel"].decode().split(":")[1], message["data"]))
        return messages

    async def _next(self) -> Any:
        async with asyncio.timeout(PATIENCE_S):
            while (message := await self._pubsub.get_message(timeout=PATIENCE_S)) is None:
                pass
        return message


async def eventually(happened: Callable[[], Awaitable[object]]) -> None:
    """Look until something has happened of which nobody tells."""
    async with asyncio.timeout(PATIENCE_S):
        while not await happened():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


def a_demand(speed: float = 0.5, issuer: str = "throttle", target: str = "gpu0", **fields: Any) -> Demand:
    """A demand whose action follows from its speed."""
    action = "run" if speed == 1 else "pause" if speed == 0 else "throttle"
    given = {"issuer": issuer, "target": target, "action": action, "speed": speed, "reason": "hot", **fields}
    return msgspec.convert(given, Demand)


def an_event(number: int) -> Event:
    """An event of our own making."""
    return Event(f"event-{number}", "flyball.host.state_changed", f"{HOST}/test", "host", TIME, f"no. {number}", b"{}")


def decided(
    *,
    token: str = "",
    input_id: str = "input-1",
    events: Sequence[Event] = (),
    appends: Sequence[Append] = (),
    demands: Sequence[DemandChange] = (),
    hashes: Sequence[HashChange] = (),
    acknowledges: Sequence[Acknowledge] = (),
    ledger: Sequence[LedgerChange] = (),
) -> Commit:
    """A commit of `box/test`; a token makes it idempotent."""
    return Commit(
        token=idempotency_key(token) if token else "", issuer=f"{HOST}/test", input=input_id, ordinal=len(events),
        host=HOST, time=TIME, appends=[*(append_event(events_key(), 1000, event) for event in events), *appends],
        demands=demands, hashes=hashes, acknowledges=acknowledges, ledger=ledger,
    )  # fmt: skip


def as_json(directive: Directive | None) -> Any:
    """For comparison with what stands in JSON."""
    return json.loads(msgspec.json.encode(directive))
