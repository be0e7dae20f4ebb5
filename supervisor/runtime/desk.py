"""Carries out at once what a handler decides outside of its streams, such as on a request to the API."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from schemas.workload import LedgerAnswer, Release, Reserve
from supervisor.bus.commit import Commit, answers, as_answered
from supervisor.bus.connection import Connection
from supervisor.clock import Clock
from supervisor.errors import BusError, BusLost
from supervisor.handler import Decisions, LedgerEntry
from supervisor.route import Refusal
from supervisor.runtime.link import RESEND_S, Link, Outage
from supervisor.runtime.results import Origin, to_commit

_log = logging.getLogger(__name__)

#: How long a request waits for a bus that was lost while it was under way; our own server is back within this time.
PATIENCE_S: Final = 2.0
#: How long the server knows a request and its answer, in case that it is sent again.
REMEMBERED_S: Final = 60
RETRY_AFTER: Final = {"Retry-After": "1"}


class Desk:
    """Commits over a connection of its own, one request after the other."""

    def __init__(
        self, link: Link, connection: Connection, origin: Callable[[str], Origin], clock: Clock, *,
        dry_run: bool = False, committed: Callable[[object], None] = lambda reply: None,
    ) -> None:  # fmt: skip
        """`origin` says as whom a handler speaks; `committed` is called with the answer to each commit."""
        self._link = link
        self._connection = connection
        self._origin = origin
        self._clock = clock
        self._dry_run = dry_run
        self._committed = committed
        self._turn = asyncio.Lock()
        self._epoch = link.epoch
        self._there = asyncio.Event()
        self._number = 0
        #: When it was answered lately, and what.
        self._recent: deque[tuple[float, Commit, Any]] = deque()
        link.when_lost.append(self._on_lost)
        link.when_restored.append(self._on_restored)

    async def decide(self, handler: str, decisions: Decisions) -> Sequence[LedgerAnswer]:
        """Commit what `handler` decided; returns the ledger's answers, in the order of `decisions.ledger`.

        :raises Refusal: 503 while the bus is away, or where it falls silent; the detail says what becomes of it.
        """
        if self._dry_run:
            decisions = msgspec.structs.replace(decisions, demands=(), commands=())  # what is said is all that is done
        origin = self._origin(handler)
        async with self._turn:
            if not self._link.up:
                why = f"the bus is away ({self._link.trouble}), so nothing was done; ask again in a moment"
                raise Refusal(503, why, headers=RETRY_AFTER)
            self._number += 1
            commit, _ = to_commit(
                origin, f"desk/{self._link.epoch}/{self._number}", decisions, wall_s=self._clock.wall(),
                remembered_s=REMEMBERED_S,
            )  # fmt: skip
            try:
                reply = await self._carry_out(commit)
            except BusLost as error:
                raise self._left_open(commit, origin, decisions, error) from error
            except asyncio.CancelledError:
                self._left_open(commit, origin, decisions, None)
                raise
            except BusError as error:
                _log.error("%s: %s", handler, error)
                raise Refusal(503, f"{error}; nothing was done", headers=RETRY_AFTER) from error
        self._committed(reply)
        return answers(reply)

    async def close(self) -> None:
        """Hang up."""
        await self._connection.close()

    async def _carry_out(self, commit: Commit) -> Any:
        """The server's answer; where the bus is lost meanwhile, it is sent again when it is back.

        :raises BusLost: it did not come back in time, or was lost again.
        """
        try:
            return await self._ask(commit)
        except BusLost as error:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await self._there.wait()
            except TimeoutError:
                raise error from None
        return await self._ask(commit)

    async def _ask(self, commit: Commit) -> Any:
        """Once.

        :raises BusLost: no answer came.
        """
        if self._epoch != self._link.epoch:
            # The bus was away since: a broken connection that nobody has used must not look like another loss.
            await self._connection.close()
            self._epoch = self._link.epoch
        try:
            await self._connection.open()
            reply = await self._connection.ask(*self._link.commit_command(self._connection, commit))
        except BusLost as error:
            if self._epoch == self._link.epoch:  # else it was noticed before us, and is over
                self._link.lost(error)
            raise
        self._recent.append((self._clock.monotonic(), commit, reply))
        self._forget()
        return reply

    def _forget(self) -> None:
        """What is older than what a killed server may have lost."""
        oldest_s = self._clock.monotonic() - RESEND_S
        while self._recent and self._recent[0][0] < oldest_s:
            self._recent.popleft()

    def _left_open(self, commit: Commit, origin: Origin, decisions: Decisions, error: BusLost | None) -> Refusal:
        """Nobody knows whether it was carried out: it will be when the bus is there, and what it reserved given back.

        The commit itself goes first, so that the server knows its token should the one under way still arrive.
        """
        why = "whoever asked for it could not be told"
        undone = [
            LedgerEntry(
                request=entry.request, change=Release(allocation_id=entry.change.allocation_id), reason=why,
                of=entry.request,
            )
            for entry in decisions.ledger
            if isinstance(entry.change, Reserve)
        ]  # fmt: skip
        self._link.hold(commit)
        if not undone:
            return Refusal(503, f"{error}; it is carried out when the bus is there again", headers=RETRY_AFTER)
        undoing, _ = to_commit(origin, f"{commit.input}/undone", Decisions(ledger=undone), wall_s=self._clock.wall())
        self._link.hold(undoing)
        left = "what came of it is taken back when the bus is there again; ask again then"
        return Refusal(503, f"{error}; {left}", headers=RETRY_AFTER)

    def _on_lost(self) -> None:
        """What was answered lately goes out again: a killed server may have forgotten it.

        Not what is older, since nobody asked: the server has it on disk, and may have ended it since.
        """
        self._there.clear()
        self._forget()
        for answered_s, commit, reply in self._recent:
            self._link.send_again(as_answered(commit, reply), answered_s, known_s=REMEMBERED_S - RESEND_S)
        self._recent.clear()

    def _on_restored(self, outage: Outage) -> None:
        self._there.set()
