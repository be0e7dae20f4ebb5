"""What signals ask of the daemon: SIGTERM and SIGINT end it, SIGHUP has it read its configuration again.

A terminal that hangs up sends SIGHUP, too: who was started from it ends with it then, in good order, unless `nohup`
told him not to.

Who was disowned by his shell (`flyball run & disown`) gets no SIGHUP when that terminal closes, and goes on without it.
A later SIGHUP, which was meant as `read it again`, looks like that of the terminal then, and ends him. `nohup`,
`setsid` or a service is what to start him with: from the start, he then has nothing to lose.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable


def install(*, stop: Callable[[], None], reload: Callable[[], None]) -> None:
    """Call `stop` or `reload` on the running loop whenever a signal asks for it."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    if sys.platform == "win32":
        return
    ends_with_terminal = has_terminal() and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
    loop.add_signal_handler(signal.SIGHUP, lambda: stop() if ends_with_terminal and not has_terminal() else reload())


def has_terminal() -> bool:
    """Whether this process has a controlling terminal now; one that hung up is none any more."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
