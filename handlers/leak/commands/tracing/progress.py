"""Shows on standard error how a trace goes: one line that is rewritten on a terminal, else one each half minute."""

import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from shutil import get_terminal_size
from typing import Final

from handlers.leak.commands.tracing.wording import MB, gravest, moment
from schemas.leak import Resource, Stage, Verdict
from supervisor.command import Look

_EVERY_S: Final = 30.0
#: A terminal is not rewritten more often.
_REDRAWN_S: Final = 0.5
_COLOURS: Final[dict[Stage, str]] = {"suspected": "\x1b[33m", "confirmed": "\x1b[31m"}
_PLAIN: Final = "\x1b[0m"
_ERASE: Final = "\r\x1b[K"


class Progress:
    """The line, and what must not be mixed up with it."""

    def __init__(self, *, quiet: bool) -> None:
        """`quiet`: there is no such line; what must be said is said all the same."""
        self._terminal = sys.stderr.isatty()
        self._coloured = self._terminal and not os.environ.get("NO_COLOR")
        self._quiet = quiet
        self._next_s = 0.0 if self._terminal else _EVERY_S
        self._drawn = False
        #: others write on standard error from a thread of their own
        self._lock = threading.RLock()

    def show(
        self, elapsed_s: float, look: Look, counts: Mapping[str, float], verdicts: Mapping[Resource, Verdict]
    ) -> None:
        """Say how it stands, unless it is too early to say it again."""
        if self._quiet or elapsed_s < self._next_s:
            return
        self._next_s = elapsed_s + (_REDRAWN_S if self._terminal else _EVERY_S)
        handles = "?" if look.handles is None else str(look.handles)
        parts = [moment(elapsed_s), f"{look.rss_bytes / MB:.1f} MB", f"{look.threads} threads", f"{handles} handles"]
        worst = gravest(verdicts.values())
        if worst is not None:
            parts.append(_said(worst))
        parts += [f"{name} {value:g}" for name, value in counts.items() if not name.startswith("requests.")]
        with self._lock:
            if self._terminal:
                self._draw(" · ".join(parts), worst)
            else:
                _put(f"flyball: {' · '.join(parts)}\n")

    def say(self, sentence: str) -> None:
        """A sentence that must be read, on a line of its own."""
        with self.aside():
            _put(f"flyball: {sentence}\n")

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Take the line away while somebody else writes; the next `show` brings it back."""
        with self._lock:
            self.clear()
            yield

    def clear(self) -> None:
        """Take the line away."""
        with self._lock:
            if self._drawn:
                self._drawn = False
                _put(_ERASE)

    def _draw(self, line: str, worst: Verdict | None) -> None:
        """The line as far as the terminal is wide: a longer one could not be taken back."""
        line = line[: get_terminal_size().columns - 1]
        if worst is not None and self._coloured and (colour := _COLOURS.get(worst.stage)):
            line = line.replace(_said(worst), f"{colour}{_said(worst)}{_PLAIN}")
        self._drawn = True
        _put(f"{_ERASE}{line}")


def _said(verdict: Verdict) -> str:
    return verdict.stage if verdict.stage in ("unknown", "steady") else f"{verdict.resource} {verdict.stage}"


def _put(text: str) -> None:
    """Write on standard error; nobody need hear it."""
    with suppress(OSError):
        sys.stderr.write(text)
        sys.stderr.flush()
