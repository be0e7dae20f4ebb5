"""The process may end at any point of its talk with the server: the next one goes on as if nothing had been.

A cut ends the process before a write, in the middle of it, or before the answer. Every point is tried, with a snapshot
after every turn and with none but the first.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import pytest

from schemas.envelope import Event
from supervisor.bus.connection import Command, Connection
from supervisor.bus.keys import inbox_key
from supervisor.handler import Handler
from tests.runtime.rig import Toy, World, an_input, eventually, life

INPUTS: Final = [
    an_input(1, "say"), an_input(2), an_input(3, "say", speed=0.5), an_input(4, "fail"), an_input(5, speed=0),
    an_input(6, "say"), an_input(7, "fail twice"), an_input(8, speed=1), an_input(9, "say"),
]  # fmt: skip


class Cut(BaseException):
    """The end of the process, as far as its code can tell."""


class Scissors:
    """Counts the steps of every connection of a life, and cuts at one of them."""

    def __init__(self, at: int) -> None:
        self.left = at

    @property
    def was_used(self) -> bool:
        """Whether the life was long enough."""
        return self.left < 0

    def step(self) -> None:
        """One more; everything after the cut is cut as well."""
        self.left -= 1
        if self.left < 0:
            raise Cut

    def connect(self, url: str, **options: Any) -> Connection:
        """A connection that they can cut."""
        return _Fragile(self, url, **options)


class _Fragile(Connection):
    def __init__(self, scissors: Scissors, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self._scissors = scissors

    async def send(self, *commands: Command) -> None:
        """Some arrive, or all."""
        for arrived in range(len(commands)):
            try:
                self._scissors.step()
            except Cut:
                if arrived:
                    await super().send(*commands[:arrived])
                raise
        await super().send(*commands)

    async def receive(self, wait_s: float = 0.0) -> Any:
        """An answer, or none."""
        self._scissors.step()
        return await super().receive(wait_s)


@contextmanager
def snapshots_every(seconds: float) -> Iterator[None]:
    """Each turn, or only the first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Handler, "snapshot_every_s", seconds)
        patch.setattr("supervisor.runtime.runner.RETRY_AFTER_S", (0.0, 0.0, 0.0, 0.0))
        yield


async def tell(world: World, inputs: Sequence[Event]) -> None:
    """Write inputs, always under the same ids."""
    for event in inputs:
        fields = dict(zip(event.fields()[::2], event.fields()[1::2], strict=True))
        await world.client.xadd(inbox_key(), fields, id=f"{event.id.removeprefix('input-')}-0")


async def live_until_cut(world: World, toy: Toy, scissors: Scissors) -> None:
    """A life that ends at the cut, or when everything is done."""
    async with life(world, toy, connect=scissors.connect, begun=False) as one:
        try:
            await one.link.connect()
        except Cut:
            return
        work = asyncio.create_task(one.runners[0].run())

        async def over() -> bool:
            return work.done() or await world.is_acknowledged()

        await eventually(over)
        work.cancel()
        (error,) = await asyncio.gather(work, return_exceptions=True)
        if isinstance(error, Exception):
            raise error


async def outcome(world: World) -> tuple[object, ...]:
    """What a reader of the bus sees in the end."""
    events = await world.events()
    assert len({event.id for event in events}) == len(events), "an event id came twice"
    directives = await world.directives()
    seqs = [directive.seq for directive in directives]
    assert seqs == sorted(set(seqs)), "seq fell"
    assert await world.retained() == directives[-1], "the retained directive is not the last one"
    dead = [letter["id"] for letter in await world.dead()]
    return [(event.type, event.text, event.id) for event in events], dead


@pytest.mark.parametrize("every_s", [0.0, 1000.0], ids=["a snapshot each turn", "only the first"])
async def test_cut_anywhere_it_goes_on_as_if_nothing_had_been(world: World, every_s: float) -> None:
    with snapshots_every(every_s):
        await tell(world, INPUTS)
        toy = Toy()
        await live_until_cut(world, toy, Scissors(100_000))
        expected, counts = await outcome(world), dict(toy.counts)
        assert len(await world.said()) == 5

        cuts = 0
        while True:
            await world.client.flushall()
            for path in world.state.glob("spool.db*"):
                path.unlink()
            await tell(world, INPUTS[:5])
            first = Scissors(cuts)
            await live_until_cut(world, Toy(), first)
            await tell(world, INPUTS[5:])
            last = Toy()
            await live_until_cut(world, last, Scissors(100_000))
            assert await outcome(world) == expected, f"cut at step {cuts}"
            assert last.counts == counts, f"cut at step {cuts}"
            if not first.was_used:
                break
            cuts += 1
    assert cuts > 20, "the scissors cut nothing"
