"""What stands in the file: the truth of /proc, the counters, each row whole and at once, none of them lost."""

import csv
import os
import resource
import signal
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from handlers.leak.commands.tracing.csvfile import MOST_COLUMNS, TraceFile
from tests.cli.trace.conftest import Trace, program

SEED = "Time(s),Threads,RSS(MB),VMS(MB)"
OURS = "Handles,RSSAnon(MB),CPU(s),Children"


def test_the_header_is_that_of_the_thread_study(trace: Trace) -> None:
    line = '{"type": "performance", "threads": 1, "method_calls": {"add_sections": 1, "search": 2}, "requests": %s}'
    requests = '{"pending": 5, "completed": 1, "processing": 3}'
    words = program(f"print({line % requests!r}, file=sys.stderr, flush=True)\ntime.sleep(0.5)")
    shown = trace.run("--output", str(trace.file), "--interval", "0.1", "--", *words)
    assert shown.returncode == 0, shown.stderr
    assert trace.file.read_text().splitlines()[0] == (
        f"{SEED},MethodCalls(add_sections),MethodCalls(search),"
        f"Requests(completed),Requests(processing),Requests(pending),{OURS}"
    )
    last = trace.rows()[-1]
    assert [last[f"Requests({each})"] for each in ("completed", "processing", "pending")] == ["1", "3", "5"]


def test_what_a_command_says_passes_through_but_for_its_performance_lines(trace: Trace) -> None:
    said = 'a line\n{"level": "info", "text": "another JSON line"}\n{ not JSON\nhalf \r100 %\n\xff\n{"unfinished": '
    words = program(f"print('out', flush=True)\nsay(add=1)\nos.write(2, {said.encode('latin-1')!r})\nsys.exit(3)")
    ran = subprocess.run(
        trace.words(["--quiet", "--output", str(trace.file), "--", *words]),
        capture_output=True,
        timeout=50,
        check=False,
    )
    assert ran.returncode == 3
    assert ran.stdout == b"out\n"
    # it ends before the verdict, which comes last
    assert ran.stderr.startswith(said.encode("latin-1"))
    assert b"performance" not in ran.stderr


def test_a_broken_performance_line_is_shown_and_said(trace: Trace) -> None:
    line = '{"type": "performance", "method_calls": {"add": "many"}}'
    words = program(f"print({line!r}, file=sys.stderr, flush=True)\ntime.sleep(1)")
    shown = trace.run("--output", str(trace.file), "--interval", "0.1", "--", *words)
    assert line in shown.stderr
    assert "method_calls.add of a performance line is 'many', not a number" in shown.stderr


def test_a_name_for_each_request_fills_neither_the_file_nor_the_time(trace: Trace) -> None:
    code = """
for first in range(0, 600, 60):
    say(**{f"request{number}": 1 for number in range(first, first + 60)})
    time.sleep(0.1)
"""
    shown = trace.run("--output", str(trace.file), "--interval", "0.05", "--", *program(code))
    assert shown.returncode == 0, shown.stderr
    assert shown.stderr.count("the last are left out") == 1
    assert len(trace.rows()[-1]) == MOST_COLUMNS
    assert "1" in {row["MethodCalls(request0)"] for row in trace.rows()}


def test_the_figures_are_those_of_the_process(trace: Trace) -> None:
    """Each time it stands still: 64 MB, 40 files and 10 threads more."""
    code = """
say(grown=0); sys.stdin.readline()
held = bytearray(os.urandom(1)) * (64 * 2**20)
files = [open(os.devnull) for _ in range(40)]
threads = [threading.Thread(target=time.sleep, args=(60,), daemon=True) for _ in range(10)]
for each in threads: each.start()
say(grown=1); sys.stdin.readline()
"""
    words = ("--output", str(trace.file), "--interval", "0.1", "--", *program(code))
    with trace.start(*words, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        # the counter of a row may be a moment younger than its figures, so the second one counts
        before = trace.wait_for(lambda rows: [row.get("MethodCalls(grown)") for row in rows[-2:]] == ["0", "0"])[-1]
        process.stdin.write("\n")
        process.stdin.flush()
        after = trace.wait_for(lambda rows: [row["MethodCalls(grown)"] for row in rows[-2:]] == ["1", "1"])[-1]
        process.communicate()
    assert int(after["Threads"]) - int(before["Threads"]) == 10
    assert int(after["Handles"]) - int(before["Handles"]) == 40
    assert 63 < float(after["RSS(MB)"]) - float(before["RSS(MB)"]) < 70
    assert 63 < float(after["RSSAnon(MB)"]) - float(before["RSSAnon(MB)"]) < 70
    assert float(after["VMS(MB)"]) - float(before["VMS(MB)"]) > 63


def test_a_launcher_is_called_what_it_becomes(trace: Trace) -> None:
    """As pyenv's and conda's do; the pid and the start time stay."""
    found = trace.json("--interval", "0.1", "--", "sh", "-c", "sleep 0.5; exec sleep 1")
    assert found["name"] == "sleep"
    assert float(trace.rows()[-1]["Time(s)"]) > 1, "it went on behind the exec"


def test_children_are_summed_and_counted(trace: Trace) -> None:
    """Those of a thread and those of a child, too; when they end, their CPU time stays."""
    burn = "x = time.process_time()\nwhile time.process_time() - x < 0.4: pass"
    code = f"""
import subprocess
inner = {program(burn + chr(10) + "time.sleep(0.6)")!r}
thread = threading.Thread(target=lambda: subprocess.run(["sh", "-c", 'true; "$@"; true', "sh", *inner]))
thread.start(); thread.join(); time.sleep(0.6)
"""
    found = trace.json("--interval", "0.1", "--", *program(code))
    rows = trace.rows()
    assert found["most_children"] == 2
    most = next(row for row in rows if row["Children"] == "2")
    assert int(most["Threads"]) >= 4
    assert rows[-1]["Children"] == "0"
    assert float(rows[-1]["CPU(s)"]) >= 0.4
    spent = [float(row["CPU(s)"]) for row in rows]
    assert spent == sorted(spent)


def test_each_row_is_in_the_file_at_once(trace: Trace) -> None:
    """Even where nobody gets to say a last word."""
    words = program("for n in range(1, 1000):\n    say(add=n)\n    time.sleep(0.1)")
    with trace.start("--output", str(trace.file), "--interval", "0.1", "--", *words) as process:
        rows = trace.wait_for(lambda rows: len(rows) >= 5)
        process.kill()
    after = trace.rows()
    assert after[: len(rows)] == rows
    counted = [int(row["MethodCalls(add)"]) for row in after if row["MethodCalls(add)"]]
    assert counted == sorted(counted)


def test_a_counter_that_appears_later_gets_its_column(trace: Trace) -> None:
    code = """
say(add=1); time.sleep(0.5)
say(add=2, search=7); time.sleep(0.5)
"""
    found = trace.json("--interval", "0.1", "--", *program(code))
    rows = trace.rows()
    assert len(rows) == found["rows"] >= 5
    times = [float(row["Time(s)"]) for row in rows]
    assert times == sorted(times)
    assert max(after - before for before, after in pairwise(times)) < 1, "a row is lost"
    assert next(row for row in rows if row["MethodCalls(add)"] == "1")["MethodCalls(search)"] == ""
    assert rows[-1]["MethodCalls(search)"] == "7"
    assert list(rows[0]).index("MethodCalls(search)") == list(rows[0]).index("MethodCalls(add)") + 1
    assert [each.name for each in trace.directory.iterdir() if each.suffix != ".csv"] == [], "nothing is left beside it"


def test_standard_output_takes_the_rows(trace: Trace) -> None:
    """Its header cannot be widened later, which is said; it waits a moment for the first names."""
    code = "time.sleep(0.3)\nsay(add=1); time.sleep(0.5)\nsay(add=2, search=7); time.sleep(0.5)"
    shown = trace.run("--output", "-", "--interval", "0.1", "--", *program(code))
    rows = list(csv.DictReader(shown.stdout.splitlines()))
    assert len(rows) >= 5
    assert rows[0]["MethodCalls(add)"] == ""
    assert rows[-1]["MethodCalls(add)"] == "2"
    assert "MethodCalls(search)" not in rows[0]
    assert shown.stderr.count("MethodCalls(search) appeared after the first line of standard output") == 1
    assert "verdict" in shown.stderr or "threads" in shown.stderr
    assert "flyball correlate" not in shown.stderr


def test_who_reads_the_rows_may_have_seen_enough(trace: Trace, stranger: subprocess.Popen[str]) -> None:
    """`flyball trace --pid … --output - | head -3`."""
    with trace.start("--pid", str(stranger.pid), "--interval", "0.05", "--output", "-") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(SEED)
        process.stdout.close()
        assert process.wait(10) == 0
        stderr = process.stderr.read()
    assert "the process still runs" in stderr
    assert "cannot be written" not in stderr


def test_a_disk_that_is_full_costs_no_row_that_is_written(trace: Trace) -> None:
    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (700, 700))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    words = ("--output", str(trace.file), "--interval", "0.05", "--duration", "2", "--pid", str(os.getpid()))
    shown = trace.run(*words, preexec_fn=small_disk)
    rows = trace.rows()
    assert len(rows) > 5
    assert shown.returncode == 1
    assert f"cannot be written any more: File too large. {len(rows)} rows are safe in it" in shown.stderr
    assert "the process still runs" in shown.stdout, "the trace went on"


def test_a_device_that_is_full_is_told_from_the_first_row(trace: Trace) -> None:
    shown = trace.run("--output", "/dev/full", "--interval", "0.1", "--", "sleep", "0.5")
    assert shown.returncode == 1
    assert "/dev/full cannot be written any more: the disk is full. 0 rows are safe in it" in shown.stderr


def test_what_was_measured_before_is_not_overwritten(trace: Trace) -> None:
    trace.file.write_text("precious\n")
    shown = trace.run("--output", str(trace.file), "--", "touch", "started")
    assert shown.returncode == 1
    assert f"{trace.file} is not empty: a trace does not overwrite what is there" in shown.stderr
    assert trace.file.read_text() == "precious\n"
    assert not (trace.directory / "started").exists()


@pytest.mark.parametrize("words", [["--pid", "999999999"], ["--", "no-such-program"]])
def test_a_trace_that_does_not_begin_leaves_no_file(trace: Trace, words: list[str]) -> None:
    assert trace.run(*words).returncode != 0
    assert list(trace.directory.iterdir()) == []


def test_a_link_to_a_file_stays_one(trace: Trace, tmp_path: Path) -> None:
    link = tmp_path / "link.csv"
    link.symlink_to(trace.file)
    code = "time.sleep(0.3)\nsay(late=1)\ntime.sleep(0.3)"
    trace.run("--output", str(link), "--interval", "0.1", "--", *program(code))
    assert link.is_symlink()
    assert trace.rows()[-1]["MethodCalls(late)"] == "1"


def test_nothing_is_written_through_a_link_that_somebody_left(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("precious")
    (tmp_path / f".t.csv.{os.getpid()}").symlink_to(other)
    file = TraceFile(tmp_path / "t.csv")
    file.add({"Time(s)": "0"})
    file.add({"Time(s)": "1", "MethodCalls(add)": "1"})
    file.finish()
    assert other.read_text() == "precious"
    assert "MethodCalls(add)" in (tmp_path / "t.csv").read_text().splitlines()[0]
