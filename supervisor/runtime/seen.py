"""Which inputs a handler has decided on, so that one that comes again is not decided on again."""

import logging
from collections import OrderedDict
from typing import Final

from schemas.envelope import Event
from supervisor.bus.spool import Spool
from supervisor.errors import SpoolError
from supervisor.handler import Stream

_log = logging.getLogger(__name__)

#: Ids that are remembered of streams other than samples.
REMEMBERED: Final = 4_000


class Seen:
    """What one handler has seen. Samples of this host and boot by their tick, anything else by its id."""

    def __init__(self, spool: Spool, handler: str, host: str, boot_id: str) -> None:
        """Inputs that were decided on in process, with what followed from them in the spool, are marked there."""
        self._spool = spool
        self._handler = handler
        self._host = host
        self._boot = boot_id[:8]
        self._last_tick = -1
        self._remembered: OrderedDict[str, None] = OrderedDict()
        self._marked = spool.handled_ids(handler)
        self._inherited = set(self._marked)

    def comes_again(self, stream: Stream, event: Event) -> bool:
        """Whether it was decided on: in process while the bus was away, or before an answer was lost.

        Samples of this boot never go back in time: one that is older than the last is passed over, too.
        """
        if stream == "samples":
            tick = self._own_tick(event)
            return tick is not None and tick <= self._last_tick
        if event.id in self._marked:
            self._marked.discard(event.id)
            self._remembered[event.id] = None
            try:
                self._spool.forget_handled(self._handler, [event.id])
            except SpoolError as error:
                _log.warning("%s: a mark stays in the spool: %s", self._handler, error)
            return True
        return event.id in self._remembered

    def add(self, stream: Stream, event: Event) -> None:
        """It was decided on."""
        if stream == "samples":
            self._last_tick = max(self._own_tick(event) or -1, self._last_tick)
            return
        self._remembered[event.id] = None
        if len(self._remembered) > REMEMBERED:
            self._remembered.popitem(last=False)

    def mark(self, event: Event) -> None:
        """The spool holds a mark of it."""
        self._marked.add(event.id)

    def take_inherited(self, event: Event) -> bool:
        """Whether an earlier process decided on it, so that our state has not seen it; true once."""
        if event.id not in self._inherited:
            return False
        self._inherited.discard(event.id)
        return True

    def _own_tick(self, event: Event) -> int | None:
        """The tick of a sample of this host and boot; others are not compared."""
        host, _, rest = event.id.partition("/")
        boot, _, tick = rest.partition("/")
        if host == self._host and boot == self._boot and tick.isdecimal():
            return int(tick)
        return None
