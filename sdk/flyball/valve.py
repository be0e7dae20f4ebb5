"""The valve between the thread that hears directives and the threads and event loops that obey them.

The listener sets it; loops look at it, and wait, blocking or awaiting, until it changes.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from flyball.orders import speed_of
from flyball.wire import Directive

if TYPE_CHECKING:
    import asyncio

log = logging.getLogger("flyball")

Applied = Callable[[Directive, float], None]


class View(NamedTuple):
    """What a loop sees: `turn` counts the changes, `speed` is 0..1."""

    turn: int
    speed: float


class Valve:
    """Open (speed 1.0) until it is told otherwise.

    All attributes may be read without the lock: one comparison tells a loop at full speed that nothing is new.
    """

    def __init__(self, applied: Applied) -> None:
        """`applied` is called with each directive that a loop has reached, and the speed it goes on with."""
        self._applied = applied
        self.open()

    def open(self, notice: str = "") -> None:
        """Start from the beginning: open, with locks that nobody holds (also in a forked child).

        `notice` is a warning for the first loop that looks.
        """
        self._notice = notice
        self._closed = False
        self._changed = threading.Condition()
        self._sleepers: set[asyncio.Future[None]] = set()
        self._unreached: dict[str, Directive] = {}
        self.directive: Directive | None = None
        self.speed = 1.0
        #: when that speed began (monotonic)
        self.since_s = time.monotonic()
        self.turn = 0
        #: a loop obeys, so it is the loop that applies directives, not the callbacks
        self.followed = False
        #: the program shrinks its batches, so its loops are not slowed down as well
        self.shrinks = False

    def turn_to(self, directive: Directive | None, heard: Sequence[Directive] = ()) -> None:
        """Let `directive` stand, and wake all who wait; `heard` are new ones, to be applied by the next loop."""
        with self._changed:
            if self._closed:
                return
            speed = speed_of(directive)
            if speed != self.speed:
                self.speed, self.since_s = speed, time.monotonic()
            self.directive = directive
            self._unreached.update((new.target, new) for new in heard)
            self.turn += 1
            self._changed.notify_all()
            sleepers, self._sleepers = self._sleepers, set()
        for sleeper in sleepers:
            with suppress(RuntimeError):  # its loop is closed: nobody waits there any more
                sleeper.get_loop().call_soon_threadsafe(_wake, sleeper)

    def close(self) -> None:
        """Let everyone go on at full speed, for good."""
        self.turn_to(None)
        self._closed = True

    def look(self, *, loop: bool = True) -> View:
        """What stands now; counts as applied whatever was heard. `loop`: it is a loop that looks, not a callback."""
        with self._changed:
            if loop:
                self.followed = True
            view = View(self.turn, self.speed)
            unreached, self._unreached = self._unreached, {}
            notice, self._notice = self._notice, ""
        if notice:
            log.warning(notice)
        for directive in unreached.values():
            self._applied(directive, view.speed)
        return view

    def wait(self, turn: int, timeout_s: float | None = None) -> None:
        """Block until something changes after `turn`, at most `timeout_s`."""
        with self._changed:
            self._changed.wait_for(lambda: self.turn != turn, timeout_s)

    async def changed(self, turn: int, timeout_s: float | None = None) -> None:
        """As `wait`, for an event loop."""
        import asyncio

        sleeper = asyncio.get_running_loop().create_future()
        with self._changed:
            if self.turn != turn:
                return
            self._sleepers.add(sleeper)
        try:
            await asyncio.wait([sleeper], timeout=timeout_s)
        finally:
            self._sleepers.discard(sleeper)
            sleeper.cancel()


def _wake(sleeper: "asyncio.Future[None]") -> None:
    """End a wait, unless it has ended already."""
    if not sleeper.done():
        sleeper.set_result(None)
