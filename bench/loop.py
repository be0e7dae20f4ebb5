"""From a sample that is published to the callback of a workload that obeys, beside the bare chain over redis-py.

Ours are the daemon's own pieces (publisher, link, runner, the ladder, the commit) and the SDK; the floors are the same
four steps over redis-py's client, and over the raw protocol. FastStream's chain is the peer. All run in turn in one
run, on uvloop, over one server with one payload, so that what the machine does meanwhile happens to all of them;
and all on one core, since otherwise it is measured where the scheduler happens to put a server and its clients.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Final

import uvloop

from bench import report
from bench.chains import Bare, Chain, Raw, ours
from bench.peers.environment import Peer, peer
from bench.report import Report, at_most, percentile
from bench.rig import HOST, on_one_core, rig
from bench.samples import sample
from bench.server import private_server
from supervisor.clock import SystemClock
from supervisor.runtime.publisher import to_event

SAMPLES_A_ROUND: Final = 300
#: Before each round, since another chain has had the core's caches.
WARM_UP: Final = 20
Spent = dict[str, list[list[float]]]


async def measure(url: str, *, rounds: int, count: int = SAMPLES_A_ROUND, peers: bool = True) -> tuple[Spent, int]:
    """Seconds of every sample by chain and round, and the size of the payload in bytes."""
    payload = to_event(sample(HOST, "b" * 36, 1, SystemClock())).data
    async with AsyncExitStack() as stack:
        supervisor = await stack.enter_async_context(rig(url))
        chains: dict[str, Chain] = {"bare": await stack.enter_async_context(Bare(url, payload))}
        chains["raw"] = await stack.enter_async_context(Raw(url, payload))
        if peers:
            faststream = await stack.enter_async_context(peer("faststream_chain", url, str(len(payload))))
            if faststream:
                chains["faststream"] = _Remote(faststream)
        chains["ours"] = await stack.enter_async_context(ours(supervisor))
        spent: Spent = {name: [] for name in chains}
        for _ in range(rounds):
            for name, chain in chains.items():
                await chain.go(WARM_UP)
                spent[name].append(await chain.go(count))
    return spent, len(payload)


class _Remote:
    """A chain in a peer's process."""

    def __init__(self, program: Peer) -> None:
        self._program = program

    async def go(self, count: int) -> list[float]:
        answer: list[float] = await self._program.ask(count)
        return answer


def add_rows(rows: Report, spent: Mapping[str, Sequence[Sequence[float]]], payload: int) -> None:
    """The figures; p50 and p99 are medians over the rounds, so that one bad moment of the machine does not decide."""
    goals = {"p50": at_most(1.5, "floor"), "p99": at_most(2, "floor")}
    what = f"sample → callback, {payload / 1000:.1f} kB"
    for figure, share in (("p50", 0.5), ("p99", 0.99)):
        of = {name: _over_rounds(rounds, share) for name, rounds in spent.items()}
        rows.add(
            f"{what} (floor: redis-py, peer: FastStream)", figure, "µs",
            ours=of["ours"], floor=of["bare"], peer=of.get("faststream"), goal=goals[figure],
        )  # fmt: skip
        rows.add(f"{what} (floor: raw protocol)", figure, "µs", ours=of["ours"], floor=of["raw"])
        rows.add(
            f"{what}, beside FastStream", figure, "µs",
            ours=of["ours"], peer=of.get("faststream"), goal=at_most(1, "peer"),
        )  # fmt: skip


def _over_rounds(rounds: Sequence[Sequence[float]], share: float) -> float:
    """In microseconds."""
    return 1e6 * percentile([percentile(each, share) for each in rounds], 0.5)


def main() -> None:
    """Measure and print."""
    options = report.options("from a published sample to the callback of a workload")
    rows = Report("loop", options)
    on_one_core()
    with private_server() as url, asyncio.Runner(loop_factory=uvloop.Loop) as runner:
        spent, payload = runner.run(measure(url, rounds=3 if options.quick else 15))
    add_rows(rows, spent, payload)
    rows.finish()


if __name__ == "__main__":
    main()
