"""Lets the program free memory when it is asked to: in a thread of its own, so that directives are heard meanwhile."""

import logging
import threading
from collections.abc import Callable
from typing import Final

from flyball.outbox import Outbox
from flyball.wire import Cleanup, Directive

log = logging.getLogger("flyball")

OnCleanup = Callable[[Cleanup], int | None]

_MOST_BYTES: Final = 2**63 - 1


class Cleaner:
    """Calls the callback of `on_cleanup`, one call at a time; of what waits, the newest request of each target is kept.

    The thread is there only while something is to be cleaned.
    """

    def __init__(self, outbox: Outbox, ring: Callable[[], None]) -> None:
        """Results go to `outbox`, and `ring` is called after each."""
        self._outbox, self._ring = outbox, ring
        self._lock = threading.Lock()
        self._callback: OnCleanup | None = None
        self._wanted: dict[str, Directive] = {}
        self._working = False

    def use(self, callback: OnCleanup) -> None:
        """Call `callback` from now on, also for what was asked before there was one."""
        with self._lock:
            self._callback = callback
            self._begin()

    def hear(self, directive: Directive) -> None:
        """What a new directive asks of its target takes the place of what waits, also where it asks for nothing."""
        with self._lock:
            self._wanted.pop(directive.target, None)
            if directive.cleanup != "none":
                self._wanted[directive.target] = directive
                self._begin()

    def _begin(self) -> None:
        """Start the thread where it is needed; the lock is held."""
        if self._working or self._callback is None or not self._wanted:
            return
        try:
            threading.Thread(target=self._work, name="flyball-cleanup", daemon=True).start()
        except RuntimeError as error:
            log.warning("no thread for the cleanup (%s); the next request is tried again", error)
        else:
            self._working = True

    def _work(self) -> None:
        while True:
            with self._lock:
                callback = self._callback
                if callback is None or not self._wanted:
                    self._working = False
                    return
                directive = self._wanted.pop(next(iter(self._wanted)))
            self._clean(callback, directive)
            self._ring()

    def _clean(self, callback: OnCleanup, directive: Directive) -> None:
        try:
            freed_bytes = int(callback(directive.cleanup) or 0)
        except BaseException as error:  # SystemExit too: it would end our thread and not the program
            log.exception("the callback of on_cleanup failed")
            self._outbox.cleaned(directive, 0, ok=False, error=f"{type(error).__name__}: {error}")
        else:
            self._outbox.cleaned(directive, max(-_MOST_BYTES, min(freed_bytes, _MOST_BYTES)), ok=True)
