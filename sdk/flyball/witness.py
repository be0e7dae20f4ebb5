"""Answers when the supervisor asks what the program allocates and keeps: in a thread of its own, one look at a time.

Nothing of it ever raises into the program, and no step of it stops the program for more than 50 ms: what would is left
out, and said.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

from flyball.allocations import Watch
from flyball.budget import Budget
from flyball.identity import Identity
from flyball.objects import Census, Unseen
from flyball.outbox import Outbox
from flyball.stops import Stops
from flyball.tracing import Tracing
from flyball.wire import Ask, InnerEvidence

log = logging.getLogger("flyball")

#: The longest watch, whatever is asked: tracemalloc makes allocating several times slower meanwhile.
LONGEST_S: Final = 5.0
#: Start times of one process differ by less.
_SAME_START_S: Final = 0.05

_decode = msgspec.json.Decoder(Ask).decode
#: Held while somebody looks: there is one tracemalloc for the process, whichever workload is asked.
_looking = threading.Lock()
#: What the look uses that holds it.
_tracing = Tracing(Stops())
#: What is left of it for the next; used by who holds `_looking`.
_budget = Budget()


class Witness:
    """Looks into the process for one workload."""

    def __init__(self, me: Identity, outbox: Outbox, ring: Callable[[], None]) -> None:
        """Answers go to `outbox`, and `ring` is called after each."""
        self._me, self._outbox, self._ring = me, outbox, ring
        self._over = threading.Event()

    def hear(self, message: bytes) -> None:
        """Take in what was said on the channel; other processes of the workload hear it too.

        :raises msgspec.DecodeError: it is no `Ask`.
        """
        ask = _decode(message)
        me = self._me
        if (ask.host, ask.workload, ask.pid) != (me.host, me.name, me.pid):
            return
        if abs(ask.start_time_s - me.start_time_s) > _SAME_START_S:
            return
        if not _looking.acquire(blocking=False):
            self._refuse(ask, "this process is already looking for another request")
            return
        if wait_s := _budget.wait_s(time.monotonic()):
            _looking.release()
            self._refuse(
                ask, f"this process was looked at for long enough in the last minute; ask again in {wait_s:.0f} s"
            )
            return
        try:
            threading.Thread(target=self._look, args=(ask,), name="flyball-evidence", daemon=True).start()
        except RuntimeError as error:
            _looking.release()
            self._refuse(ask, f"no thread for the look ({error})")

    def stop(self) -> None:
        """End a look that is under way, so that tracemalloc does not outlive the workload."""
        self._over.set()

    def _look(self, ask: Ask) -> None:
        began_s = time.monotonic()
        try:
            answer = self._gathered(ask)
        except Exception as error:
            log.exception("the look for evidence failed")
            answer = self._evidence(ask, missing=(_nothing(f"a fault in Flyball's SDK: {error!r}"),))
        finally:
            _budget.spend(began_s, time.monotonic())
            _looking.release()
        self._say(answer)

    def _gathered(self, ask: Ask) -> InnerEvidence:
        global _tracing  # noqa: PLW0603 - a forked child must end it
        began_s, stops, missing = time.monotonic(), Stops(), list[str]()
        watch = Watch(stops, missing)
        _tracing = watch.tracing
        try:
            watch.begin()
            before = _census(stops, missing)  # what a first watch imports is there by now, and has not grown
            watch.last(min(ask.within_s, LONGEST_S), self._over.wait)
            allocations = watch.end()
        finally:
            watch.tracing.stop()
        after = _census(stops, missing) if before else None
        objects = after.grown_since(before) if before and after else ()
        return self._evidence(
            ask, allocations=tuple(allocations), objects=tuple(objects), missing=tuple(missing),
            took_s=time.monotonic() - began_s, stopped_s=stops.longest_s,
        )  # fmt: skip

    def _refuse(self, ask: Ask, why: str) -> None:
        self._say(self._evidence(ask, missing=(_nothing(why),)))

    def _say(self, evidence: InnerEvidence) -> None:
        self._outbox.found(evidence)
        self._ring()

    def _evidence(self, ask: Ask, **found: Any) -> InnerEvidence:
        me = self._me
        return InnerEvidence(ask=ask.id, workload=me.name, pid=me.pid, start_time_s=me.start_time_s, **found)


def forget() -> None:
    """In a forked child: the look is the parent's, and what it traces here is of no use."""
    global _looking  # noqa: PLW0603 - the lock may be held by a thread that is not here
    _looking = threading.Lock()
    _tracing.stop(alone=True)


def _nothing(why: str) -> str:
    return f"allocations and objects: {why}"


def _census(stops: Stops, missing: list[str]) -> Census | None:
    try:
        return Census(stops)
    except Unseen as error:
        missing.append(str(error))
        return None
