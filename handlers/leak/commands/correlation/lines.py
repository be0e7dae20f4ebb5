"""The lines of a text file of any usual encoding, compressed or not, in blocks of bounded size."""

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from supervisor.command import FlyballError

#: Bytes that are read at once; no line may have more letters.
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

    def __init__(self, binary: io.BufferedIOBase, name: str, encoding: str) -> None:
        """`encoding` is the name under which it is decoded."""
        self.encoding = encoding
        #: why the end of the file could not be read; empty: it could
        self.damage = ""
        self._binary = binary
        self._name = name
        # the names of the columns and the numbers matter: a foreign letter later on is no reason to stop
        decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
        self._decoder = io.IncrementalNewlineDecoder(decoder, translate=True)

    def blocks(self) -> Iterator[list[str]]:
        """The lines without their ends, many at a time.

        :raises Unreadable: it is no text, or a line has no end.
        """
        rest, number, ended = "", 1, False
        while not ended:
            data, ended = self._read()
            text = self._decoder.decode(data, final=ended)
            if "\0" in text:
                raise Unreadable(f"{self._name} is not text", hint="Give a table with a line a sample, such as CSV")
            lines = (rest + text).split("\n")
            rest = lines.pop()
            number += len(lines)
            if len(rest) > BLOCK:
                raise Unreadable(f"{self._name}: line {number} is longer than {BLOCK:,} letters")
            if lines:
                yield lines
        if rest and not self.damage:
            yield [rest]

    def _read(self) -> tuple[bytes, bool]:
        """About a block, and whether it is the last; what comes before damage is not lost."""
        pieces: list[bytes] = []
        size = 0
        try:
            while size < BLOCK:
                piece = self._binary.read1(BLOCK - size)
                if not piece:
                    return b"".join(pieces), True
                pieces.append(piece)
                size += len(piece)
        except EOFError:
            self.damage = "the compressed data ends early"
        except (zlib.error, gzip.BadGzipFile) as error:
            self.damage = f"the compressed data is damaged ({error})"
        except OSError as error:
            raise Unreadable(f"{self._name} cannot be read", why=error.strerror or str(error)) from error
        return b"".join(pieces), bool(self.damage)


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
        binary: io.BufferedIOBase = raw
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
        yield Lines(binary, path.name, encoding)


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
