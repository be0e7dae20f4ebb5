"""Holding a speed: a loop at 0.5 rests as long as it works, so that its rate is half of its full one."""

import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Final, Generic, TypeVar

from flyball.valve import Valve, View

T = TypeVar("T")

#: Shorter rests are saved up: a sleep is late by about 0.1 ms whatever its length, and a step may take microseconds.
SHORTEST_REST_S: Final = 0.001
#: A rest that ended late is made good by shorter ones later, but no more than this: nothing may burst.
MOST_CREDIT_S: Final = 0.1
#: Waiting longer than this for the next item is idleness (a queue without requests), not work to rest from.
LONGEST_FETCH_S: Final = 1.0
Waits = Iterator[tuple[int, float | None]]


class Debt:
    """Work not yet rested from, in seconds; below 0 it is a rest that was too long."""

    def __init__(self) -> None:
        self._work_s = 0.0

    def work(self, seconds: float) -> None:
        """So long was worked."""
        self._work_s += seconds

    def owed_s(self, speed: float) -> float:
        """The rest that brings the rate to `speed` (0 < speed < 1): work · (1/speed − 1)."""
        return self._work_s * (1 / speed - 1)

    def rest(self, seconds: float, speed: float) -> None:
        """So long was rested at `speed`."""
        self._work_s = max(self._work_s - seconds / (1 / speed - 1), -MOST_CREDIT_S)

    def forgive(self) -> None:
        """Nothing is owed: full speed, or a pause that was rest enough."""
        self._work_s = 0.0


class Pacer:
    """The book-keeping of one loop. It says how long to wait, and leaves the waiting to its caller."""

    def __init__(self, valve: Valve) -> None:
        self._valve = valve
        self._debt = Debt()
        self._seen = View(-1, 1.0)

    def is_free(self) -> bool:
        """Nothing is new and nothing holds this loop back."""
        return self._seen.turn == self._valve.turn and self._seen.speed >= 1.0

    def is_outdated(self) -> bool:
        """Something is new."""
        return self._seen.turn != self._valve.turn

    def worked(self, began_s: float, ended_s: float) -> None:
        """The loop worked from `began_s` to `ended_s`; what lies before the last change of speed costs nothing."""
        self._debt.work(max(ended_s - max(began_s, self._valve.since_s), 0.0))

    def waits(self) -> Waits:
        """The waits before the next step, as arguments of `Valve.wait` or `Valve.changed`."""
        while True:
            view = self._seen = self._valve.look()
            if view.speed <= 0:
                yield view.turn, None
                self._debt.forgive()
                continue
            if view.speed >= 1 or self._valve.shrinks:
                self._debt.forgive()
                return
            rest_s = self._debt.owed_s(view.speed)
            if rest_s < SHORTEST_REST_S:
                return
            began_s = time.monotonic()
            yield view.turn, rest_s
            self._debt.rest(time.monotonic() - began_s, view.speed)


class Pace(Generic[T]):
    """The items of an iterable at the speed that stands, for `for` and for `async for`; made by `Workload.pace`."""

    def __init__(self, source: Iterable[T], valve: Valve) -> None:
        self._source = source
        self._valve = valve

    def __iter__(self) -> Iterator[T]:
        """Each item, blocking for rests and pauses."""
        valve, pacer, now_s = self._valve, Pacer(self._valve), time.monotonic
        items = iter(self._source)
        while True:
            if not pacer.is_free():
                for wait in pacer.waits():
                    valve.wait(*wait)
            fetched_s = now_s()
            try:
                item = next(items)
            except StopIteration:
                return
            began_s = now_s()
            if pacer.is_outdated():  # it changed while we waited for the item
                for wait in pacer.waits():
                    valve.wait(*wait)
                fetched_s = began_s = now_s()
            yield item
            if not pacer.is_free():
                pacer.worked(max(fetched_s, began_s - LONGEST_FETCH_S), now_s())

    async def __aiter__(self) -> AsyncIterator[T]:
        """Each item, awaiting rests and pauses."""
        async for item in paced(_awaited(self._source), self._valve):
            yield item


async def paced(source: AsyncIterable[T], valve: Valve) -> AsyncIterator[T]:
    """The items of an asynchronous iterable at the speed that stands."""
    pacer, now_s = Pacer(valve), time.monotonic
    items = aiter(source)
    while True:
        if not pacer.is_free():
            for wait in pacer.waits():
                await valve.changed(*wait)
        fetched_s = now_s()
        try:
            item = await anext(items)
        except StopAsyncIteration:
            return
        began_s = now_s()
        if pacer.is_outdated():  # it changed while we waited for the item
            for wait in pacer.waits():
                await valve.changed(*wait)
            fetched_s = began_s = now_s()
        yield item
        if not pacer.is_free():
            pacer.worked(max(fetched_s, began_s - LONGEST_FETCH_S), now_s())


async def _awaited(source: Iterable[T]) -> AsyncIterator[T]:
    """A plain iterable as an asynchronous one."""
    for item in source:
        yield item
