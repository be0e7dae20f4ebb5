"""Batch consumption: acknowledge what was done and read what is new in one round trip, own pending entries first."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from supervisor.bus.connection import Command, Connection
from supervisor.bus.keys import demands_key
from supervisor.errors import BusError
from supervisor.handler import Stream

BATCH: Final = 100
#: The one consumer of a group: after a restart its pending entries are ours again.
CONSUMER: Final = "flyball"
#: Entries that another consumer has held this long are taken over.
CLAIM_IDLE_MS: Final = 60_000
#: Streams that are read from their beginning by a new group; of the others only what is new matters.
FROM_THE_BEGINNING: Final = frozenset({"inbox", "commands"})


class Delivery(NamedTuple):
    """An entry as it arrived: which stream, its id there, and names and values in turn (None: trimmed away)."""

    stream: Stream
    entry: str
    fields: list[bytes] | None


class Gap(NamedTuple):
    """Entries of `stream` after `after` were trimmed before we read them; `lost` is None where nobody counted."""

    stream: Stream
    after: str
    first: str
    lost: int | None


def trimmed(stream: Stream, entries: Sequence[str]) -> list[Gap]:
    """The gap that entries leave which were delivered, never acknowledged, and are gone."""
    return [Gap(stream, _before(entries[0]), entries[-1], len(entries))] if entries else []


class Consumer:
    """A consumer group on one or more streams, over a connection of its own."""

    def __init__(self, connection: Connection, group: str, streams: Mapping[Stream, str]) -> None:
        """`streams` maps the logical names to keys."""
        self.connection = connection
        self.group = group
        self.streams = dict(streams)
        self._names: dict[str, Stream] = {key: name for name, key in self.streams.items()}
        #: Entries that wait for this group, as of the last `gaps`; None where nobody counts.
        self.lag: int | None = None
        self._pending = True
        self._known = False

    @property
    def reads_pending(self) -> bool:
        """Whether entries that were delivered earlier and never acknowledged are still being read."""
        return self._pending

    async def open(self) -> list[Gap]:
        """Make the groups where they are missing and start from our own pending entries; returns what was lost.

        :raises BusError: the server is away or refuses us.
        """
        gaps: list[Gap] = []
        for name, key in self.streams.items():
            # A group that vanished was lost with the server's data: all that is there now came after that.
            start = "0" if self._known or name in FROM_THE_BEGINNING else "$"
            # Asked first, because a server over its memory limit would refuse to make even the group that is there.
            if not await self._has_group(key):
                await self._make_group(key, start)
            gaps += await self._claim(name, key)
            gaps += await self._gap(name, key)
        self._known = True
        self._pending = True
        return gaps

    async def _make_group(self, key: str, start: str) -> None:
        """Make it, unless a supervisor that takes over from us, or from which we do, was quicker."""
        try:
            await self.connection.ask("XGROUP", "CREATE", key, self.group, start, "MKSTREAM")
        except BusError as error:
            if "BUSYGROUP" not in str(error):
                raise

    async def positions(self) -> dict[Stream, str]:
        """Up to where each stream is acknowledged; entries are handled in order, so one id a stream is enough."""
        positions: dict[Stream, str] = {}
        for name, key in self.streams.items():
            pending = await self.connection.ask("XPENDING", key, self.group)
            if pending[0]:
                positions[name] = _before(pending[1].decode())
            else:
                positions[name] = (await self._group_info(key))["last-delivered-id"].decode()
        return positions

    async def deliveries(self) -> dict[tuple[Stream, str], int]:
        """How often each pending entry was delivered; a count above 5 means that it took the daemon down with it."""
        counts: dict[tuple[Stream, str], int] = {}
        for name, key in self.streams.items():
            for entry, _, _, times in await self.connection.ask("XPENDING", key, self.group, "-", "+", BATCH):
                counts[name, entry.decode()] = int(times)
        return counts

    async def reread(self, stream: Stream, after: str, upto: str) -> AsyncIterator[Delivery]:
        """Entries in (after, upto], without the group noticing."""
        start = f"({after}"
        while True:
            entries = await self.connection.ask("XRANGE", self.streams[stream], start, upto, "COUNT", BATCH)
            for entry, fields in entries:
                yield Delivery(stream, entry.decode(), fields)
            if len(entries) < BATCH:
                return
            start = f"({entries[-1][0].decode()}"

    async def send(
        self,
        before: Sequence[Command],
        acknowledge: Mapping[Stream, Sequence[str]],
        block_s: float,
        after: Sequence[Command] = (),
    ) -> int:
        """Write `before`, the acknowledgements, `after` and the next read at once; returns how many replies come first.

        A snapshot belongs into `after`: where the write is cut short, it must not hold more than was acknowledged.
        """
        commands = [*before, *self.acknowledgements(acknowledge), *after]
        position = "0" if self._pending else ">"
        keys = self.streams.values()
        block_ms = max(1, int(block_s * 1000))
        read: Command = ["XREADGROUP", "GROUP", self.group, CONSUMER, "COUNT", BATCH, "BLOCK", block_ms]
        await self.connection.send(*commands, (*read, "STREAMS", *keys, *(position for _ in keys)))
        return len(commands)

    def acknowledgements(self, done: Mapping[Stream, Sequence[str]]) -> list[Command]:
        """The commands that acknowledge these entries."""
        return [("XACK", self.streams[stream], self.group, *entries) for stream, entries in done.items() if entries]

    async def receive(self, block_s: float) -> list[Delivery]:
        """The entries of the read that `send` began; empty when nothing came within `block_s`.

        :raises BusError: among them NOGROUP, after which `open` makes the groups again.
        """
        reply: Any = await self.connection.receive(block_s)
        deliveries = [
            Delivery(self._names[key.decode()], entry.decode(), fields)
            for key, entries in reply or ()
            for entry, fields in entries
        ]
        if self._pending and not deliveries:
            self._pending = False
        return deliveries

    async def gaps(self) -> list[Gap]:
        """What was trimmed away unread, on any of the streams; counts the lag as well.

        The next read then looks for entries of ours that nobody has in hand: a supervisor that was stopped and woke may
        have taken them before it learned that we are here, or an answer was lost.
        """
        self.lag = 0
        found: list[Gap] = []
        for name, key in self.streams.items():
            found += await self._claim(name, key)
            found += await self._gap(name, key)
        self._pending = True
        return found

    async def demanded(self, host: str, issuer: str, shard: int) -> set[str]:
        """The targets of `host` of which `issuer` demands something."""
        targets: set[str] = set()
        prefix = demands_key(host, "", shard)
        cursor = b"0"
        while True:
            cursor, keys = await self.connection.ask("SCAN", cursor, "MATCH", f"{prefix}*", "COUNT", 1000)
            for key in keys:
                if await self.connection.ask("HEXISTS", key, issuer):
                    targets.add(key.decode().removeprefix(prefix))
            if cursor == b"0":
                return targets

    async def _gap(self, name: Stream, key: str) -> list[Gap]:
        """Entries behind the group's position that are gone; what lag counts beyond what is there was lost."""
        info = await self._group_info(key)
        position = info["last-delivered-id"].decode()
        behind = info.get("lag")
        self.lag = None if behind is None or self.lag is None else self.lag + int(behind)
        first = await self.connection.ask("XRANGE", key, "-", "+", "COUNT", 1)
        if not first or _key(first[0][0].decode()) <= _key(position):
            return []
        if "lag" in info:
            if behind is None:
                return []
            lost = int(behind) - int(await self.connection.ask("XLEN", key))
            return [Gap(name, position, first[0][0].decode(), lost)] if lost > 0 else []
        # Before Redis 7 nobody counts: a position of 0-0 means that nothing was ever read.
        return [] if position == "0-0" else [Gap(name, position, first[0][0].decode(), None)]

    async def _claim(self, name: Stream, key: str) -> list[Gap]:
        """Make what another consumer left lying our own pending entries; returns those that are not there any more."""
        reply = await self.connection.ask(
            "XAUTOCLAIM", key, self.group, CONSUMER, CLAIM_IDLE_MS, "0-0", "COUNT", BATCH, "JUSTID"
        )
        deleted = reply[2] if len(reply) > 2 else ()  # since Redis 7
        return trimmed(name, [entry.decode() for entry in deleted])

    async def _has_group(self, key: str) -> bool:
        if not await self.connection.ask("EXISTS", key):
            return False
        groups = await self.connection.ask("XINFO", "GROUPS", key)
        return any(self.group.encode() in group for group in groups)

    async def _group_info(self, key: str) -> dict[str, Any]:
        for group in await self.connection.ask("XINFO", "GROUPS", key):
            info = {name.decode(): value for name, value in zip(group[::2], group[1::2], strict=True)}
            if info["name"].decode() == self.group:
                return info
        raise BusError(f"the group {self.group} is gone from {key}")


def _key(entry: str) -> tuple[int, int]:
    milliseconds, _, sequence = entry.partition("-")
    return int(milliseconds), int(sequence or 0)


def _before(entry: str) -> str:
    """The largest id below `entry`."""
    milliseconds, sequence = _key(entry)
    if sequence:
        return f"{milliseconds}-{sequence - 1}"
    return f"{max(0, milliseconds - 1)}-18446744073709551615"
