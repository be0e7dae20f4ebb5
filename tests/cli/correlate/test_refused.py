"""What cannot be read is refused in one sentence that says where, what was found and what to do."""

import gzip
import subprocess
from pathlib import Path

import pytest

from handlers.leak.commands.correlation.lines import Unreadable
from handlers.leak.commands.correlation.reading import read
from tests.cli.conftest import Flyball
from tests.cli.correlate.conftest import SERVER, Write, rows

ROWS = rows()[1:]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([], "trace.csv is empty. Give a table"),
        (["# a comment", ""], "trace.csv is empty"),
        (rows()[:1], "has no row of numbers"),
        (rows()[:3], "has 2 usable rows; 3 are the least"),
        (["Dear Sir,", "this is, well, a letter"], "has no row of numbers"),
        (["one", "two"], "is no table: no line has cells between commas, semicolons, tabs or bars"),
        (ROWS, "has no header: line 1 is '0,20,100.00,4000.00,0,0,0'. Add one such as Time(s),Threads,RSS(MB)"),
        (["Time(s),Threads,RSS(MB)", *ROWS], "has a broken header: line 1 names 3 columns, the rows have 7 cells"),
        ([*rows()[:31], *(row.replace(",", ";") for row in ROWS[30:])], "commas above, semicolons in line 32"),
        (["Time;Threads;Jobs", "0;1;2", "1;2,3", "2;3;4"], "semicolons above, commas and semicolons in line 3"),
        (["threads,rss_mb", "1,2", "2,3", "3,4"], "no column is the time among threads, rss_mb"),
        (["beat,threads", "1,2", "2,3", "3,4"], "Name it: --map 'beat=time'"),
        (["time,threads", *(f"12:23:0{i},5" for i in range(9))], "9 lines left out: no time (the first is line 2"),
        (["time,label", *(f"{i},up" for i in range(9))], "has a time, and no other column of numbers"),
        ([",".join(["time", *map(str, range(300))]), ",".join(["1"] * 301)], "has 301 columns; 200 are the most"),
        (bytes(range(256)) * 50, "trace.csv is not text"),
        (b"PK\x03\x04" + b"x" * 500, "is a zip archive or a spreadsheet, not text"),
        (b"x" * 3_000_000, "line 1 is longer than 1,048,576 letters"),
        (gzip.compress(b"hello, world, this is it", mtime=0)[:12], "cannot be read: the compressed data ends early"),
        (gzip.compress(b"hello, world, this is it", mtime=0)[:5], "trace.csv is damaged: Compressed file ended before"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(write: Write, content: list[str] | bytes, said: str) -> None:
    with pytest.raises(Unreadable) as refused:
        read(write(content), {})
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ({"nothing": "threads"}, "--map nothing: there is no such column among Time(s), Threads"),
        ({"Threads": "thread"}, "'thread' is no role. Roles are time, threads, rss"),
        ({"Threads": "rss:parsec"}, "'parsec' is no unit. Units are b, byte"),
        ({"Threads": "threads:MB"}, "threads has no unit"),
        ({"Threads": "rss", "RSS(MB)": "rss"}, "--map makes both Threads and RSS(MB) the rss"),
        ({"Threads": "rss", "2": "vms"}, "--map names the column Threads twice"),
        ({"Time(s)": "gauge"}, "no column is the time"),
    ],
)
def test_a_wrong_map_is_refused(write: Write, mapping: dict[str, str], said: str) -> None:
    with pytest.raises(Unreadable) as refused:
        read(write(rows()), mapping)
    assert said in str(refused.value)


def test_two_columns_of_one_name_are_told_apart_by_number(write: Write) -> None:
    path = write(["time,x,x", *(f"{i},{i},{i * 2}" for i in range(9))])
    with pytest.raises(Unreadable, match=r"the column x stands 2 times\. Map one by its number: --map 2"):
        read(path, {"x": "threads"})
    assert read(path, {"3": "threads"}).series["threads"][-1] == 16


def test_the_command_says_it_in_one_line_and_ends_with_2(alone: Flyball, tmp_path: Path) -> None:
    missing = alone.run("correlate", str(tmp_path / "missing.csv"))
    assert (missing.returncode, missing.stdout) == (2, "")
    assert missing.stderr == f"flyball: {tmp_path}/missing.csv cannot be read: No such file or directory\n"
    directory = alone.run("correlate", str(tmp_path))
    assert "Is a directory" in directory.stderr


def test_a_map_that_is_none_is_explained(alone: Flyball) -> None:
    refused = alone.run("correlate", str(SERVER), "--map", "threads")
    assert refused.returncode == 2
    assert "'threads' is not COLUMN=ROLE" in refused.stderr


def test_what_cannot_be_written_leaves_nothing_behind(alone: Flyball, tmp_path: Path) -> None:
    target = tmp_path / "none" / "out.png"
    refused = alone.run("correlate", str(SERVER), "--png", str(target))
    assert refused.returncode == 1
    assert refused.stderr == f"flyball: {target} cannot be written: No such file or directory\n"
    assert refused.stdout == ""


def test_what_is_no_directory_holds_no_file(alone: Flyball, write: Write) -> None:
    path = write(rows())
    refused = alone.run("correlate", str(path), "--png", str(path / "out.png"))
    assert (refused.returncode, refused.stderr) == (1, f"flyball: {path}/out.png cannot be written: Not a directory\n")


def test_a_recording_is_not_overwritten(alone: Flyball, write: Write) -> None:
    path = write(rows())
    link = path.with_name("link.html")
    link.symlink_to(path)
    before = path.read_bytes()
    refused = alone.run("correlate", str(path), "--html", str(link))
    assert refused.returncode == 1
    assert "is the recording. Name another file" in refused.stderr
    assert path.read_bytes() == before
    same = alone.run("correlate", str(path), "--html", str(path.with_name("x")), "--png", str(path.with_name("x")))
    assert "--html and --png name the same file" in same.stderr


def test_a_pipe_is_read_and_written(alone: Flyball, write: Write, tmp_path: Path) -> None:
    picture = tmp_path / "picture"
    script = f'cat "{write(rows())}" | "$@" correlate /dev/stdin --png /dev/fd/3 3>&1 >/dev/null | cat > "{picture}"'
    subprocess.run(["bash", "-c", script, "bash", *alone.words([])], env=alone.environ, check=True, timeout=60)
    assert picture.read_bytes().startswith(b"\x89PNG")
