"""The disk spool: samples and commits that wait, in order, while a configured bus is away.

SQLite in WAL mode: what a method has added survives SIGKILL at once, and a power cut but for the last moments
(https://sqlite.org/pragma.html#pragma_synchronous, NORMAL). Payloads are opaque here. Over the limit the oldest samples
go first and are counted; commits never go. Calls are synchronous and take some 30 µs.
"""

import logging
import os
import sqlite3
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal, NamedTuple, Self

from supervisor.errors import SpoolError

__all__ = ["Counts", "Spool", "Waiting"]

Kind = Literal["sample", "commit"]

_log = logging.getLogger(__name__)

#: Rows that are read at once: about 1 MB of samples of a host with eight cards.
_PAGE: Final = 128
#: What must follow a path to name all files of a database in WAL mode.
_SUFFIXES: Final = ("", "-wal", "-shm")
_DAMAGE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_VERSION: Final = 1

_SCHEMA: Final = f"""
BEGIN;
CREATE TABLE waiting (position INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, token TEXT NOT NULL, payload BLOB NOT NULL);
CREATE INDEX waiting_by_kind ON waiting (kind);
CREATE UNIQUE INDEX waiting_once ON waiting (token, kind) WHERE token <> '';
CREATE TABLE handled (envelope TEXT, handler TEXT, PRIMARY KEY (envelope, handler)) WITHOUT ROWID;
CREATE TABLE dropped (samples INTEGER NOT NULL);
INSERT INTO dropped VALUES (0);
PRAGMA user_version = {_VERSION};
COMMIT;
"""  # noqa: E501


class Waiting(NamedTuple):
    """One thing that waits; positions grow in the order of adding."""

    position: int
    kind: Kind
    payload: bytes


class Counts(NamedTuple):
    """How much waits, how many samples were dropped since `forget_dropped`, and the bytes of all waiting payloads."""

    samples: int
    commits: int
    dropped_samples: int
    bytes: int


class Spool:
    """The spool of one supervisor. Use it from one thread; close it, or use it as a context manager.

    Every method raises `SpoolError` where the disk is full or fails; nothing has changed then.
    """

    def __init__(self, path: Path, limit_bytes: int) -> None:
        """Open or begin the file `path`; `limit_bytes` bounds the waiting payloads (the file is a little larger).

        A damaged file is moved aside, never deleted, and a new one begun.

        :raises SpoolError: it cannot be opened or made.
        """
        self.path = path
        self._limit = limit_bytes
        self._samples = self._commits = self._bytes = 0
        self._said_full = False
        try:
            self._database = _open(path)
        except (sqlite3.Error, OSError) as err:
            raise _spool_error(path, err) from err
        with self._guarded():
            self._count()

    def add_sample(self, token: str, payload: bytes) -> None:
        """Let a sample wait. `token` is its envelope's id; what waits already under the same one is not added again."""
        with self.together():
            self._add("sample", token, payload)

    def add_commit(self, token: str, payload: bytes) -> None:
        """Let a commit wait; a token that waits already is not added again, the empty token always is."""
        with self.together():
            self._add("commit", token, payload)

    def handled(self, handler: str, envelope: str) -> None:
        """Mark that `handler` has decided on the entry with the id `envelope`: it is not to be handled again later."""
        with self.together():
            self._database.execute("INSERT OR IGNORE INTO handled VALUES (?, ?)", (envelope, handler))

    @contextmanager
    def together(self) -> Iterator[None]:
        """All that is done inside happens at once, or not at all: a commit with its mark."""
        outermost = not self._database.in_transaction
        if not outermost:
            yield
            return
        with self._guarded():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._database.execute("COMMIT")
            except BaseException:
                # a full disk may have rolled back by itself
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                self._count()
                raise

    def pending(self, page: int = _PAGE) -> Iterator[Waiting]:
        """What waits, in the order of adding; what is added meanwhile comes too. Reads `page` rows at a time."""
        position = 0
        while rows := self._page_after(position, page):
            yield from rows
            position = rows[-1].position

    def done(self, position: int) -> None:
        """Everything up to and including `position` has been sent: forget it."""
        with self.together():
            samples, commits, size = self._tally("WHERE position <= ?", position)
            self._database.execute("DELETE FROM waiting WHERE position <= ?", (position,))
            self._samples, self._commits, self._bytes = (
                self._samples - samples,
                self._commits - commits,
                self._bytes - size,
            )

    def handled_ids(self, handler: str) -> set[str]:
        """The ids that `handler` has marked."""
        with self._guarded():
            return {
                row[0] for row in self._database.execute("SELECT envelope FROM handled WHERE handler = ?", (handler,))
            }

    def forget_handled(self, handler: str, envelopes: Collection[str]) -> None:
        """These entries will not come again."""
        with self.together():
            self._database.executemany(
                "DELETE FROM handled WHERE envelope = ? AND handler = ?",
                [(envelope, handler) for envelope in envelopes],
            )

    def forget_dropped(self) -> None:
        """What was dropped has been told; count from 0."""
        with self.together():
            self._database.execute("UPDATE dropped SET samples = 0")

    def counts(self) -> Counts:
        """How much there is."""
        with self._guarded():
            (dropped,) = self._database.execute("SELECT samples FROM dropped").fetchone()
        return Counts(self._samples, self._commits, dropped, self._bytes)

    def close(self) -> None:
        """Close the file; what waits stays in it."""
        self._database.close()

    def _add(self, kind: Kind, token: str, payload: bytes) -> None:
        added = self._database.execute(
            "INSERT OR IGNORE INTO waiting (kind, token, payload) VALUES (?, ?, ?)", (kind, token, payload)
        ).rowcount
        if not added:
            return
        self._bytes += len(payload)
        if kind == "sample":
            self._samples += 1
        else:
            self._commits += 1
        if self._bytes > self._limit:
            self._drop_samples()

    def _drop_samples(self) -> None:
        """Forget the oldest samples, and the marks on them, until the rest fits."""
        rows = self._database.execute(
            "SELECT position, token, LENGTH(payload) FROM waiting WHERE kind = 'sample' ORDER BY position"
        )
        dropped: list[tuple[int, str]] = []
        for position, token, size in rows:
            if self._bytes <= self._limit:
                break
            self._bytes -= size
            dropped.append((position, token))
        rows.close()
        if dropped:
            self._samples -= len(dropped)
            self._database.execute("DELETE FROM waiting WHERE kind = 'sample' AND position <= ?", (dropped[-1][0],))
            self._database.executemany("DELETE FROM handled WHERE envelope = ?", [(token,) for _, token in dropped])
            self._database.execute("UPDATE dropped SET samples = samples + ?", (len(dropped),))
        if self._bytes > self._limit and not self._said_full:
            self._said_full = True
            _log.warning(
                "the decisions in %s alone are over its limit of %d bytes; they are kept", self.path, self._limit
            )

    def _page_after(self, position: int, page: int) -> list[Waiting]:
        with self._guarded():
            rows = self._database.execute(
                "SELECT position, kind, payload FROM waiting WHERE position > ? ORDER BY position LIMIT ?",
                (position, page),
            ).fetchall()
        return [Waiting(*row) for row in rows]

    def _count(self) -> None:
        """Learn from the file what waits."""
        self._samples, self._commits, self._bytes = self._tally()

    def _tally(self, where: str = "", *values: int) -> tuple[int, int, int]:
        """Samples, commits and bytes of what waits; LENGTH does not read the payloads."""
        row: tuple[int, int, int] = self._database.execute(
            "SELECT COUNT(*) FILTER (WHERE kind = 'sample'), COUNT(*) FILTER (WHERE kind = 'commit'), "
            f"COALESCE(SUM(LENGTH(payload)), 0) FROM waiting {where}",
            values,
        ).fetchone()
        return row

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """SQLite's errors as ours."""
        try:
            yield
        except sqlite3.Error as err:
            raise _spool_error(self.path, err) from err

    def __enter__(self) -> Self:
        """It is open already."""
        return self

    def __exit__(self, *_: object) -> None:
        """`close()`."""
        self.close()


def _open(path: Path) -> sqlite3.Connection:
    """The database in the file `path`; a damaged one is moved aside."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        return _connect(path)
    except sqlite3.DatabaseError as err:
        if _primary_code(err) not in _DAMAGE:
            raise
        aside = path.with_name(f"{path.name}.damaged-{time.time_ns() // 1_000_000}")
        for suffix in _SUFFIXES:
            if (file := Path(f"{path}{suffix}")).exists():
                file.rename(f"{aside}{suffix}")
        _log.error("the spool %s is damaged (%s): moved to %s, a new one begun", path, err, aside)
        return _connect(path)


def _connect(path: Path) -> sqlite3.Connection:
    """Open the file, private to its owner, and make its tables if they are not there.

    :raises sqlite3.DatabaseError: with a code of `_DAMAGE` where it is damaged, or not a spool of this version.
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    database = sqlite3.connect(path, timeout=1.0, isolation_level=None)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute("PRAGMA journal_size_limit = 4194304")
        database.execute("PRAGMA cache_size = -512")
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version == 0:
            database.executescript(_SCHEMA)
        (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok" or version not in (0, _VERSION):
            damage = sqlite3.DatabaseError(verdict if verdict != "ok" else f"its version is {version}, not {_VERSION}")
            damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise damage
    except BaseException:
        database.close()
        raise
    return database


def _primary_code(err: sqlite3.Error) -> int:
    """The primary result code, without what extends it; 0 where SQLite was not asked."""
    return getattr(err, "sqlite_errorcode", 0) & 0xFF


def _spool_error(path: Path, err: sqlite3.Error | OSError) -> SpoolError:
    damaged = isinstance(err, sqlite3.Error) and _primary_code(err) in _DAMAGE
    return SpoolError(
        f"the spool {path} cannot be used",
        why=str(err),
        hint="Start again: a damaged spool is then moved aside."
        if damaged
        else "Make room on its disk, or name a directory on another one in FLYBALL_STATE_DIR.",
    )
