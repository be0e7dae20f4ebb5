"""What waits for the bus waits in order, once, within its limit, and through every kind of end."""

import logging
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.bus.spool import Counts, Spool
from supervisor.errors import SpoolError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "spool.db"


@pytest.fixture
def spool(path: Path) -> Iterator[Spool]:
    with Spool(path, 1000) as spool:
        yield spool


def payloads(spool: Spool) -> list[bytes]:
    return [waiting.payload for waiting in spool.pending()]


def test_samples_and_commits_come_back_in_the_order_of_adding(spool: Spool) -> None:
    spool.add_sample("s1", b"1")
    spool.add_commit("c1", b"2")
    spool.add_sample("s2", b"3")
    assert [(waiting.kind, waiting.payload) for waiting in spool.pending()] == [
        ("sample", b"1"), ("commit", b"2"), ("sample", b"3"),
    ]  # fmt: skip
    assert spool.counts() == Counts(samples=2, commits=1, dropped_samples=0, bytes=3)


def test_pages_show_what_is_added_and_miss_what_is_done_meanwhile(spool: Spool) -> None:
    for n in range(5):
        spool.add_commit(f"c{n}", b"%d" % n)
    seen = []
    for waiting in spool.pending(page=2):
        seen.append(waiting.payload)
        if waiting.payload == b"1":
            spool.add_commit("late", b"late")
        spool.done(waiting.position)
    assert seen == [b"0", b"1", b"2", b"3", b"4", b"late"]
    assert spool.counts() == Counts(0, 0, 0, 0)


def test_what_waits_under_its_token_is_not_added_again(spool: Spool) -> None:
    spool.add_commit("c", b"first")
    spool.add_commit("c", b"again")
    spool.add_sample("c", b"a sample's token is its own")
    spool.add_commit("", b"without token")
    spool.add_commit("", b"without token")
    assert payloads(spool) == [b"first", b"a sample's token is its own", b"without token", b"without token"]


def test_over_the_limit_the_oldest_samples_go_and_are_counted(path: Path, spool: Spool) -> None:
    spool.add_commit("c", b"c" * 300)
    for n in range(4):
        spool.add_sample(f"s{n}", b"%d" % n * 300)
    assert [payload[:1] for payload in payloads(spool)] == [b"c", b"2", b"3"]
    spool.close()
    with Spool(path, 1000) as again:
        assert again.counts() == Counts(samples=2, commits=1, dropped_samples=2, bytes=900)
        again.forget_dropped()
        assert again.counts().dropped_samples == 0


def test_commits_are_kept_over_the_limit_and_that_is_said_once(spool: Spool, caplog: pytest.LogCaptureFixture) -> None:
    spool.add_sample("s", b"s")
    for n in range(4):
        spool.add_commit(f"c{n}", b"%d" % n * 400)
    assert [payload[:1] for payload in payloads(spool)] == [b"0", b"1", b"2", b"3"]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "they are kept" in caplog.text


def test_marks_are_kept_by_handler_and_go_with_a_dropped_sample(path: Path, spool: Spool) -> None:
    spool.add_sample("old", b"x" * 900)
    for handler, envelope in (("throttle", "old"), ("throttle", "other"), ("leak", "old")):
        spool.handled(handler, envelope)
        spool.handled(handler, envelope)
    spool.close()
    with Spool(path, 1000) as again:
        assert again.handled_ids("throttle") == {"old", "other"}
        again.add_sample("new", b"x" * 900)
        assert again.handled_ids("throttle") == {"other"}
        assert again.handled_ids("leak") == set()
        again.forget_handled("throttle", ["other", "unknown"])
        assert again.handled_ids("throttle") == set()


def test_together_is_all_or_nothing(spool: Spool) -> None:
    with spool.together():
        spool.add_commit("c1", b"1")
        spool.handled("throttle", "s1")
    with pytest.raises(ZeroDivisionError), spool.together():
        spool.add_commit("c2", b"2" * 2000)
        spool.handled("throttle", "s2")
        raise ZeroDivisionError
    assert payloads(spool) == [b"1"]
    assert spool.handled_ids("throttle") == {"s1"}
    assert spool.counts() == Counts(samples=0, commits=1, dropped_samples=0, bytes=1)


ADD = """
import sys
from pathlib import Path
from supervisor.bus.spool import Spool
spool = Spool(Path(sys.argv[1]), 1 << 30)
for n in range(10 ** 9):
    with spool.together():
        spool.add_commit(f"c{n}", b"%d" % n)
        spool.handled("throttle", f"s{n}")
    print(n, flush=True)
"""


def test_everything_that_was_added_survives_kill_9(path: Path) -> None:
    for lines in (1, 40, 700):
        path.unlink(missing_ok=True)
        writer = subprocess.Popen([sys.executable, "-c", ADD, path], stdout=subprocess.PIPE, cwd=ROOT)
        assert writer.stdout
        try:
            for _ in range(lines):
                assert writer.stdout.readline()
        finally:
            writer.kill()
            said = lines + writer.communicate()[0].count(b"\n")
        with Spool(path, 1 << 30) as spool:
            kept = payloads(spool)
            assert kept == [b"%d" % n for n in range(len(kept))]
            assert len(kept) in (said, said + 1), "the last one may have been added and not yet said"
            assert spool.handled_ids("throttle") == {f"s{n}" for n in range(len(kept))}
            assert spool.counts().commits == len(kept)


@pytest.mark.parametrize("damage", ["not a database", "middle", "another version"])
def test_a_damaged_file_is_moved_aside_and_a_new_one_begun(
    path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Spool(path, 1 << 20) as spool:
        for n in range(100):
            spool.add_commit(f"c{n}", b"x" * 1000)
    if damage == "another version":
        with sqlite3.connect(path) as database:
            database.execute("PRAGMA user_version = 99")
        database.close()
    else:
        with path.open("r+b") as file:
            file.seek(0 if damage == "not a database" else 4096)
            file.write(b"\xa5" * 4096)
    damaged = path.read_bytes()
    with Spool(path, 1 << 20) as spool:
        assert payloads(spool) == []
        spool.add_commit("c", b"goes on")
    (aside,) = path.parent.glob("spool.db.damaged-*[0-9]")
    assert aside.read_bytes() == damaged
    assert f"moved to {aside}" in caplog.text
    with Spool(path, 1 << 20) as spool:
        assert payloads(spool) == [b"goes on"]


def test_a_full_disk_is_an_error_and_nothing_is_half_added(spool: Spool) -> None:
    spool.add_commit("before", b"before")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, hard))
    try:
        with pytest.raises(SpoolError, match="Make room"):
            spool.add_commit("big", b"x" * 1_000_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert spool.counts() == Counts(samples=0, commits=1, dropped_samples=0, bytes=6)
    spool.add_commit("after", b"after")
    assert payloads(spool) == [b"before", b"after"]


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SpoolError, match=r"cannot be used.*FLYBALL_STATE_DIR"):
        Spool(tmp_path / "file" / "spool.db", 1)


def test_nobody_else_may_read_it(path: Path, spool: Spool) -> None:
    spool.add_sample("s", b"s")
    assert {file.stat().st_mode & 0o077 for file in path.parent.iterdir()} == {0}
