"""A reservation made and given back through the daemon's own desk, beside one bare FCALL on the same server.

The floor is a function that returns 1, called through redis-py's client, and over the connection that the desk uses
itself. All take turns on one core, on uvloop. The ledger holds `STANDING` reservations meanwhile.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import redis.asyncio
import uvloop

from bench.report import Report, at_most, percentile
from bench.rig import HOST, Rig, on_one_core, rig
from bench.server import private_server
from schemas.workload import Release, Reserve
from supervisor.bus.keys import capacity_key
from supervisor.handler import Decisions, LedgerEntry, Reconcile
from supervisor.runtime.desk import Desk
from supervisor.runtime.results import Origin

PAIRS_A_ROUND: Final = 300
WARM_UP: Final = 20
#: A busy host's ledger.
STANDING: Final = 8
_MIB: Final = 2**20
_BARE: Final = "#!lua name=bench\nredis.register_function('bench_bare', function(keys, args) return 1 end)"

Spent = dict[str, list[list[float]]]


async def measure(url: str, *, rounds: int, count: int = PAIRS_A_ROUND) -> Spent:
    """Seconds of every pair and of every bare call, by round."""
    async with AsyncExitStack() as stack:
        supervisor = await stack.enter_async_context(rig(url))
        desk = await stack.enter_async_context(_desk(supervisor))
        bare: Any = await stack.enter_async_context(redis.asyncio.Redis.from_url(url))
        wire = supervisor.connection()
        stack.push_async_callback(wire.close)
        await wire.ask("FUNCTION", "LOAD", "REPLACE", _BARE)
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "bare": lambda: bare.fcall("bench_bare", 0),
            "wire": lambda: wire.ask("FCALL", "bench_bare", 0),
            "ours": lambda: _pair(desk),
        }
        seconds: Spent = {name: [] for name in calls}
        for _ in range(rounds):
            for name, call in calls.items():
                await _go(call, WARM_UP)
                seconds[name].append(await _go(call, count))
        return seconds


def spent(*, quick: bool) -> Spent:
    """Seconds by kind of call and round, on a server of their own; binds this process to one core from now on."""
    on_one_core()
    with private_server() as url, asyncio.Runner(loop_factory=uvloop.Loop) as runner:
        return runner.run(measure(url, rounds=5 if quick else 25))


def add_rows(rows: Report, seconds: Mapping[str, Sequence[Sequence[float]]]) -> None:
    """The figures; each is the median over the rounds, so that one bad moment of the machine does not decide."""
    what = f"allocate + deallocate, {STANDING} others (floor: a bare FCALL"
    for figure, share, goal in (("p50", 0.5, None), ("p99", 0.99, at_most(3, "floor"))):
        of = {name: 1e6 * percentile([percentile(one, share) for one in each], 0.5) for name, each in seconds.items()}
        rows.add(f"{what}, redis-py)", figure, "µs", ours=of["ours"], floor=of["bare"], goal=goal)
        rows.add(f"{what}, our own connection)", figure, "µs", ours=of["ours"], floor=of["wire"], goal=goal)


@asynccontextmanager
async def _desk(supervisor: Rig) -> AsyncIterator[Desk]:
    """A desk over a ledger that is known, with some reservations in it, and a card of 80 GiB."""
    connection = supervisor.connection()
    desk = Desk(supervisor.link, connection, lambda handler: Origin(HOST, handler, 0, 100_000), supervisor.clock)
    try:
        capacity = ("limit_bytes", 80 << 30, "reserve_bytes", 0, "used_bytes", 0, "held", "{}")
        await connection.ask("HSET", capacity_key(HOST, "gpu0"), *capacity)
        standing = [_asks(f"standing-{number}") for number in range(STANDING)]
        entry = LedgerEntry(request="start", change=Reconcile(()))
        await desk.decide("memory", Decisions(ledger=[entry, *standing]))
        yield desk
    finally:
        await desk.close()


def _asks(name: str) -> LedgerEntry:
    change = Reserve(allocation_id=name, owner="llm", parts={"gpu0": 1024 * _MIB}, ttl_s=60.0)
    return LedgerEntry(request=f"{name} asked", change=change)


async def _pair(desk: Desk) -> None:
    release = LedgerEntry(request="back", change=Release(allocation_id="llm_model"))
    answers = [
        *await desk.decide("memory", Decisions(ledger=[_asks("llm_model")])),
        *await desk.decide("memory", Decisions(ledger=[release])),
    ]
    assert [answer.outcome for answer in answers] == ["reserved", "released"], answers


async def _go(call: Callable[[], Awaitable[object]], count: int) -> list[float]:
    """Seconds of so many calls, one after the other."""
    seconds = []
    for _ in range(count):
        begun = time.perf_counter()
        await call()
        seconds.append(time.perf_counter() - begun)
    return seconds
