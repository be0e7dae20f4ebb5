"""One claim on memory, from the first request to its release: asked again where an answer is lost, and after a no.

Every request is new, and a yes to any of them is ours: so it does not matter which of them, or of their answers, a
broken connection swallowed. Blocking; `Reservation` decides in which thread.
"""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Final

from msgspec.structs import replace

from flyball.bus import BusLost
from flyball.ledger import Ledger, NotAllowed
from flyball.wire import LedgerAnswer, Release, Reserve, Started

log = logging.getLogger("flyball")

#: A supervisor answers within milliseconds; after so long without an answer it is asked again …
ANSWER_S: Final = 1.0
#: … and after so long it is not there.
PATIENCE_S: Final = 5.0
#: After a no: how often it is looked whether there is room, since memory outside the ledger comes and goes unsaid.
LOOK_AGAIN_S: Final = 2.0
RECONNECT_S: Final = 0.2
#: How long the bus may be away while something is given back.
RELEASE_S: Final = 2.0
#: How soon a wait notices that it was given up.
_LOOK_UP_S: Final = 0.2
#: What makes room, or lets the next one start up.
_CHANGES: Final = frozenset({"released", "expired", "started"})


class GivenUp(Exception):
    """Nobody waits for this claim any more."""


class Claim:
    """A claim of one process; its methods may be called from any thread."""

    def __init__(self, wanted: Reserve, text: str, *, host: str, shard: int, wait_s: float) -> None:
        """`text` says to people what is `wanted`."""
        # nobody waits longer for an answer than that, so a supervisor that comes later is to say no
        self._wanted, self._text = replace(wanted, valid_s=PATIENCE_S), text
        self._host, self._shard, self._wait_s = host, shard, wait_s
        self._turn = threading.Lock()
        self._given_up = threading.Event()
        #: ids of our requests; and, in order, of those that may still be answered
        self._asked: set[str] = set()
        self._open: list[str] = []
        self._silent_since_s = 0.0
        self._refusal: LedgerAnswer | None = None
        self._held = False

    def obtain(self) -> LedgerAnswer:
        """Ask until the answer is yes (`reserved`), or the wait is over: then it is the last no.

        :raises BusLost: no bus, or nobody answers; for a moment a supervisor that comes may still say yes.
        :raises GivenUp: after `give_up`.
        """
        with self._turn:
            until_s = time.monotonic() + self._wait_s
            while True:
                try:
                    with closing(Ledger(self._host, self._shard)) as ledger:
                        ledger.listen()
                        return self._negotiate(ledger, until_s)
                except BusLost:
                    if self._refusal is None:
                        if not self._open or self._patience_s() <= 0:
                            raise
                    elif time.monotonic() >= until_s:
                        return self._refusal
                if self._given_up.wait(RECONNECT_S):
                    raise GivenUp

    def give_up(self) -> None:
        """Let `obtain` end soon."""
        self._given_up.set()

    def started(self) -> None:
        """Say that the start-up is over; trouble is logged."""
        if self._held or self._open:
            self._say("is started up", lambda of: Started(allocation_id=self._wanted.allocation_id))

    def release(self) -> None:
        """Give back what is held, or may yet be by an answer that comes later; trouble is logged."""
        with self._turn:
            if self._held or self._open:
                self._say("is released", lambda of: Release(allocation_id=self._wanted.allocation_id, of=of))
            self._held = False
            self._open.clear()

    def _negotiate(self, ledger: Ledger, until_s: float) -> LedgerAnswer:
        """Ask until yes, or the time is over."""
        while True:
            answer = self._ask(ledger)
            if answer.outcome == "reserved":
                self._held = True
                return answer
            self._refusal = answer
            if time.monotonic() >= until_s:
                return answer
            self._await_room(ledger, until_s)

    def _ask(self, ledger: Ledger) -> LedgerAnswer:
        """One question and its answer, which is `reserved` or no.

        :raises BusLost: there is none.
        """
        while True:
            self._post(ledger)
            for answer in self._answers(ledger, time.monotonic() + ANSWER_S):
                if answer.request not in self._asked:
                    continue
                if answer.request in self._open:  # requests are answered in their order
                    del self._open[: self._open.index(answer.request) + 1]
                if answer.outcome != "duplicate":
                    return answer
                return self._found(ledger) or answer
            if found := self._found(ledger):
                return found
            if self._patience_s() <= 0:
                raise BusLost(f"no supervisor of host {self._host} answers within {PATIENCE_S:g} s")

    def _post(self, ledger: Ledger) -> None:
        """Ask under a new id.

        :raises BusLost: it may have arrived or not. :raises NotAllowed: it has not.
        """
        request = uuid.uuid4().hex
        if not self._open:
            self._silent_since_s = time.monotonic()
        self._asked.add(request)
        self._open.append(request)
        try:
            ledger.say(request, self._wanted.owner, self._text, self._wanted)
        except NotAllowed:
            self._open.remove(request)
            raise

    def _found(self, ledger: Ledger) -> LedgerAnswer | None:
        """The yes that we did not hear."""
        entry = ledger.find(self._wanted.allocation_id)
        if entry is None or entry.request not in self._asked:
            return None
        self._open.clear()
        return LedgerAnswer(
            request=entry.request, allocation_id=entry.allocation_id, outcome="reserved", reservation=entry
        )

    def _await_room(self, ledger: Ledger, until_s: float) -> None:
        """Wait until asking again may help, at most until then; a no that was to be expected would be an event each."""
        while (now_s := time.monotonic()) < until_s:
            for answer in self._answers(ledger, min(until_s, now_s + LOOK_AGAIN_S)):
                if answer.outcome in _CHANGES:
                    return
            if ledger.has_room(self._wanted.parts):
                return

    def _answers(self, ledger: Ledger, until_s: float) -> Iterator[LedgerAnswer]:
        """What is answered to anyone, until then.

        :raises GivenUp: nobody waits any more.
        """
        while (left_s := until_s - time.monotonic()) > 0:
            if self._given_up.is_set():
                raise GivenUp
            if answer := ledger.hear(min(left_s, _LOOK_UP_S)):
                yield answer

    def _patience_s(self) -> float:
        """How long an answer is still waited for."""
        return self._silent_since_s + PATIENCE_S - time.monotonic()

    def _say(self, what: str, about: Callable[[str], Started | Release]) -> None:
        """Tell the ledger about what is ours, trying for a while; what cannot be told is logged.

        `about` gets the request that made it; an empty one where that may yet be any of those that are open.
        """
        name, until_s, id = self._wanted.allocation_id, time.monotonic() + RELEASE_S, uuid.uuid4().hex
        while True:
            try:
                with closing(Ledger(self._host, self._shard)) as ledger:
                    entry = ledger.find(name)
                    # a name may be another's by now; and what we still hope for may be there later
                    if self._open if entry is None else entry.request in self._asked:
                        of = "" if entry is None else entry.request
                        ledger.say(id, self._wanted.owner, f"{name} {what}", about(of))
                return
            except BusLost as lost:
                if isinstance(lost, NotAllowed) or time.monotonic() >= until_s:
                    log.warning("the ledger does not hear that %s %s (%s): it ends with this process", name, what, lost)
                    return
            except Exception:  # a fault of ours must not end the program
                log.exception("a fault in Flyball's SDK; %s ends with this process", name)
                return
            time.sleep(RECONNECT_S)
