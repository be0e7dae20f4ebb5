"""The lines of a text file of any usual encoding, compressed or not, in blocks of bounded size."""

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from supervisor.command import FlyballError

#: Characters that are read at once; no line may be longer.
BLOCK: Final = 1 << 20
_GZIP: Final = b"\x1f\x8b"
#: What people pass by mistake, by its first bytes.
_KINDS: Final = {
    b"PK\x03\x04": "a zip archive or a spreadsheet",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"\xfd7zXZ": "compressed with xz",
    b"BZh": "compressed with bzip2",
    b"PAR1": "a Parquet file",
    b"SQLite format 3": "an SQLite database",
}
_MARKS: Final = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


class Unreadable(FlyballError):
    """The file cannot be used; says where, what was found, and what to do."""

    exit_code = 2


class Lines:
    """The lines of one open file."""

    def __init__(self, text: IO[str], name: str, encoding: str) -> None:
        """`encoding` is the name under which it is decoded."""
        self.encoding = encoding
        #: why the end of the file could not be read; empty: it could
        self.damage = ""
        self._text = text
        self._name = name

    def blocks(self) -> Iterator[list[str]]:
        """The lines without their ends, many at a time.

        :raises Unreadable: it is no text, or a line has no end.
        """
        rest, number = "", 1
        while chunk := self._read():
            if "\0" in chunk:
                raise Unreadable(f"{self._name} is not text", hint="Give a table with a line a sample, such as CSV")
            lines = (rest + chunk).split("\n")
            rest = lines.pop()
            number += len(lines)
            if len(rest) > BLOCK:
                raise Unreadable(f"{self._name}: line {number} is longer than {BLOCK:,} characters")
            yield lines
        if rest:
            yield [rest]

    def _read(self) -> str:
        try:
            return self._text.read(BLOCK)
        except EOFError:
            self.damage = "the compressed data ends early"
        except (zlib.error, gzip.BadGzipFile) as error:
            self.damage = f"the compressed data is damaged ({error})"
        except OSError as error:
            raise Unreadable(f"{self._name} cannot be read", why=error.strerror or str(error)) from error
        return ""


@contextmanager
def opened(path: Path) -> Iterator[Lines]:
    """The file's lines, as long as the context lasts.

    :raises Unreadable: it cannot be opened, or is of a kind that we know not to be text.
    """
    try:
        raw = path.open("rb")
    except OSError as error:
        raise Unreadable(f"{path} cannot be read", why=error.strerror or str(error)) from error
    with raw:
        binary: IO[bytes] = raw
        try:
            head = raw.peek(1)
            if head.startswith(_GZIP):
                # closing it is not closing raw, which the context does
                unpacked = gzip.GzipFile(fileobj=raw)
                head, binary = unpacked.peek(1), unpacked
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise Unreadable(f"{path} is damaged", why=str(error), hint="Compress it again, or unpack it") from error
        except OSError as error:
            raise Unreadable(f"{path} cannot be read", why=error.strerror or str(error)) from error
        for start, kind in _KINDS.items():
            if head.startswith(start):
                raise Unreadable(f"{path} is {kind}, not text", hint="Unpack or export it as CSV, plain or with gzip")
        encoding = _encoding(head)
        # the names of the columns and the numbers matter: a foreign letter later on is no reason to stop
        yield Lines(io.TextIOWrapper(binary, encoding, errors="replace", newline=None), path.name, encoding)


def _encoding(head: bytes) -> str:
    for mark, name in _MARKS.items():
        if head.startswith(mark):
            return name
    if len(head) >= 2 and head[1::2].count(0) > len(head) / 5 > head[::2].count(0):
        return "utf-16-le"
    if len(head) >= 2 and head[::2].count(0) > len(head) / 5 > head[1::2].count(0):
        return "utf-16-be"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return "latin-1"
    return "utf-8"
