"""The ledger of one host as a program sees it over the bus: ask it, hear its answers, look up what stands."""

import logging
import time
from collections.abc import Mapping
from typing import Final

import msgspec

from flyball.bus import BusLost, Connection, connect
from flyball.entry import command, message
from flyball.supply import free_bytes
from flyball.wire import LedgerAnswer, Release, Reservation, Reserve, Started, memory_channel, reservation_key

log = logging.getLogger("flyball")

_decode_answer: Final = msgspec.json.Decoder(LedgerAnswer).decode
_decode_reservation: Final = msgspec.json.Decoder(Reservation).decode


class NotAllowed(BusLost):
    """The bus is there, and does not let us."""


class Ledger:
    """A connection to speak over and, once it is asked to `listen`, another one to hear over."""

    def __init__(self, host: str, shard: int) -> None:
        """Connect.

        :raises BusLost: no bus is there.
        """
        self._host, self._shard = host, shard
        self._mouth, self._url = connect()
        self._ears: Connection | None = None

    def listen(self) -> None:
        """Hear every answer from now on; to be called before anything is asked.

        :raises BusLost: the connection broke, or the bus does not let us listen.
        """
        self._ears = Connection(self._url)
        self._ears.send("SUBSCRIBE", memory_channel(self._host))
        self._ears.read()

    def say(self, id: str, speaker: str, text: str, data: Reserve | Started | Release) -> None:
        """Send a request under this id.

        :raises BusLost: it may have arrived or not. :raises NotAllowed: it has not.
        """
        said = message(text, data, time.time())._replace(id=id)
        (reply,) = self._mouth.ask(
            [command(said, host=self._host, speaker=speaker, subject=data.allocation_id, shard=self._shard)]
        )
        if isinstance(reply, Exception):
            raise NotAllowed(f"the bus refuses it: {reply}")

    def hear(self, within_s: float) -> LedgerAnswer | None:
        """An answer to anyone, if one comes within so many seconds; None also where what came is none.

        :raises BusLost: the connection broke.
        """
        assert self._ears is not None, "it listens"
        if not self._ears.has_more(within_s):
            return None
        _, _, said = self._ears.read()
        try:
            return _decode_answer(said)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            log.debug("ignored a message about memory: %s", error)
            return None

    def find(self, allocation_id: str) -> Reservation | None:
        """The reservation of that name; None where there is none, or none that can be read.

        :raises BusLost: the connection broke. :raises NotAllowed: the bus does not let us look.
        """
        (reply,) = self._mouth.ask([["HGET", reservation_key(self._host, self._shard), allocation_id]])
        if isinstance(reply, Exception):
            raise NotAllowed(f"the ledger cannot be read: {reply}")
        try:
            return None if reply is None else _decode_reservation(reply)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            log.debug("ignored an entry of the ledger: %s", error)
            return None

    def has_room(self, parts: Mapping[str, int]) -> bool:
        """Whether `parts` (target → bytes) could be had, as the supervisor last said; true where it does not know.

        :raises BusLost: the connection broke.
        """
        free = free_bytes(self._mouth, self._host, self._shard)
        return all((left := free.get(target)) is None or size <= left for target, size in parts.items())

    def close(self) -> None:
        """Hang up."""
        self._mouth.close()
        if self._ears is not None:
            self._ears.close()
