"""NVIDIA cards as a `GpuSource`: one reader process serves all that are well, a second one probes those that are not.

A card that misses its deadline, or at which the reader dies, is quarantined: the others are read on, at once, and it is
`blind` until the probing process has read it within the deadline again. A process that cannot be killed because it
hangs in the kernel is abandoned; after three of them no other is started. XIDs come at any time, from the serving
reader and from the kernel's log, and wait here for the next full reading.
"""

import asyncio
import contextlib
import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from schemas.sample import Gpu, GpuBackend, Reading, XidSource
from supervisor.sampling.kmsg import KernelLog, PciAddress, XidLine, pci_address
from supervisor.sampling.nvml import backend
from supervisor.sampling.nvml.card import Card, Cards
from supervisor.sampling.nvml.pool import Pool
from supervisor.sampling.nvml.probe import FIRST_CALL_DEADLINE_S, Prober
from supervisor.sampling.nvml.protocol import Answer, Heard
from supervisor.sampling.nvml.reader import Kill, Reader, ReaderGone, kill_process
from supervisor.sampling.nvml.xids import Xids
from supervisor.sampling.source import GpuReadings

#: Cards that may miss their deadline in one read before the rest must wait for the next one.
MAX_STALLS_A_READ: Final = 2
#: Readers that may die at a card before it is suspected.
MAX_DEATHS: Final = 2
#: `start` waits this long for the driver, then lets it go on in the background.
START_WAIT_S: Final = 2.0
FIRST_RETRY_S: Final = 0.5
#: A reader that lived this long does not count as failing again and again.
HEALTHY_AFTER_S: Final = 30.0

#: A reader that is replaced may still be about to tell an XID.
LAST_WORD_S: Final = 0.2

#: nvmlReturn_t (nvml.h)
_NO_PERMISSION: Final = 4
_LOST: Final = frozenset({15, 16})

_LOG: Final = logging.getLogger(__name__)


class NvmlSource:
    """Reads all NVIDIA cards of this host; implements `supervisor.sampling.source.GpuSource`."""

    def __init__(
        self,
        *,
        deadline_s: float = 0.25,
        slow_interval_s: float = 10.0,
        retry_s: float = 30.0,
        kernel_log: Path | None = None,
        environment: Mapping[str, str] | None = None,
        kill: Kill = kill_process,
    ) -> None:
        """`deadline_s` is for one card (`[sampling] nvml_deadline_s`).

        ECC, remapped rows, the power limit and the recovery action are read every `slow_interval_s`, and whenever a
        card had an XID. `kernel_log` is followed for XIDs that NVML does not tell. A driver that is not there is looked
        for again, and a card that does not answer is probed by a new process, at growing intervals up to `retry_s`.
        `environment` is the reader processes', ours where it is None. `kill` is for tests.
        """
        self._deadline_s = deadline_s
        self._retry_s = retry_s
        self._backend = backend.STARTING
        self._cards = Cards()
        self._xids = Xids()
        self._deafness = ""
        self._kernel_log = None if kernel_log is None else KernelLog(kernel_log, self._logged)
        self._strangers: set[PciAddress] = set()
        self._serving: Reader | None = None
        self._pool = Pool(slow_interval_s=slow_interval_s, environment=environment, kill=kill)
        self._turn = asyncio.Lock()
        self._ready = asyncio.Event()
        self._first_attempt = asyncio.Event()
        self._renew = asyncio.Event()
        self._prober = Prober(
            self._pool,
            self._cards,
            deadline_s=deadline_s,
            patience_s=retry_s,
            serving=lambda: self._serving,
            renew=self._renew.set,
        )
        self._task: asyncio.Task[None] | None = None

    @property
    def reader_pid(self) -> int | None:
        """The process that serves now, whose CPU and memory are ours to account for; None while there is none."""
        return self._serving.pid if self._serving is not None and not self._serving.gone else None

    async def start(self) -> None:
        """Look for the driver, two seconds at most; a driver that is not there is looked for again later."""
        if self._kernel_log is not None:
            self._kernel_log.open()
        self._task = asyncio.create_task(self._run(), name="nvml")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_WAIT_S):
                await self._first_attempt.wait()

    async def read(self, only: Collection[int] | None = None) -> GpuReadings:
        """Read all cards, or those whose index is in `only`; a card that did not answer in time is `blind`.

        Takes at most three deadlines: one for a reader that is just being replaced, and two for cards that hang.
        Without `only`, cards bring the XIDs that came before it began, so that what else they say is later than these.
        """
        async with self._turn:
            cards = [card for card in self._cards if only is None or card.index in only]
            xids = {card.identity.uuid: self._xids.take(card.identity.uuid) for card in cards} if only is None else {}
            answers = await self._read(cards, anew={card.index for card in cards if xids.get(card.identity.uuid)})
            wanted = [card for card in self._cards if only is None or card.index in only]
            gpus = (answers.get(card.identity.uuid) or card.unread() for card in wanted)
            said = tuple(replace(gpu, xids=xids[gpu.uuid]) if xids.get(gpu.uuid) else gpu for gpu in gpus)
            return GpuReadings(replace(self._backend, xid_sources=self._xid_sources()), said)

    async def stop(self) -> None:
        """End every process, within a second; one that cannot be killed is left behind."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._kernel_log is not None:
            self._kernel_log.close()
        await self._pool.close()
        self._serving = None
        self._backend = backend.STOPPED
        if self._task is not None and not self._task.cancelled():
            self._task.result()  # a task that ended by itself ended by an error of ours

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_serving(), name="nvml-serving")
            tasks.create_task(self._prober.run(), name="nvml-probe")

    async def _read(self, cards: Sequence[Card], *, anew: Collection[int]) -> dict[str, Gpu]:
        """What the cards said, by UUID; of those that said nothing the `Card` tells why."""
        answers: dict[str, Gpu] = {}
        pending = [card.index for card in cards if not card.quarantined]
        give_up_s = asyncio.get_running_loop().time() + self._deadline_s

        def take(answer: Answer) -> None:
            pending.remove(answer.index)
            card = self._learn(answer)
            if card is not None and answer.gpu is not None:
                answers[card.identity.uuid] = answer.gpu

        stalls = 0
        while pending and stalls < MAX_STALLS_A_READ and (reader := await self._ready_reader(give_up_s)):
            # What this reader does not list, or is stuck in, waits for its successor.
            pending[:] = [index for index in pending if index < reader.count and index not in reader.stuck]
            if not pending:
                break
            try:
                stalled = await reader.read(list(pending), self._deadline_s, take, anew=anew)
            except ReaderGone as gone:
                suspect = self._suspect(gone)
                pending[:] = [index for index in pending if index != suspect]
                continue
            if stalled is not None:
                stalls += 1
                pending.remove(stalled)
                self._quarantine(stalled, f"no answer within {self._deadline_s:g} s")
        if stalls:
            why = "other cards took all the time"
        elif self._backend is backend.OK:
            why = "the reader is being replaced"
        else:
            why = self._backend.reason or self._backend.state
        for card in cards:
            if card.reading == "fresh" and card.identity.uuid not in answers:
                card.set_reading("blind", why)
        return answers

    async def _ready_reader(self, give_up_s: float) -> Reader | None:
        """The serving reader, waiting until `give_up_s` for one that is being started; None where there is none."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(give_up_s):
                if self._backend is backend.OK:
                    await self._ready.wait()
        reader = self._serving
        return None if reader is None or reader.gone else reader

    def _learn(self, answer: Answer) -> Card | None:
        """Note what one answer says about its card; None where the card is not ours to see."""
        if answer.gpu is not None:
            card = self._cards.learn(answer.gpu)
            changed = card.set_reading(answer.gpu.reading, answer.gpu.reason)
        elif answer.code == _NO_PERMISSION:  # lent to another container
            return None
        else:
            card = self._cards.unidentified(answer.index)
            reading: Reading = "lost" if answer.code in _LOST else "blind"
            changed = card.set_reading(reading, f"it cannot be opened: NVML error {answer.code}")
        if changed and card.reading == "lost":
            self._prober.wake()
        return card

    def _heard(self, reader: int, heard: Heard) -> None:
        """A reader process was told of an XID."""
        if heard.uuid:
            self._xids.heard(heard.uuid, heard.xid, reader, asyncio.get_running_loop().time())
        else:
            _LOG.warning("NVML tells XID %d of a card that it does not name", heard.xid)

    def _logged(self, line: XidLine) -> None:
        """The kernel's log tells of an XID."""
        for card in self._cards:
            if pci_address(card.identity.pci_bus_id) == line.pci:
                self._xids.logged(card.identity.uuid, line, asyncio.get_running_loop().time())
                return
        if line.pci not in self._strangers:
            self._strangers.add(line.pci)
            text = "the kernel's log tells XID %d of a card at %04x:%02x:%02x, which is not known here"
            _LOG.warning(text, line.code, *line.pci)

    def _xid_sources(self) -> tuple[XidSource, ...]:
        """Who would tell of an XID, of whichever card; why NVML would not is logged when that changes."""
        reader, nvml = self._serving, False
        if reader is not None and not reader.gone and reader.deaf is not None:
            trouble = _deafness(reader)
            if trouble != self._deafness:
                self._deafness = trouble
                _LOG.warning("%s", trouble) if trouble else _LOG.info("NVML tells XIDs again")
            nvml = not trouble
        kmsg = self._kernel_log is not None and self._kernel_log.readable
        return (*(("nvml",) if nvml else ()), *(("kmsg",) if kmsg else ()))

    def _quarantine(self, index: int, reason: str) -> None:
        self._cards.unidentified(index).quarantine(reason)
        self._prober.wake()

    def _suspect(self, gone: ReaderGone) -> int | None:
        """Quarantine the card at which a reader died, the second time that it was this one; None where it was not."""
        if gone.index is None:
            return None
        card = self._cards.unidentified(gone.index)
        card.deaths += 1
        if card.deaths < MAX_DEATHS:
            return None
        self._quarantine(gone.index, "the reader process died while reading it")
        return gone.index

    def _set_backend(self, state: GpuBackend) -> None:
        if state == self._backend:
            return
        self._backend = state
        if state is backend.OK:
            _LOG.info("NVML answers")
        else:
            _LOG.warning("NVML cannot be used (%s): %s", state.reason, state.hint)

    async def _keep_serving(self) -> None:
        """Keep one reader open: replace it when it is gone, or when a card answers a fresh one but not this one."""
        loop = asyncio.get_running_loop()
        pause_s = 0.0
        while True:
            fresh, state = await self._open_serving()
            old = self._serving
            if fresh is not None or old is None or old.gone:
                self._serving = fresh
                self._set_backend(state)
                self._first_attempt.set()
                if fresh is not None:
                    self._xids.serves(fresh.pid)
                if old is not None:
                    if not old.gone:
                        await asyncio.sleep(LAST_WORD_S)
                    await self._pool.dispose(old)
            if fresh is not None:
                opened_s = loop.time()
                self._renew.clear()
                self._ready.set()
                self._serving_changed()
                await self._renew.wait()
                if not fresh.gone:  # stale: it serves until the next one is open
                    continue
                if loop.time() - opened_s >= HEALTHY_AFTER_S:
                    pause_s = 0.0
            await asyncio.sleep(pause_s if fresh is not None else max(pause_s, FIRST_RETRY_S))
            pause_s = min(max(2 * pause_s, FIRST_RETRY_S), self._retry_s)

    async def _open_serving(self) -> tuple[Reader | None, GpuBackend]:
        """A reader that has met all cards that are not in quarantine, or why there is none."""
        if self._pool.exhausted:
            return None, backend.READERS_STUCK
        reader = self._pool.new(self._serving_changed, self._heard)
        try:
            await self._pool.open(reader)
            await self._meet(reader)
        except ReaderGone as gone:
            self._suspect(gone)
            state = backend.of(gone)
        except OSError as error:
            _LOG.warning("a reader process could not be started: %s", error)
            state = backend.READER_FAILED
        else:
            if reader.count:
                return reader, backend.OK
            state = backend.NO_GPU
        await self._pool.dispose(reader)
        return None, state

    async def _meet(self, reader: Reader) -> None:
        """Make first contact with all cards that are not in quarantine, and find out which ones are gone.

        :raises ReaderGone: the reader failed.
        """
        if reader.gone:
            raise reader.gone
        met: set[str] = set()
        unasked = {card.index for card in self._cards if card.quarantined}
        pending = [index for index in range(reader.count) if index not in unasked]

        def take(answer: Answer) -> None:
            pending.remove(answer.index)
            card = self._learn(answer)
            if card is not None:
                met.add(card.identity.uuid)

        while pending:
            stalled = await reader.read(list(pending), FIRST_CALL_DEADLINE_S, take)
            if stalled is not None:
                pending.remove(stalled)
                self._quarantine(stalled, f"no answer within {FIRST_CALL_DEADLINE_S:g} s")
        for card in self._cards:
            if card.identity.uuid not in met and not card.quarantined:
                card.set_reading("lost", "the driver does not list it any more")
                self._prober.wake()

    def _serving_changed(self) -> None:
        """The serving reader was opened or is gone, or a stuck call of an earlier one came back."""
        self._prober.wake()
        if self._serving is not None and self._serving.gone:
            self._ready.clear()
            self._renew.set()


def _deafness(reader: Reader) -> str:
    """Why a reader hears no XIDs, or none of some cards; empty where it hears all."""
    if reader.deaf:
        return f"NVML tells no XIDs at present (error {reader.deaf})"
    mute = ", ".join(f"gpu{index} (error {code})" for index, code in sorted(reader.mute.items()))
    return f"NVML tells no XIDs of {mute}" if mute else ""
