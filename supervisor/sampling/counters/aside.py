"""Looks at files beside the event loop: a mount that hangs keeps one thread waiting, and nobody else."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from supervisor.sampling.counters.source import Untold

T = TypeVar("T")


class Aside:
    """Looks once at a time. A look that hangs is left behind, and until it is back there is no other."""

    def __init__(self, timeout_s: float) -> None:
        """`timeout_s` is how long a look may take."""
        self._timeout_s = timeout_s
        self._last: Future[Any] | None = None

    async def look(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises, called in a thread.

        :raises Untold: it is not back in time, or the one before is not back yet; the text goes on after what is
            looked at.
        """
        if self._last is None or self._last.done():
            answer: Future[T] = Future()
            answer.set_running_or_notify_cancel()  # so that it is done when the thread is, and not when we go on
            # of our own and a daemon: the threads of an executor are waited for at the exit
            threading.Thread(target=_answer, args=(answer, work), name="counters-file", daemon=True).start()
            self._last = answer
            limit = asyncio.timeout(self._timeout_s)
            try:
                async with limit:
                    return await asyncio.wrap_future(answer)
            except TimeoutError:
                if not limit.expired():  # it is the file system's own, ETIMEDOUT
                    raise
        raise Untold(
            f"a look at it is not back after {self._timeout_s:g} s, as on a mount that hangs; mend the mount, or raise "
            "timeout_s if it is only slow"
        )


def _answer(answer: Future[T], work: Callable[[], T]) -> None:
    try:
        found = work()
    except Exception as error:  # noqa: BLE001 - it is raised where the look was asked for
        answer.set_exception(error)
    else:
        answer.set_result(found)
