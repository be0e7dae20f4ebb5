"""Finds out, in a process of its own, when a card that was in trouble can be read again."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final

from supervisor.sampling.nvml.card import Card, Cards
from supervisor.sampling.nvml.pool import Pool
from supervisor.sampling.nvml.protocol import Answer
from supervisor.sampling.nvml.reader import Reader, ReaderGone

#: A card's first call in a process may have to wake it up.
FIRST_CALL_DEADLINE_S: Final = 2.0
#: How long the first probing process waits for a call to come back before a fresh one tries; doubled each time.
FIRST_PATIENCE_S: Final = 1.0

_LOG: Final = logging.getLogger(__name__)


class Prober:
    """Probes the cards in quarantine and those that are lost, with growing pauses, until they answer in time."""

    def __init__(
        self,
        pool: Pool,
        cards: Cards,
        *,
        deadline_s: float,
        patience_s: float,
        serving: Callable[[], Reader | None],
        renew: Callable[[], None],
    ) -> None:
        """`serving` is the reader in use, `renew` asks for another one because that one is stuck or stale for a card.

        Pauses grow up to `patience_s`.
        """
        self._pool = pool
        self._cards = cards
        self._deadline_s = deadline_s
        self._patience_s = patience_s
        self._serving = serving
        self._renew = renew
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Something changed: a card is in trouble, a call came back, a reader was opened or ended."""
        self._wake.set()

    async def run(self) -> None:
        """Probe whenever there is something to probe; ends by being cancelled."""
        loop = asyncio.get_running_loop()
        patience_s = FIRST_PATIENCE_S
        while True:
            while not self._to_probe():
                if not self._cards.troubled():
                    patience_s = FIRST_PATIENCE_S
                self._wake.clear()
                await self._wake.wait()
            until_s = loop.time() + patience_s
            # A card that gets into trouble meanwhile need not wait: it may be a quick one.
            with contextlib.suppress(TimeoutError):
                await self._probe(until_s)
                async with asyncio.timeout_at(until_s):
                    await self._wake.wait()
            patience_s = min(2 * patience_s, self._patience_s)

    def _to_probe(self) -> list[Card]:
        """The troubled cards, the most promising first, because one that hangs may block those that are asked after it.

        Without those in which an abandoned process still hangs: when the driver lets go of it, it ends.
        """
        serving = self._serving()
        if serving is None or serving.gone or self._pool.exhausted:
            return []
        blocked = self._pool.blocked
        cards = [card for card in self._cards.troubled() if card.index not in blocked]
        return sorted(cards, key=lambda card: card.failed_probes)

    async def _probe(self, until_s: float) -> None:
        """Try the troubled cards in a fresh process, and again in the same one when a call comes back.

        :raises TimeoutError: at `until_s`, when a fresh process shall try.
        """
        reader = self._pool.new(self.wake)
        try:
            await self._pool.open(reader)
            serving = self._serving()
            if serving is not None and reader.count not in (0, serving.count):
                self._renew()  # the driver lists other cards than before
            while cards := self._to_probe():
                self._wake.clear()
                for card in cards:
                    if card.index < reader.count and card.index not in reader.stuck:
                        await self._try(reader, card)
                if not reader.stuck:
                    break
                async with asyncio.timeout_at(until_s):
                    await self._wake.wait()
        except ReaderGone as gone:
            if gone.index is not None:
                self._cards.unidentified(gone.index).failed_probes += 1
        except OSError as error:
            _LOG.debug("a probing process could not be started: %s", error)
        finally:
            await self._pool.dispose(reader)

    async def _try(self, reader: Reader, card: Card) -> None:
        """Take the card out of quarantine if it answers in time.

        :raises ReaderGone: the probing process died, of this card or otherwise.
        """
        answers: list[Answer] = []
        # Behind a call that hangs, another card may only wait for the same lock: that is not held against it.
        blameless = bool(reader.stuck)
        # The first call in a process may have to wake the card; the second one shows whether it is in time.
        for deadline_s in (self._deadline_s if blameless else FIRST_CALL_DEADLINE_S, self._deadline_s):
            if await reader.read([card.index], deadline_s, answers.append) is not None:
                card.failed_probes += not blameless
                return
        gpu = answers[-1].gpu
        if gpu is None or gpu.reading != "fresh":
            return
        serving = self._serving()
        stale = card.reading == "lost" or gpu.uuid != card.identity.uuid
        card.release()
        if stale or (serving is not None and gpu.index in serving.stuck):
            self._renew()
