"""The real pieces of the daemon on a server of one's own: link, publisher and a handler's runner, without a sampler."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Final

from supervisor.bus.connection import Connection
from supervisor.bus.keys import samples_key
from supervisor.bus.spool import Spool
from supervisor.clock import SystemClock
from supervisor.config import BusSection
from supervisor.handler import Handler
from supervisor.identity import Identity, own_identity
from supervisor.runtime.link import Link
from supervisor.runtime.publisher import Publisher
from supervisor.runtime.results import Origin
from supervisor.runtime.runner import Runner
from supervisor.runtime.standing import Standing

HOST: Final = "bench-host"


class Rig:
    """A link that holds the lease of `bench-host`, and what works over it."""

    def __init__(self, url: str, link: Link, identity: Identity, clock: SystemClock) -> None:
        self.url = url
        self.link = link
        self.identity = identity
        self.clock = clock
        self.standing = Standing()
        self._ticks = count(1)

    def next_tick(self) -> int:
        """Ticks only grow, or their samples are taken for ones that came before."""
        return next(self._ticks)

    def connection(self) -> Connection:
        """Another connection to the server."""
        return Connection(self.url, timeout_s=2.0)

    def publisher(self) -> Publisher:
        """The owner of the stream of samples."""
        return Publisher(self.link, self.connection(), lambda stream, event: None)

    def runner(self, handler: Handler) -> Runner:
        """The owner of a handler that reads samples."""
        return Runner(
            handler, link=self.link, connection=self.connection(), origin=Origin(HOST, handler.name, 0, 100_000),
            keys={"samples": samples_key()}, boot_id=self.identity.boot_id, clock=self.clock,
            committed=self.standing.issued,
        )  # fmt: skip


@asynccontextmanager
async def rig(url: str) -> AsyncIterator[Rig]:
    """A rig over the server at `url`; at its end the lease is given up."""
    clock = SystemClock()
    with tempfile.TemporaryDirectory() as directory, Spool(Path(directory, "spool.db"), 64 << 20) as spool:
        identity = own_identity(Path(directory), HOST)
        connection = Connection(url, timeout_s=2.0)
        link = Link(
            connection=connection, spool=spool, bus=BusSection(url=url), identity=identity, state=Path(directory),
            clock=clock, duties=lambda connection: asyncio.sleep(0),
        )  # fmt: skip
        try:
            await link.connect()
            yield Rig(url, link, identity, clock)
            await link.release(connection)
        finally:
            await connection.close()


def on_one_core() -> None:
    """Bind this process, and what it starts from now on, to one core, where the system lets us."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
