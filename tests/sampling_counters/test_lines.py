"""A performance log: what a line says, and the file that is followed by its name."""

import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from supervisor.sampling.counters.follow import LONGEST_LINE, MOST_AT_ONCE, LinesReader
from supervisor.sampling.counters.lines import Performance, performance_of_line
from supervisor.sampling.counters.source import Tally, Untold

SEED = {
    "type": "performance", "timestamp": 1.0, "elapsed": 3.0, "threads": 12, "rss_mb": 301.5, "vms_mb": 900,
    "method_calls": {"add_sections": 3, "search": 1}, "requests": {"completed": 1, "processing": 0, "pending": 2},
}  # fmt: skip


def line(done: int, **more: Any) -> bytes:
    return json.dumps({"type": "performance", "method_calls": {"add": done}, **more}).encode() + b"\n"


def test_a_line_of_the_study_is_read() -> None:
    tally = Tally(
        counts={"add_sections": 3.0, "search": 1.0, "requests.completed": 1.0},
        gauges={"requests.processing": 0.0, "requests.pending": 2.0},
    )
    said = json.dumps(SEED).encode()
    assert performance_of_line(said) == Performance(tally=tally, threads=12.0, rss_mb=301.5, vms_mb=900.0)


@pytest.mark.parametrize(
    "said",
    [
        b"", b"\n", b"Traceback (most recent call last):", b'{"type": "log"}', b'{"kind": "performance"}',
        b'["performance"]', b'"performance"', b"INFO performance is fine", b'INFO {"type": "performance"}',
        b"\xff\x00\x7fELF", b'{"type": {"performance": 1}}',
    ],
)  # fmt: skip
def test_another_line_is_passed_over(said: bytes) -> None:
    assert performance_of_line(said) is None


@pytest.mark.parametrize("said", [b'{"type": "performance"}', b'  {"method_calls": null, "type":"performance"}\r\n'])
def test_a_line_without_figures_is_one(said: bytes) -> None:
    assert performance_of_line(said) == Performance(tally=Tally(counts={}, gauges={}))


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b'{"type": "performance", ', "a performance line is not JSON: Expecting property name enclosed in double"),
        (b'{"type": "performance", "x": "\xff"}', "a performance line is not JSON: byte 0xff at 30 is not UTF-8"),
        (b'{"type": "performance", "x": ' + b"[" * 50_000, "a performance line is not JSON: nested too deeply"),
        (b'{"type": "performance", "threads": true}', "threads of a performance line is true, not a number"),
        (b'{"type": "performance", "rss_mb": -1}',
         "rss_mb of a performance line is -1, and what is counted is never below 0"),
        (b'{"type": "performance", "method_calls": [3]}',
         "method_calls of a performance line is a list, not a table of numbers"),
        (b'{"type": "performance", "method_calls": {"add": "3"}}',
         "method_calls.add of a performance line is '3', not a number"),
        (b'{"type": "performance", "method_calls": {"add": NaN}}',
         "method_calls.add of a performance line is nan, not a finite number"),
        (b'{"type": "performance", "method_calls": {"add": -3}}',
         "method_calls.add of a performance line is -3, and what is counted is never below 0"),
        (b'{"type": "performance", "requests": {"pending": 1e16}}',
         "requests.pending of a performance line is beyond"),
        (b'{"type": "performance", "method_calls": {"a b": 1}}',
         "method_calls of a performance line has the name 'a b'; usable are 1 to 64 of A-Z a-z 0-9 . _ -"),
        (b'{"type": "performance", "requests": {"\\ud800": 1}}',
         r"requests of a performance line has the name '\ud800'; usable are"),
    ],
)  # fmt: skip
def test_a_broken_line_is_told(said: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(why)}"):
        performance_of_line(said)


class Log:
    """A file that is written, and its reader."""

    def __init__(self, path: Path, wall: Callable[[], float] = time.time) -> None:
        self.path = path
        self.reader = LinesReader(str(path), timeout_s=2.0, wall=wall)

    def write(self, content: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(content)

    async def done(self) -> float | None:
        """The count in what is told, None where nothing is."""
        told = await self.reader.read()
        return None if told is None else told.tally.counts["add"]

    async def trouble(self) -> str:
        with pytest.raises(Untold) as caught:
            await self.reader.read()
        return str(caught.value).removeprefix(f"lines {self.path}: ")


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "worker.jsonl")


async def test_new_lines_are_told_once(log: Log) -> None:
    log.write(line(1) + line(2))
    assert [await log.done(), await log.done()] == [2, None]
    log.write(b"other\n" + line(3) + b"other\n")
    assert [await log.done(), await log.done()] == [3, None]


async def test_more_counts_than_are_watched_are_left_out_and_said(log: Log) -> None:
    """The same ones as more names come; what the requests completed is kept."""
    calls = {f"m{index:02}": index for index in range(63)}
    log.write(line(0, method_calls=calls, requests={"completed": 5, "pending": 2}))
    told = await log.reader.read()
    assert told is not None
    assert (told.tally.counts, told.missing) == ({"requests.completed": 5, **calls}, "")
    log.write(line(0, method_calls={**calls, "a": 1, "b": 2, "c": 3}, requests={"completed": 5, "pending": 2}))
    told = await log.reader.read()
    assert told is not None
    assert told.tally.counts == {"requests.completed": 5, **calls}
    assert told.tally.gauges == {"requests.pending": 2}
    assert told.missing == (
        f"lines {log.path}: 3 figures of a performance line are left out: 64 counts and 64 levels, those told first, "
        "are the most; let the program tell those that matter"
    )
    log.write(line(1))
    told = await log.reader.read()
    assert told is not None
    assert (told.tally.counts, told.missing) == ({"add": 1.0}, "")


def test_what_the_requests_completed_is_theirs() -> None:
    said = b'{"type": "performance", "method_calls": {"requests.completed": 5}, "requests": {"completed": 9}}'
    performance = performance_of_line(said)
    assert performance is not None
    assert (performance.tally.counts, performance.missing) == ({"requests.completed": 9}, "")


async def test_a_file_may_come_later(log: Log) -> None:
    missing = "it cannot be read: No such file or directory; is the program running that writes it?"
    assert [await log.trouble(), await log.trouble()] == [missing, missing]
    log.write(b"")
    assert await log.trouble() == 'there is no line of type "performance" in it yet'
    log.write(b"starting\n")
    assert await log.trouble() == 'there is no line of type "performance" in it yet'
    log.write(line(1))
    assert await log.done() == 1


async def test_half_a_line_waits_for_its_end(log: Log) -> None:
    whole = line(7)
    log.write(line(1) + whole[:20])
    assert await log.done() == 1
    log.write(whole[20:-1])
    assert await log.done() is None
    log.write(b"\n")
    assert await log.done() == 7


async def test_rotation_loses_nothing(log: Log) -> None:
    log.write(line(1))
    assert await log.done() == 1
    old = log.path.rename(log.path.with_suffix(".1"))
    with old.open("ab") as file:
        file.write(line(2))
    assert await log.done() == 2  # the program has not noticed yet, and writes to the old one
    assert "No such file" in await log.trouble()
    with old.open("ab") as file:
        file.write(line(3))
    log.write(b"")
    assert await log.done() == 3  # the end of the old one; the new one has none yet
    log.write(line(4))
    assert await log.done() == 4
    log.path.rename(old)
    log.write(line(5) + line(6))
    assert await log.done() == 6


async def test_truncation_begins_anew(log: Log) -> None:
    log.write(line(1000) * 3)
    assert await log.done() == 1000
    os.truncate(log.path, 0)
    assert await log.done() is None
    log.write(line(5))
    assert await log.done() == 5


async def test_a_broken_line_is_told_until_a_good_one_comes(log: Log) -> None:
    log.write(line(1))
    assert await log.done() == 1
    log.write(b'{"type": "performance", "method_calls": 3}\n')
    why = "method_calls of a performance line is 3, not a table of numbers"
    assert [await log.trouble(), await log.trouble()] == [why, why]
    log.write(line(2))
    assert await log.done() == 2


async def test_a_million_lines_at_once_cost_little(log: Log) -> None:
    """Only the end of what was written is read, and of that only the last line is decoded."""
    log.write(line(1))
    assert await log.done() == 1
    log.write(line(2) * 1_000_000 + line(3))
    began = time.process_time()
    assert await log.done() == 3
    assert time.process_time() - began < 0.2
    assert await log.done() is None


async def test_many_lines_that_are_none_cost_little(log: Log) -> None:
    log.write(b'{"type": "log", "about": "performance"}\n' * 25_000)
    began = time.process_time()
    assert "no line of type" in await log.trouble()
    assert time.process_time() - began < 0.2
    log.write(line(2))
    assert await log.done() == 2


async def test_a_line_without_end_is_passed_over(log: Log) -> None:
    log.write(b'{"type": "performance", "x": "')
    for _ in range(5):
        log.write(b"x" * LONGEST_LINE)
        assert "no line of type" in await log.trouble()
    log.write(b"x" * 3 * MOST_AT_ONCE)
    assert "no line of type" in await log.trouble()
    log.write(b'"}\n' + line(2))
    assert await log.done() == 2


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_long_line_is_told(log: Log, at_once: bool) -> None:
    whole = line(1, x="x" * LONGEST_LINE)
    if not at_once:
        log.write(whole[:-10])
        assert "no line of type" in await log.trouble()
        whole = whole[-10:]
    log.write(whole)
    assert await log.trouble() == "a performance line is longer than 64 KiB"


async def test_a_binary_file_is_no_log(log: Log) -> None:
    log.write(bytes(range(256)) * 8000 + b'"performance"\n\xff{"performance"}\n')
    assert "no line of type" in await log.trouble()


async def test_what_is_no_file_is_told(log: Log) -> None:
    """Whoever opens a pipe waits for a writer, and a device has no end."""
    os.mkfifo(log.path)
    assert "it is no regular file" in await log.trouble()
    log.path.unlink()
    log.path.symlink_to("/dev/zero")
    assert "it is no regular file" in await log.trouble()
    log.path.unlink()
    log.path.mkdir()
    assert "it is no regular file" in await log.trouble()
    log.path.rmdir()
    log.write(line(1))
    assert await log.done() == 1


async def test_an_old_file_has_old_figures(tmp_path: Path) -> None:
    """What a program wrote that ended an hour ago is not told as if it were now."""
    now_s = 1_700_000_000.0
    log = Log(tmp_path / "worker.jsonl", wall=lambda: now_s)
    log.write(line(1))
    os.utime(log.path, (now_s - 3600, now_s - 3600))
    told = await log.reader.read()
    assert told is not None
    assert told.age_s == 3600
    log.write(line(2))
    os.utime(log.path, (now_s + 60, now_s + 60))  # by a clock that is ahead
    told = await log.reader.read()
    assert told is not None
    assert told.age_s == 0


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_no_descriptor_is_left(log: Log) -> None:
    log.write(line(1))
    before = descriptors()
    for _ in range(5):
        await log.reader.read()
        log.path.rename(log.path.with_suffix(".1"))
        log.write(line(1))
    assert descriptors() == before + 1
    await log.reader.close()
    assert descriptors() == before
