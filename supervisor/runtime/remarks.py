"""What the runtime itself says of a handler: an entry that it could not handle, entries that it missed."""

from schemas.event import HandlerFailed, StreamGap
from supervisor.bus.commit import Commit
from supervisor.bus.consume import Gap
from supervisor.errors import BusError
from supervisor.handler import Draft, Stream


def failed(handler: str, stream: Stream, entry: str, error: str, attempts: int) -> Draft:
    """An entry is in the dead-letter stream."""
    data = HandlerFailed(handler=handler, stream=stream, entry=entry, attempts=attempts, error=error, cause=entry)
    return Draft(
        "flyball.handler.failed", handler, f"{handler} could not handle entry {entry} of {stream}: {error}", data
    )


def refused(handler: str, commit: Commit, error: BusError) -> Draft:
    """The bus does not take what follows from an input."""
    data = HandlerFailed(
        handler=handler, stream="", entry=commit.input, attempts=1, error=str(error), cause=commit.input
    )
    text = f"{handler}: the bus refused what follows from {commit.input}: {error}"
    return Draft("flyball.handler.failed", handler, text, data)


def missed(handler: str, gap: Gap) -> Draft:
    """Entries were trimmed before it read them."""
    lost = "some entries" if gap.lost is None else f"{gap.lost} entries"
    text = f"{handler} missed {lost} of {gap.stream}: they were trimmed before it read them"
    data = StreamGap(
        handler=handler, stream=gap.stream, after=gap.after, first=gap.first, lost=gap.lost, cause=gap.first
    )
    return Draft("flyball.stream.gap", handler, text, data)
