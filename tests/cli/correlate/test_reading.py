"""What is read from files as they come: any usual separator, encoding, header and unit."""

import gzip

import numpy as np
import pytest

from handlers.leak.commands.correlation.reading import read
from tests.cli.correlate.conftest import HEADER, Read, Write, rows

MB = 2**20


def test_the_study_s_script_is_read_as_it_prints(reading: Read) -> None:
    found = reading([*rows(), "Process 123 terminated"])
    assert list(found.series) == [
        "threads", "rss", "vms", "calls.IndexedDocs", "gauge.ProcessingDocs", "gauge.PendingRequests",
    ]  # fmt: skip
    assert found.rows == 60
    assert found.times.tolist() == [float(i) for i in range(60)]
    assert found.series["rss"][3] == 103 * MB
    assert found.notes == ("1 line left out: no row (line 62: Process 123 terminated)",)


def test_what_the_script_could_not_ask_for_is_not_measured(reading: Read) -> None:
    found = reading([HEADER, *(f"{i},{20 + i},{100 + i},4000,N/A,N/A,N/A" for i in range(10))])
    assert set(found.series) == {"threads", "rss", "vms"}
    assert found.notes == ("never measured: IndexedDocs, ProcessingDocs, PendingRequests",)


def test_the_worker_s_header_names_its_counters(reading: Read) -> None:
    header = "Time(s),Threads,RSS(MB),VMS(MB),MethodCalls(add_sections),Requests(completed),Requests(processing)"
    found = reading([header, *(f"{i},{i},{i},1,{i},{i},{i}" for i in range(5))])
    assert [*found.series][3:] == ["calls.add_sections", "calls.requests.completed", "gauge.requests.processing"]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_every_separator_is_recognised(reading: Read, separator: str) -> None:
    found = reading([line.replace(",", separator) for line in rows()])
    assert (found.separator, found.rows) == (separator, 60)
    assert found.series["rss"][-1] == 159 * MB


def test_a_decimal_comma_goes_with_a_semicolon(reading: Read) -> None:
    found = reading(["Time(s);Threads;RSS(MB)", *(f"{i},5;{20 + i};{100 + i},25" for i in range(9))])
    assert found.series["rss"][0] == 100.25 * MB
    assert found.times[1] == 1.5


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_encoding_and_line_end_reads_alike(reading: Read, encoding: str, end: str) -> None:
    found = reading(end.join(rows()).encode(encoding))
    assert (found.rows, found.series["threads"][-1], found.notes) == (60, 25, ())


def test_latin_1_keeps_its_names(reading: Read) -> None:
    found = reading(["Time;Fäden;RSS(MB)", *(f"{i};{i % 4};{i}" for i in range(9))], encoding="latin-1")
    assert found.encoding == "latin-1"
    assert "gauge.Fäden" in found.series


def test_a_compressed_file_is_known_by_its_content(write: Write) -> None:
    path = write(gzip.compress("\n".join(rows()).encode()), name="trace.csv")
    assert read(path, {}).rows == 60


def test_a_compressed_file_that_ends_early_gives_what_it_has(write: Write) -> None:
    whole = gzip.compress("\n".join(rows(5000)).encode())
    found = read(write(whole[: len(whole) // 2]), {})
    assert 1000 < found.rows < 5000
    assert found.series["rss"][-1] == (100 + found.rows - 1) * MB
    assert "the compressed data ends early after line" in found.notes[-1]


def test_quotes_comments_and_empty_lines_are_no_matter(reading: Read) -> None:
    quoted = [",".join(f'"{cell}"' for cell in line.split(",")) for line in rows()]
    found = reading(["# by monitor.sh", "", *quoted[:20], "# half", "", *quoted[20:]])
    assert (found.rows, found.notes) == (60, ())


def test_a_header_may_be_a_comment(reading: Read) -> None:
    first, *others = rows()
    assert reading([f"# {first}", *others]).series["threads"][-1] == 25


def test_lines_before_the_header_are_no_header(reading: Read) -> None:
    assert reading(["Monitoring 4711, every second", *rows()]).rows == 60


def test_nan_and_infinity_are_not_measured(reading: Read) -> None:
    found = reading(["time,threads,rss_mb", "0,NaN,1", "1,5,inf", "2,,1e300", "3,7,4"])
    assert np.isnan(found.series["threads"]).tolist() == [True, False, True, False]
    assert np.isnan(found.series["rss"]).tolist() == [False, True, True, False]


def test_a_resource_below_zero_is_not_measured(reading: Read) -> None:
    found = reading(["time,threads,rss_mb", "0,-1,1", "1,5,2", "2,6,3"])
    assert np.isnan(found.series["threads"][0])
    assert found.notes == ("values of threads below 0 count as not measured: 1",)


def test_times_that_do_not_advance_are_left_out_and_counted(reading: Read) -> None:
    lines = rows()
    found = reading([*lines[:31], "25,1,1,1,1,1,1", "29,1,1,1,1,1,1", *lines[31:]])
    assert found.rows == 60
    assert found.notes == ("1 row left out: the time repeats", "1 row left out: the time steps back")


def test_a_recording_that_begins_anew_goes_on(reading: Read) -> None:
    found = reading([*rows(), *rows()[1:]])
    assert found.rows == 120
    assert found.restarts == (60.0,)
    assert np.diff(found.times).tolist() == [1.0] * 119
    assert "calls.IndexedDocs" in found.series  # it fell at the restart alone
    assert found.notes == (
        "time falls from 59 s to 0 s: a restart? What follows is joined on as a new begin",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "times"),
    [
        ("timestamp", [f"2025-11-05T12:23:{i:02d}Z" for i in range(9)]),
        ("date", [f"2025-11-05 12:23:{i:02d}" for i in range(9)]),
        ("time", [str(1762345380 + i) for i in range(9)]),
        ("ts", [str((1762345380 + i) * 1000) for i in range(9)]),
        ("t", [str((1762345380 + i) * 1_000_000) for i in range(9)]),
        ("time_ns", [str((1762345380 + i) * 10**9) for i in range(9)]),
    ],
)
def test_absolute_times_count_from_the_first(reading: Read, name: str, times: list[str]) -> None:
    found = reading([f"{name},threads", *(f"{time},{i}" for i, time in enumerate(times))])
    assert found.times == pytest.approx(np.arange(9.0))
    assert found.notes[0] == "times are absolute; 0 s is 2025-11-05T12:23:00+00:00"


def test_times_in_other_units_become_seconds(reading: Read) -> None:
    assert reading(["elapsed_ms,threads", "0,1", "500,2", "1000,3"]).times.tolist() == [0, 0.5, 1]
    assert reading(["Time(min),threads", "0,1", "1,2", "2,3"]).times.tolist() == [0, 60, 120]


@pytest.mark.parametrize(
    ("header", "factor"),
    [
        ("RSS(MB)", MB), ("rss_mb", MB), ("RSS (KiB)", 1024), ("rss_bytes", 1), ("rss.gb", 2**30), ("Rss[MiB]", MB),
        ("process_resident_memory_bytes", 1), ("rss_kb", 1024),
    ],
)  # fmt: skip
def test_units_stand_in_the_header(reading: Read, header: str, factor: float) -> None:
    assert reading([f"time,{header}", "0,8", "1,9", "2,9"]).series["rss"].tolist() == [
        8 * factor,
        9 * factor,
        9 * factor,
    ]


@pytest.mark.parametrize(
    ("level", "unit", "factor"), [(150_000_000, "bytes", 1), (150_000, "KiB", 1024), (150, "MB", MB)]
)
def test_a_unit_that_is_not_named_is_guessed_and_said(reading: Read, level: int, unit: str, factor: int) -> None:
    found = reading(["time,RSS", *(f"{i},{level + i}" for i in range(9))])
    assert found.series["rss"][0] == level * factor
    assert found.notes[0].startswith(f"RSS names no unit and is read as {unit}; --map 'RSS=rss:")


def test_the_map_corrects_role_and_unit(reading: Read) -> None:
    lines = ["when,Mem,jobs", *(f"{i},{i + 5},{i}" for i in range(9))]
    found = reading(lines, Mem="rss:KiB", jobs="gauge")
    assert found.series["rss"][0] == 5 * 1024
    assert "gauge.jobs" in found.series
    assert set(reading(lines, Mem="ignore", jobs="threads").series) == {"threads"}


def test_columns_without_a_header_go_by_number(reading: Read) -> None:
    found = reading(rows()[1:], **{"1": "time", "2": "threads", "3": "rss:MB"})
    assert set(found.series) == {"threads", "rss"}
    assert found.series["rss"][0] == 100 * MB


def test_what_flyball_trace_writes_is_read(reading: Read) -> None:
    header = "Time(s),Threads,RSS(MB),VMS(MB),MethodCalls(add),Requests(completed),Requests(pending),Handles,"
    found = reading([header + "RSSAnon(MB),CPU(s),Children,Gauge(depth)", *(f"{i}" + f",{i}" * 11 for i in range(9))])
    assert list(found.series) == [
        "threads", "rss", "vms", "calls.add", "calls.requests.completed", "gauge.requests.pending", "handles",
        "gauge.Children", "gauge.depth",
    ]  # fmt: skip


def test_what_no_name_tells_the_numbers_do(reading: Read) -> None:
    found = reading(["time,jobs,level,label", *(f"{i},{i * i},{i % 3},up" for i in range(9))])
    assert set(found.series) == {"calls.jobs", "gauge.level"}
    assert any("no cell of label is a number, such as 'up'" in note for note in found.notes)
    assert any("no column is known to be memory or threads" in note for note in found.notes)


def test_of_two_columns_for_one_resource_the_first_counts(reading: Read) -> None:
    found = reading(["time,rss_mb,RSS(KiB)", *(f"{i},{i},{i * 1024}" for i in range(9))])
    assert [column.because for column in found.columns] == ["name", "name", "twice"]


def test_a_row_that_was_cut_is_left_out(reading: Read) -> None:
    found = reading([*rows(), "60,26,16"])
    assert found.rows == 60
    assert found.notes == ("1 line left out: not as many cells as the header (line 62: 60,26,16)",)


def test_nothing_in_a_name_reaches_the_terminal(reading: Read) -> None:
    found = reading(["time,threads,\x1b[31mred", *(f"{i},{i},{i}" for i in range(9))])
    assert "calls.\N{REPLACEMENT CHARACTER}[31mred" in found.series


def test_many_rows_are_folded_into_few(reading: Read) -> None:
    count = 250_001
    found = reading(["time,threads,calls.x,vram_mb", *(f"{i},{i % 7},{i},{i if i % 2 else ''}" for i in range(count))])
    assert (found.rows, found.folded) == (count, 8)
    assert 20_000 <= len(found.times) <= 40_000
    assert found.times[0] == 0
    assert found.times[-1] == found.series["calls.x"][-1] == count - 1
    assert not np.isnan(found.series["vram"][1:-1]).any()  # of each fold, the last value that was measured
    assert (found.series["calls.x"] == found.times).all()
