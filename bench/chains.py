"""The chains from a sample to a workload's callback: Flyball's own, the bare one over redis-py, and the raw protocol.

Each has `go(count)`, which sends so many samples, each when the callback has heard of the one before, and returns the
seconds from the call that publishes to the call of the callback.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol, Self, cast
from urllib.parse import urlsplit

import hiredis
import redis.asyncio

from bench.listener import STAMP
from bench.rig import HOST, Rig
from bench.samples import COOL_CELSIUS, WARM_CELSIUS, sample
from handlers.throttle.handler import Throttle
from handlers.throttle.settings import Settings
from supervisor.runtime.publisher import Publisher
from supervisor.runtime.runner import Runner

_WITHIN_S: Final = 5.0
#: What a directive looks like on its channel, for the chains that have no supervisor.
DIRECTIVE: Final = json.dumps({
    "id": "0123456789abcdef0123", "seq": 4294967297, "time": "2026-11-21T12:00:00.000Z", "host": HOST, "target": "gpu0",
    "action": "throttle", "speed": 0.8, "cleanup": "none", "reason": "70 °C; warm", "cause": "sample", "ttl_s": 30,
}).encode()  # fmt: skip


class Chain(Protocol):
    """One way from a sample to a callback."""

    async def go(self, count: int) -> list[float]:
        """Seconds of so many samples, one after the other."""
        ...


class Heard:
    """When the callback was called last, for who waits for it."""

    def __init__(self) -> None:
        self._stamps: asyncio.Queue[float] = asyncio.Queue()

    def at(self, stamp_s: float) -> None:
        """It was called then."""
        self._stamps.put_nowait(stamp_s)

    async def next(self) -> float:
        """Wait for the call that comes.

        :raises TimeoutError: it does not come.
        """
        async with asyncio.timeout(_WITHIN_S):
            return await self._stamps.get()


# -- ours --------------------------------------------------------------------------------------------------------------


class Ours:
    """Publisher, link, runner and the ladder, without its waits so that it moves at each measured sample."""

    def __init__(self, rig: Rig, publisher: Publisher, runner: Runner, heard: Heard) -> None:
        self._rig, self._publisher, self._runner, self._heard = rig, publisher, runner, heard
        self._warm = False

    async def go(self, count: int) -> list[float]:
        """The ladder goes down at the first warm sample, and up at the second cool one."""
        spent: list[float] = []
        for _ in range(count):
            if self._warm:
                await self.unheard(COOL_CELSIUS)
            self._warm = not self._warm
            begun = time.monotonic()
            self._deliver(WARM_CELSIUS if self._warm else COOL_CELSIUS)
            spent.append(await self._heard.next() - begun)
        return spent

    async def unheard(self, celsius: float) -> None:
        """A sample from which nothing follows for the workload."""
        handled = self._runner.status().handled
        self._deliver(celsius)
        async with asyncio.timeout(_WITHIN_S):
            while self._runner.status().handled == handled:  # noqa: ASYNC110 - the runner tells nobody that it is done
                await asyncio.sleep(0)

    def _deliver(self, celsius: float) -> None:
        rig = self._rig
        self._publisher.deliver(sample(HOST, rig.identity.boot_id, rig.next_tick(), rig.clock, celsius))


@asynccontextmanager
async def ours(rig: Rig) -> AsyncIterator[Ours]:
    """Our chain; the workload is a program of its own, as in life."""
    settings = Settings(throttle_cooldown_seconds=0, critical_pause_seconds=0)
    publisher, runner = rig.publisher(), rig.runner(Throttle(settings, ()))
    tasks = [asyncio.create_task(publisher.run(), name="publisher"), asyncio.create_task(runner.run(), name="runner")]
    heard = Heard()
    chain = Ours(rig, publisher, runner, heard)
    try:
        await asyncio.sleep(0.1)  # until the group is there, a sample is not read
        for _ in range(2):
            await chain.unheard(COOL_CELSIUS)
        async with _workload(rig.url, heard):
            yield chain
    finally:
        runner.stop()
        publisher.stop()
        await asyncio.gather(*tasks)
        await runner.close()
        await publisher.close()


@asynccontextmanager
async def _workload(url: str, heard: Heard) -> AsyncIterator[None]:
    """A program that says when its callback was called."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.listener", str(write), HOST,
        env={**os.environ, "FLYBALL_URL": url}, stdin=asyncio.subprocess.PIPE, pass_fds=[write],
    )  # fmt: skip
    loop = asyncio.get_running_loop()

    def hear() -> None:
        for (stamp_s,) in STAMP.iter_unpack(os.read(read, 64 * STAMP.size)):
            heard.at(stamp_s)

    loop.add_reader(read, hear)
    try:
        while await heard.next():
            pass  # what stood before; it writes 0 when it listens
        await _silence(heard)
        yield
    finally:
        await process.communicate(b"")  # the end of its standard input
        loop.remove_reader(read)
        os.close(read)
        os.close(write)


async def _silence(heard: Heard) -> None:
    """Let go by what stood at the start."""
    try:
        async with asyncio.timeout(0.3):
            while True:
                await heard.next()
    except TimeoutError:
        return


# -- the bare one --------------------------------------------------------------------------------------------------


class Bare:
    """XADD → XREADGROUP → PUBLISH → callback over redis-py's client, as one would write it in an afternoon."""

    STREAM: Final = "bare"
    CHANNEL: Final = "bare:throttle"

    def __init__(self, url: str, payload: bytes) -> None:
        self._payload = payload
        self._client = redis.asyncio.Redis.from_url(url)
        self._reader = redis.asyncio.Redis.from_url(url)
        self._ears = redis.asyncio.Redis.from_url(url)
        self._heard = Heard()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Listen, then read."""
        await self._client.xgroup_create(self.STREAM, "group", id="$", mkstream=True)
        subscription = self._ears.pubsub(ignore_subscribe_messages=True)
        await subscription.subscribe(self.CHANNEL)
        self._tasks = [
            asyncio.create_task(self._listen(subscription), name="bare listener"),
            asyncio.create_task(self._consume(), name="bare consumer"),
        ]
        return self

    async def go(self, count: int) -> list[float]:
        """One after the other."""
        spent: list[float] = []
        for number in range(count):
            begun = time.monotonic()
            await self._client.xadd(self.STREAM, {"id": str(number), "data": self._payload})
            spent.append(await self._heard.next() - begun)
        return spent

    async def __aexit__(self, *_: object) -> None:
        """Stop and hang up."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for client in (self._client, self._reader, self._ears):
            await client.aclose()

    async def _listen(self, subscription: Any) -> None:
        async for _ in subscription.listen():
            self._heard.at(time.monotonic())

    async def _consume(self) -> None:
        while True:
            reply: Any = await self._reader.xreadgroup("group", "consumer", {self.STREAM: ">"}, count=100, block=1000)
            for _, entries in reply or ():
                for entry, _ in entries:
                    await self._reader.publish(self.CHANNEL, DIRECTIVE)
                    await self._reader.xack(self.STREAM, "group", entry)


# -- the raw protocol ----------------------------------------------------------------------------------------------


class _Line(asyncio.Protocol):
    """A connection that hands each reply on."""

    def __init__(self, said: Any) -> None:
        self._said = said
        self._parser = hiredis.Reader()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed(data)
        while (reply := self._parser.gets()) is not False:
            self._said(reply)

    def ask(self, *commands: tuple[Any, ...]) -> None:
        self.transport.write(b"".join(hiredis.pack_command(command) for command in commands))


class Raw:
    """The same four steps by callbacks on the protocol: what cannot be beaten in Python."""

    STREAM: Final = "raw"
    CHANNEL: Final = "raw:throttle"

    def __init__(self, url: str, payload: bytes) -> None:
        self._socket = urlsplit(url).path
        self._payload = payload
        self._heard = Heard()
        self._lines: list[_Line] = []

    async def __aenter__(self) -> Self:
        """Listen, then read."""
        loop = asyncio.get_running_loop()
        for said in (lambda reply: None, self._on_entry, self._on_message):
            _, line = await loop.create_unix_connection(lambda said=said: _Line(said), self._socket)  # type: ignore[misc]
            self._lines.append(line)
        self._writer, self._reader, self._ears = self._lines
        self._reader.ask(("XGROUP", "CREATE", self.STREAM, "group", "$", "MKSTREAM"), self._read())
        self._ears.ask(("SUBSCRIBE", self.CHANNEL))
        await _silence(self._heard)
        return self

    async def go(self, count: int) -> list[float]:
        """One after the other."""
        spent: list[float] = []
        for number in range(count):
            begun = time.monotonic()
            self._writer.ask(("XADD", self.STREAM, "*", "id", str(number), "data", self._payload))
            spent.append(await self._heard.next() - begun)
        return spent

    async def __aexit__(self, *_: object) -> None:
        """Hang up."""
        for line in self._lines:
            line.transport.close()

    def _read(self) -> tuple[Any, ...]:
        return ("XREADGROUP", "GROUP", "group", "consumer", "COUNT", "100", "BLOCK", "0", "STREAMS", self.STREAM, ">")

    def _on_entry(self, reply: Any) -> None:
        if isinstance(reply, list):
            entry = reply[0][1][0][0]
            self._reader.ask(
                ("PUBLISH", self.CHANNEL, DIRECTIVE), ("XACK", self.STREAM, "group", entry), self._read()
            )  # fmt: skip

    def _on_message(self, reply: Any) -> None:
        if reply[0] == b"message":
            self._heard.at(time.monotonic())
