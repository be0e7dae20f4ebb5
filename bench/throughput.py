"""Events a second through decode → handler → commit, where few or all of the events change a directive.

Ours is the daemon's own runner with a handler that decodes each sample and demands something of a card at every
hundredth (or every) one. The floor is the bare batch loop over redis-py (`XACK` of the last batch and `XREADGROUP 100`
in one write, decoded by msgspec, and nothing follows from an event); where every event changes a directive it says so
with a bare `PUBLISH` each. FastStream does the same as the bare loop. All take their turns in one run.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, ClassVar, Final

import msgspec
import redis.asyncio
import uvloop

from bench import report
from bench.chains import DIRECTIVE
from bench.peers.environment import Peer, peer
from bench.report import Report, at_least, percentile
from bench.rig import HOST, Rig, on_one_core, rig
from bench.samples import sample
from bench.server import private_server
from schemas.demand import Demand
from schemas.envelope import Event
from schemas.sample import Sample
from supervisor.bus.keys import samples_key
from supervisor.clock import SystemClock
from supervisor.handler import Context, Decisions, Declared, Handler, sample_of
from supervisor.runtime.publisher import to_event

#: One in so many events changes a directive.
SELDOM: Final = 100
BATCH: Final = 100
PAYLOAD: Final = to_event(sample(HOST, "b" * 36, 1, SystemClock())).data
Rates = dict[str, dict[int, list[float]]]


class Every(Handler):
    """Decodes each sample, and changes its demand at each `every`-th."""

    name: ClassVar[str] = "every"
    streams: ClassVar = ("samples",)

    def __init__(self, settings: object, declared: Sequence[Declared]) -> None:
        self.every = 1
        self.left = 0
        self.begun_s = 0.0
        self.finished: Callable[[], None] = lambda: None

    async def handle(self, event: Event, context: Context) -> Decisions | None:
        """Count down, and demand one of two speeds in turn."""
        self.begun_s = self.begun_s or time.monotonic()
        sample_of(event)
        self.left -= 1
        if not self.left:
            self.finished()
        if self.left % self.every:
            return None
        speed = 0.25 if self.left // self.every % 2 else 0.5
        return Decisions(
            demands=[Demand(issuer=self.name, target="gpu0", action="throttle", speed=speed, reason="because")]
        )


class Ours:
    """The runner, over a stream that is filled while it rests."""

    def __init__(self, supervisor: Rig, client: Any) -> None:
        self._rig = supervisor
        self._client = client
        self._handler = Every(None, ())

    async def go(self, count: int, every: int) -> float:
        """Events a second, from the first one to the runner's end, when everything is committed."""
        handler, runner = self._handler, self._rig.runner(self._handler)
        await _group(self._client, samples_key(), f"{handler.name}.{HOST}")
        boot_id = self._rig.identity.boot_id
        events = (
            to_event(sample(HOST, boot_id, self._rig.next_tick(), self._rig.clock)).fields() for _ in range(count)
        )
        await _fill(self._client, samples_key(), (dict(zip(each[::2], each[1::2], strict=True)) for each in events))
        handler.every, handler.left, handler.begun_s = every, count, 0.0
        handler.finished = runner.stop
        await runner.run()
        spent = time.monotonic() - handler.begun_s
        await runner.close()
        return count / spent


class Bare:
    """One write a batch: acknowledge the last, read the next."""

    STREAM: Final = "bare"

    def __init__(self, client: Any) -> None:
        self._client = client
        self._decode = msgspec.json.Decoder(Sample).decode

    async def go(self, count: int, every: int) -> float:
        """Events a second, from the first read to the last acknowledgement."""
        await _group(self._client, self.STREAM, "group")
        await _fill(self._client, self.STREAM, ({"id": str(number), "data": PAYLOAD} for number in range(count)))
        begun, left = time.monotonic(), count
        done: list[bytes] = []
        while left or done:
            pipeline: Any = self._client.pipeline(transaction=False)
            if every == 1:
                for _ in done:
                    pipeline.publish("bare:throttle", DIRECTIVE)
            if done:
                pipeline.xack(self.STREAM, "group", *done)
            if left:
                pipeline.xreadgroup("group", "consumer", {self.STREAM: ">"}, count=BATCH)
            replies: list[Any] = await pipeline.execute()
            done = []
            if left:
                for entry, fields in replies[-1][0][1]:
                    self._decode(fields[b"data"])
                    done.append(entry)
                left -= len(done)
        return count / (time.monotonic() - begun)


async def _group(client: Any, stream: str, group: str) -> None:
    """An empty stream with a group that has read nothing."""
    await client.delete(stream)
    await client.xgroup_create(stream, group, id="0", mkstream=True)


async def _fill(client: Any, stream: str, entries: Any) -> None:
    """Before the clock runs."""
    pipeline: Any = client.pipeline(transaction=False)
    for fields in entries:
        pipeline.xadd(stream, fields)
        if len(pipeline) >= BATCH:
            await pipeline.execute()
    await pipeline.execute()


@asynccontextmanager
async def faststream(url: str) -> AsyncIterator["Remote | None"]:
    """FastStream's loop in its own environment, None where that is missing."""
    async with peer("faststream_batches", url) as program:
        yield None if program is None else Remote(program)


class Remote:
    """A consumer in a peer's process."""

    def __init__(self, program: Peer) -> None:
        self._program = program

    async def go(self, count: int, every: int) -> float:
        """Events a second, as the peer measured them."""
        return float(await self._program.ask([count, every, PAYLOAD.decode()]))


async def measure(url: str, *, rounds: int, count: int, peers: bool = True) -> Rates:
    """Events a second of every consumer, by how many events are between two changes, one figure a round."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(redis.asyncio.Redis.from_url(url))
        supervisor = await stack.enter_async_context(rig(url))
        consumers: dict[str, Any] = {"bare": Bare(client), "ours": Ours(supervisor, client)}
        if peers and (remote := await stack.enter_async_context(faststream(url))):
            consumers["faststream"] = remote
        rates: Rates = {name: {SELDOM: [], 1: []} for name in consumers}
        for number in range(rounds + 1):
            for name, consumer in consumers.items():
                for every, figures in rates[name].items():
                    rate = await consumer.go(count // 4 if name == "faststream" else count, every)
                    if number:  # in the first round everybody warms up
                        figures.append(rate)
    return rates


def add_rows(rows: Report, rates: Mapping[str, Mapping[int, Sequence[float]]]) -> None:
    """The figures, medians over the rounds."""
    for every, what in ((SELDOM, f"1 in {SELDOM} changes a directive"), (1, "each changes a directive")):
        of = {name: percentile(figures[every], 0.5) for name, figures in rates.items()}
        seldom = every == SELDOM
        rows.add(
            f"{what} (floor: bare batches)", "rate", "events/s",
            ours=of["ours"], floor=of["bare"], goal=at_least(0.5, "floor") if seldom else None,
        )  # fmt: skip
        rows.add(
            f"{what}, beside FastStream", "rate", "events/s",
            ours=of["ours"], peer=of.get("faststream"), goal=at_least(4, "peer") if seldom else None,
        )  # fmt: skip


def main() -> None:
    """Measure and print."""
    options = report.options("events a second through decode, handler and commit")
    rows = Report("throughput", options)
    on_one_core()
    with private_server() as url, asyncio.Runner(loop_factory=uvloop.Loop) as runner:
        rates = runner.run(measure(url, rounds=3 if options.quick else 15, count=2_000 if options.quick else 5_000))
    add_rows(rows, rates)
    rows.finish()


if __name__ == "__main__":
    main()
