"""A link, runners of small handlers and a publisher on a real server: what the daemon is made of, without its sampler.

A `Life` is one process's worth of it; leaving it without `stop` is a crash: tasks are cancelled, nothing is said.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final

import msgspec
from msgspec import Struct
from redis.asyncio import Redis

from schemas.demand import Demand
from schemas.envelope import Event, event_from_entry
from schemas.sample import Sample
from schemas.workload import Action, Directive, directive_key
from supervisor.bus.connection import Connection
from supervisor.bus.keys import commands_key, dead_key, events_key, inbox_key, samples_key
from supervisor.bus.spool import Spool
from supervisor.clock import SystemClock
from supervisor.config import BusSection
from supervisor.handler import Context, Decisions, Draft, Handler, Stream
from supervisor.identity import own_identity
from supervisor.runtime.link import Link, Outage
from supervisor.runtime.publisher import Publisher
from supervisor.runtime.results import Origin
from supervisor.runtime.runner import Runner

HOST: Final = "box"
SAID: Final = "toy.said"
PATIENCE_S: Final = 20.0


class Said(Struct, frozen=True):
    """What the toy says of an input: which it was, and how many of that stream it has seen with it."""

    n: int
    count: int


class Toy(Handler):
    """Counts its inputs, `{"n": …, "do": …}`; says every one with `do` = say, demands by `speed`, fails on fail."""

    name: ClassVar[str] = "toy"
    streams: ClassVar[tuple[Stream, ...]] = ("inbox",)

    def __init__(self, settings: Any = None, declared: Sequence[Any] = ()) -> None:
        self.counts: dict[str, int] = {}
        self.demanded: dict[str, Demand] = {}
        #: Every input shown, as (n, whether it was of the past).
        self.shown: list[tuple[int, bool]] = []
        self.missed_streams: list[str] = []
        self.ticks = 0
        self.attempts: dict[int, int] = {}
        #: While it is clear, inputs with `do` = wait are in hand.
        self.go_on = asyncio.Event()

    async def handle(self, event: Event, context: Context) -> Decisions | None:
        what = event.decode(dict)
        n, do = what.get("n", 0), what.get("do", "")
        self.attempts[n] = self.attempts.get(n, 0) + 1
        if do == "fail" or (do == "fail twice" and self.attempts[n] <= 2):
            raise RuntimeError(f"input {n} is too much")
        self.shown.append((n, context.replaying))
        if do == "wait":
            await self.go_on.wait()
        self.counts[context.stream] = count = self.counts.get(context.stream, 0) + 1
        demands = []
        if (speed := what.get("speed")) is not None:
            demands.append(self.demand(speed, f"after {count}"))
        said = []
        if do in ("say", "wait", "fail twice"):
            said.append(Draft(SAID, "toy", f"input {n} is no. {count}", Said(n, count)))
        return Decisions(events=said, demands=demands) if said or demands else None

    def demand(self, speed: float, reason: str) -> Demand:
        """Demand a speed of gpu0 from now on."""
        action: Action = "run" if speed == 1 else "pause" if speed == 0 else "throttle"
        demand = Demand(issuer=self.name, target="gpu0", action=action, speed=speed, reason=reason)
        self.demanded["gpu0"] = demand
        return demand

    def snapshot(self) -> bytes:
        return msgspec.json.encode([self.counts, self.demanded])

    def restore(self, snapshot: bytes) -> None:
        self.counts, self.demanded = msgspec.json.decode(snapshot, type=tuple[dict[str, int], dict[str, Demand]])

    def missed(self, stream: Stream, context: Context) -> Decisions | None:
        self.missed_streams.append(stream)
        return None

    def tick(self, context: Context) -> Decisions | None:
        self.ticks += 1
        return None

    def demands(self) -> Sequence[Demand]:
        return list(self.demanded.values())


def an_input(n: int, do: str = "", **fields: Any) -> Event:
    """An entry for the inbox; the same `n` is the same input."""
    data = msgspec.json.encode({"n": n, "do": do, **fields})
    return Event(f"input-{n}", "toy.input", "test", "toy", "2026-11-21T12:00:00.000Z", f"input {n}", data)


def a_sample(tick: int, boot_id: str) -> Sample:
    """A tick of our host."""
    return Sample(
        host=HOST, boot_id=boot_id, tick=tick, time="2026-11-21T12:00:00.000Z", monotonic_s=float(tick), interval_s=1.0
    )


class World:
    """A server and a state directory, which outlive every life."""

    def __init__(self, url: str, state: Path) -> None:
        self.url = url
        self.state = state
        self.client: Any = Redis.from_url(url, protocol=2, socket_timeout=PATIENCE_S)

    async def tell(self, *inputs: Event, stream: str = inbox_key()) -> None:
        """Write inputs to a stream."""
        for event in inputs:
            await self.client.xadd(stream, dict(zip(event.fields()[::2], event.fields()[1::2], strict=True)))

    async def events(self, *types: str) -> list[Event]:
        """Every event in the stream, of these types where any are given."""
        events = [event_from_entry(fields) for _, fields in await self.client.xrange(events_key())]
        return [event for event in events if not types or event.type in types]

    async def said(self) -> list[tuple[int, int]]:
        """What toys said: (n, count)."""
        return [(one.n, one.count) for one in [event.decode(Said) for event in await self.events(SAID)]]

    async def directives(self) -> list[Directive]:
        """Every directive that was issued."""
        return [event.decode(Directive) for event in await self.events("flyball.directive.issued")]

    async def retained(self, target: str = "gpu0") -> Directive:
        """The directive in its hash."""
        fields = await self.client.hgetall(directive_key(HOST, target))
        texts = {name.decode(): value.decode() for name, value in fields.items()}
        return msgspec.convert(texts, Directive, strict=False)

    async def dead(self) -> list[dict[str, str]]:
        """The dead letters."""
        rows = await self.client.xrange(dead_key())
        return [{name.decode(): value.decode() for name, value in fields.items()} for _, fields in rows]

    async def until_acknowledged(self, group: str = f"toy.{HOST}", stream: str = inbox_key()) -> None:
        """Nothing waits for the group any more."""
        await eventually(lambda: self.is_acknowledged(group, stream))

    async def is_acknowledged(self, group: str = f"toy.{HOST}", stream: str = inbox_key()) -> bool:
        """Whether the group is done with everything in the stream."""
        groups = await self.client.xinfo_groups(stream) if await self.client.exists(stream) else []
        newest = await self.client.xrevrange(stream, count=1)
        return any(
            one["name"].decode() == group
            and not one["pending"]
            and (not newest or one["last-delivered-id"] == newest[0][0])
            for one in groups
        )


class Life:
    """The tasks of one process."""

    keys: ClassVar[dict[Stream, str]] = {
        "samples": samples_key(), "inbox": inbox_key(), "events": events_key(), "commands": commands_key(HOST),
    }  # fmt: skip

    def __init__(self, world: World, spool: Spool, timeout_s: float, connect: Callable[..., Connection]) -> None:
        self.clock = SystemClock()
        self.identity = own_identity(world.state, HOST)
        self.world = world
        self.spool = spool
        self.outages: list[Outage] = []
        self.runners: list[Runner] = []
        self._timeout_s = timeout_s
        self._connect = connect
        self._connections: list[Connection] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.link = Link(
            connection=self.connection(), spool=spool, bus=BusSection(url=world.url), identity=self.identity,
            state=world.state, clock=self.clock, duties=lambda connection: forever(),
        )  # fmt: skip
        self.link.when_restored.append(self.outages.append)
        self.publisher = Publisher(self.link, self.connection(), self.say_locally)

    def connection(self) -> Connection:
        """Another connection, closed at the end."""
        self._connections.append(self._connect(self.world.url, timeout_s=self._timeout_s))
        return self._connections[-1]

    def say_locally(self, stream: Stream, event: Event) -> None:
        """To every runner, as the daemon does."""
        for runner in self.runners:
            runner.offer(stream, event)

    def add(self, handler: Handler) -> Runner:
        """A runner for the handler."""
        runner = Runner(
            handler, link=self.link, connection=self.connection(), origin=Origin(HOST, handler.name, 0, 10_000),
            keys={stream: self.keys[stream] for stream in handler.streams}, boot_id=self.identity.boot_id,
            clock=self.clock, say_locally=self.say_locally,
        )  # fmt: skip
        self.runners.append(runner)
        return runner

    def start(self) -> None:
        """Begin to work, connected or not."""
        works = {"link": self.link.run(), "publisher": self.publisher.run()}
        works |= {runner.handler.name: runner.run() for runner in self.runners}
        self._tasks = [asyncio.create_task(work, name=name) for name, work in works.items()]

    async def ready(self) -> None:
        """The bus is there, and every handler has begun to read."""

        async def reads(runner: Runner) -> bool:
            keys = [self.keys[stream] for stream in runner.handler.streams]
            groups = [await self.world.client.xinfo_groups(key) for key in keys if await self.world.client.exists(key)]
            name = f"{runner.handler.name}.{HOST}".encode()
            return sum(name in (one["name"] for one in those) for those in groups) == len(keys)

        await until(lambda: self.link.up)
        for runner in self.runners:
            await eventually(partial(reads, runner))

    async def ended(self) -> None:
        """Wait for the end of any task, and raise what ended it."""
        async with asyncio.timeout(PATIENCE_S):
            done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def stop(self) -> None:
        """The clean end of the handlers."""
        for runner in self.runners:
            runner.stop()
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.wait([task for task in self._tasks if task.get_name() not in ("link", "publisher")])
        for runner in self.runners:
            await runner.close()

    async def crash(self) -> None:
        """Everything ends where it is."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in self._connections:
            await connection.close()


@asynccontextmanager
async def life(
    world: World,
    *handlers: Handler,
    timeout_s: float = 5.0,
    spool_bytes: int = 64 << 20,
    connect: Callable[..., Connection] = Connection,
    begun: bool = True,
) -> AsyncIterator[Life]:
    """A life in this world, at work unless `begun` is false; a task that failed fails the test."""
    with Spool(world.state / "spool.db", spool_bytes) as spool:
        one = Life(world, spool, timeout_s, connect)
        try:
            for handler in handlers:
                one.add(handler)
            if begun:
                one.start()
            yield one
            for task in one._tasks:
                if task.done() and not task.cancelled():
                    task.result()
        finally:
            await one.crash()


async def forever() -> None:
    """Duties that are never done."""
    await asyncio.Event().wait()


async def eventually(happened: Callable[[], Awaitable[object]]) -> None:
    """Look until something has happened of which nobody tells."""
    async with asyncio.timeout(PATIENCE_S):
        while not await happened():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


async def until(happened: Callable[[], object]) -> None:
    """The same of something that is known at once."""
    async with asyncio.timeout(PATIENCE_S):
        while not happened():  # noqa: ASYNC110
            await asyncio.sleep(0.001)
