"""A thread of its own for what blocks, awaited: asyncio's own few threads are the program's."""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


async def in_thread(work: Callable[[], T]) -> T:
    """What `work` returns or raises; where the wait for it is cancelled, it goes on unheard.

    :raises RuntimeError: no more threads.
    """
    import asyncio

    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - handed to who waits
            tell(done.set_exception, error)
        else:
            tell(done.set_result, result)

    def tell(settle: Callable[..., None], outcome: object) -> None:
        with suppress(RuntimeError):  # its loop is closed: nobody waits there any more
            loop.call_soon_threadsafe(lambda: None if done.done() else settle(outcome))

    threading.Thread(target=run, name="flyball-ledger", daemon=True).start()
    return await done
