"""Which lines allocated what they did not free while it was watched: tracemalloc, for a few seconds.

A snapshot holds Python's lock, some 5 ms for each MB of traces, so the watch ends early where many were made.
"""

import gc
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from flyball.stops import Stops
from flyball.tracing import Tracing, Untraceable
from flyball.wire import Allocated

if TYPE_CHECKING:
    from tracemalloc import Snapshot

#: Lines that are told.
TOLD: Final = 20
#: The watch ends early once the traces take so much memory: a snapshot then stops the program for about 8 ms.
ENOUGH_BYTES: Final = 1_500_000
#: No snapshot is taken of more: about 20 ms.
MOST_BYTES: Final = 4_000_000
POLL_S: Final = 0.01
_LONGEST_PLACE: Final = 300
_OURS: Final = str(Path(__file__).parent) + os.sep


class Watch:
    """What is allocated and kept between `begin` and `end`; why that cannot be known goes to `missing`."""

    def __init__(self, stops: Stops, missing: list[str]) -> None:
        self._stops, self._missing = stops, missing
        self._before: Snapshot | None = None
        self._traces = False
        self.tracing = Tracing(stops)

    def begin(self) -> None:
        """Begin, where that can be done."""
        try:
            self.tracing.start()
            self._before = None if self.tracing.ours else self._snapshot()
            self._traces = True
        except Untraceable as error:
            self._missing.append(str(error))

    def last(self, seconds: float, wait: Callable[[float], bool]) -> None:
        """Let so much time pass, less where enough has been allocated; `wait(s)` waits and says whether to end now."""
        until_s = time.monotonic() + seconds
        while (left_s := until_s - time.monotonic()) > 0:
            if wait(min(POLL_S, left_s)) or (self.tracing.ours and _traced_bytes() > ENOUGH_BYTES):
                return

    def end(self) -> Sequence[Allocated]:
        """The lines that allocated most and kept it; nothing is watched any more."""
        if not self._traces:
            return ()
        try:
            with _no_collection():
                return self._kept()
        except Untraceable as error:
            self._missing.append(str(error))
            return ()
        finally:
            self.tracing.stop()

    def _kept(self) -> Sequence[Allocated]:
        """:raises Untraceable: see `_snapshot`."""
        after = self._snapshot()
        if self._before is None:
            lines = [(one.traceback[0], one.size, one.count) for one in after.statistics("lineno")]
        else:
            grown = after.compare_to(self._before, "lineno")
            lines = [(one.traceback[0], one.size_diff, one.count_diff) for one in grown]
        kept = [one for one in lines if one[1] > 0 and not one[0].filename.startswith(_OURS)]
        kept.sort(key=lambda one: -one[1])
        return tuple(
            Allocated(where=_place(frame.filename, frame.lineno), size_bytes=size, count=count)
            for frame, size, count in kept[:TOLD]
        )

    def _snapshot(self) -> "Snapshot":
        import tracemalloc

        if (size := _traced_bytes()) > MOST_BYTES:
            raise Untraceable(
                f"allocations: {size:,} bytes of traces are too many to look at them without stopping the program"
            )
        try:
            return self._stops.during(tracemalloc.take_snapshot)
        except RuntimeError as error:
            raise Untraceable(f"allocations: {error}") from None


@contextmanager
def _no_collection() -> Iterator[None]:
    """A snapshot's many small objects would set off a full collection of garbage, which stops a large program."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _traced_bytes() -> int:
    """What the traces take."""
    import tracemalloc

    return tracemalloc.get_tracemalloc_memory()


def _place(file: str, line: int) -> str:
    """`file:line`, without the name of who runs it."""
    home = str(Path.home())
    if file.startswith(home + os.sep):
        file = "~" + file[len(home) :]
    return f"{file.encode(errors='backslashreplace').decode()[-_LONGEST_PLACE:]}:{line}"
