"""All that is found in a recording, as `flyball correlate --json` prints it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from msgspec import Struct

from handlers.leak.commands.correlation.columns import Column
from handlers.leak.commands.correlation.lags import Pair, pairs
from handlers.leak.commands.correlation.outcome import judged
from handlers.leak.commands.correlation.reading import read
from handlers.leak.commands.correlation.recording import Recording
from handlers.leak.commands.correlation.surges import FirstCall, Surge, first_calls, surges
from handlers.leak.commands.correlation.wording import leaks
from schemas.leak import Pattern, Verdict
from schemas.status import SCHEMA_VERSION

#: open: undecided, or not known
Gravity = Literal["leak", "open", "none"]


class Report(Struct, frozen=True, kw_only=True):
    """What was found in one file; memory is in bytes, times are seconds from the recording's begin.

    Columns go by `rss`, `vms`, `threads`, `handles`, `vram`, `calls.NAME` and `gauge.NAME`.
    """

    schema_version: int = SCHEMA_VERSION
    file: str
    #: the pattern of the thread study; null: undecided, or what grows is not memory
    pattern: Pattern | None
    #: the pattern, or what stands in its place
    headline: str
    #: what leaks, by how much, and what does not
    sentences: tuple[str, ...]
    #: of each resource that was measured
    verdicts: tuple[Verdict, ...]
    #: every change of stage, as the daemon would have found it
    history: tuple[Verdict, ...]
    surges: tuple[Surge, ...]
    first_calls: tuple[FirstCall, ...]
    #: every pair of columns that move, the strongest first
    pairs: tuple[Pair, ...]
    rows: int
    #: how many rows were folded into one, for files of more than 40,000 rows
    folded: int
    duration_s: float
    #: the usual time between rows
    step_s: float
    restarts: tuple[float, ...]
    columns: tuple[Column, ...]
    encoding: str
    separator: str
    #: what was left out, or understood in a way that may be wrong
    notes: tuple[str, ...]

    @property
    def gravity(self) -> Gravity:
        """In one word."""
        if any(leaks(verdict) for verdict in self.verdicts if verdict.resource != "vms"):
            return "leak"
        return "none" if self.pattern == "no leak" else "open"


def analysed(path: Path, mapping: Mapping[str, str], max_lag_s: float) -> tuple[Recording, Report]:
    """Read a file and find out what it says.

    :raises Unreadable: it cannot be used.
    """
    recording = read(path, mapping)
    related = pairs(recording, max_lag_s)
    outcome = judged(recording, related)
    return recording, Report(
        file=recording.name, pattern=outcome.pattern, headline=outcome.headline, sentences=outcome.sentences,
        verdicts=outcome.verdicts, history=outcome.history, surges=surges(recording),
        first_calls=first_calls(recording), pairs=related, rows=recording.rows, folded=recording.folded,
        duration_s=float(recording.times[-1] - recording.times[0]), step_s=recording.step_s / recording.folded,
        restarts=recording.restarts, columns=recording.columns, encoding=recording.encoding,
        separator=recording.separator, notes=recording.notes,
    )  # fmt: skip
