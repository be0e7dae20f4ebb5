"""Files to read, and the command that reads them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from handlers.leak.commands.correlation.reading import read
from handlers.leak.commands.correlation.recording import Recording

HERE = Path(__file__).parent
#: The server of the thread study, as it was recorded once a second.
SERVER = HERE / "server.csv.gz"
HEADER = "Time(s),Threads,RSS(MB),VSZ(MB),IndexedDocs,ProcessingDocs,PendingRequests"

Write = Callable[..., Path]
Read = Callable[..., Recording]


def rows(count: int = 60) -> list[str]:
    """What the monitoring script of the study prints, with a header."""
    lines = (f"{i},{20 + i // 10},{100 + i:.2f},4000.00,{i * 2},{i % 3},{i * 7 % 5}" for i in range(count))
    return [HEADER, *lines]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write lines, or bytes, to a file."""

    def written(content: list[str] | bytes, name: str = "trace.csv", encoding: str = "utf-8") -> Path:
        path = tmp_path / name
        data = content if isinstance(content, bytes) else "".join(f"{line}\n" for line in content).encode(encoding)
        path.write_bytes(data)
        return path

    return written


@pytest.fixture
def reading(write: Write) -> Read:
    """Write and read."""

    def found(content: list[str] | bytes, encoding: str = "utf-8", **mapping: str) -> Recording:
        return read(write(content, encoding=encoding), mapping)

    return found
