"""What signals mean while a command is traced: they are its own, and who insists ends it."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Final

from handlers.leak.commands.tracing.child import Child

#: Who says it again within this time insists; to some programs a Ctrl-C now and then is nothing.
_INSISTS_WITHIN_S: Final = 2.0
#: How long a command may take to end after SIGTERM.
_PATIENCE_S: Final = 10.0


class Orders:
    """What signals mean while a command runs: they are its own, and who insists ends it.

    A terminal gives Ctrl-C to all in the foreground, the command among them; then the first one is not sent again.
    """

    def __init__(self) -> None:
        """It is not started yet."""
        self.child: Child | None = None
        self._given = 0
        self._last_s = 0.0

    def handlers(self) -> dict[signal.Signals, Callable[[], None]]:
        """For `signals`."""
        numbers = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP)
        return {number: partial(self._order, number) for number in numbers}

    def _order(self, number: signal.Signals) -> None:
        if self.child is None:
            return
        now_s = time.monotonic()
        self._given = self._given + 1 if now_s - self._last_s < _INSISTS_WITHIN_S else 1
        self._last_s = now_s
        if self._given > 2:
            self.child.send(signal.SIGKILL)
        elif self._given > 1:
            self.child.send(signal.SIGTERM)
        elif number not in (signal.SIGINT, signal.SIGQUIT) or not _in_foreground():
            self.child.send(number)


def _in_foreground() -> bool:
    """Whether the keys of a terminal reach us, and so our children."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def end(child: Child, *, at_once: bool = True) -> int:
    """Its exit code, once it has ended: it is asked to, and made to.

    With `at_once` false it is ending by itself.
    """
    if at_once:
        child.send(signal.SIGTERM)
    try:
        return child.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        child.send(signal.SIGKILL)
        return child.wait()


@contextmanager
def signals(handlers: Mapping[signal.Signals, Callable[[], None]]) -> Iterator[None]:
    """Handle these signals on the event loop for a while; what we were started to ignore (nohup) stays ignored."""
    loop = asyncio.get_running_loop()
    heard = [number for number in handlers if signal.getsignal(number) is not signal.SIG_IGN]
    for number in heard:
        loop.add_signal_handler(number, handlers[number])
    try:
        yield
    finally:
        for number in heard:
            loop.remove_signal_handler(number)
