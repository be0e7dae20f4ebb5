"""What was left out of a file: counted, with the first of each kind as an example."""

from collections.abc import Iterator

from handlers.leak.commands.correlation.dialect import shortened


class Tally:
    """What was left out: how often, and the first of it."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, int, str]] = {}

    def add(self, what: str, line: int, text: str, count: int = 1) -> None:
        """`what` is said of `count` lines, of which the first is `line`."""
        before, first, example = self._found.get(what, (0, line, text))
        self._found[what] = (before + count, first, example)

    def sentences(self) -> Iterator[str]:
        """One each."""
        for what, (count, line, text) in self._found.items():
            lines = f"{count:,} line{'s' * (count != 1)}"
            where = f"line {line}" if count == 1 else f"the first is line {line}"
            yield f"{lines} left out: {what} ({where}: {shortened(text.strip())})"
