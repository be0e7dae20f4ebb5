"""How a trace ends: by itself, by signals, by the end of the time, and what is said of the process then."""

import csv
import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from handlers.leak.commands.tracing.ending import ending, unknown_ending
from supervisor.sampling.procfs import counts_by_size
from tests.cli.trace.conftest import Trace, program, until

#: Counts the SIGINTs that it gets, and ends with their number at SIGTERM or after the time.
COUNTS_INTERRUPTS = """
count = 0
def interrupted(*_):
    global count
    count += 1
    os.write(1, b"interrupted\\n")
def ended(*_):
    sys.exit(40 + count)
signal.signal(signal.SIGINT, interrupted)
signal.signal(signal.SIGTERM, ended)
print("ready", flush=True)
"""
ROOT_ALONE = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")


@pytest.mark.parametrize(
    ("code", "exit_code", "said"),
    [
        ("time.sleep(0.3)", 0, "ended with exit code 0"),
        ("time.sleep(0.3); sys.exit(7)", 7, "ended with exit code 7"),
        ("time.sleep(0.3); os.kill(os.getpid(), signal.SIGSEGV)", 139, "was killed by SIGSEGV"),
        ("time.sleep(0.3); os.kill(os.getpid(), signal.SIGKILL)", 137, "was killed by SIGKILL"),
    ],
)
def test_the_end_of_a_command_is_told_and_passed_on(trace: Trace, code: str, exit_code: int, said: str) -> None:
    shown = trace.run("--interval", "0.1", "--output", str(trace.file), "--", *program(code))
    assert shown.returncode == exit_code
    assert f"the process {said}." in shown.stderr
    assert shown.stderr.endswith(f"Next: flyball correlate {trace.file}\n")


def test_the_end_of_a_stranger_is_survived(trace: Trace, stranger: subprocess.Popen[str]) -> None:
    with trace.start("--pid", str(stranger.pid), "--interval", "0.1", "--output", str(trace.file)) as process:
        rows = trace.wait_for(lambda rows: len(rows) >= 3)
        stranger.terminate()
        stranger.wait()
        stdout, stderr = process.communicate(timeout=10)
    assert process.returncode == 0, stderr
    assert rows[-1]["Threads"] == "5"
    # recent kernels tell it to others than its parent, too
    assert re.search(r"the process (was killed by SIGTERM|ended; how, only its parent is told)\.", stdout)
    assert stdout.endswith(f"Next: flyball correlate {trace.file}\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_trace_of_a_stranger_and_leaves_it_alone(
    trace: Trace, stranger: subprocess.Popen[str], number: signal.Signals
) -> None:
    with trace.start("--pid", str(stranger.pid), "--interval", "0.1", "--output", str(trace.file)) as process:
        trace.wait_for(lambda rows: len(rows) >= 3)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=10)
    assert (process.returncode, stderr) == (0, "")
    assert "the process still runs." in stdout
    assert stranger.poll() is None


def test_what_nohup_ignores_stays_ignored(trace: Trace, stranger: subprocess.Popen[str]) -> None:
    words = ("nohup", *trace.words(["--pid", str(stranger.pid), "--interval", "0.1", "--output", str(trace.file)]))
    with subprocess.Popen(words, env=trace.environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        before = trace.wait_for(lambda rows: len(rows) >= 2)
        process.send_signal(signal.SIGHUP)
        trace.wait_for(lambda rows: len(rows) >= len(before) + 3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_the_time_is_over(trace: Trace, stranger: subprocess.Popen[str]) -> None:
    found = trace.json("--pid", str(stranger.pid), "--interval", "1", "--duration", "3")
    assert [float(row["Time(s)"]) for row in trace.rows()] == pytest.approx([0, 1, 2, 3], abs=0.9)
    assert 3 <= found["lasted_s"] < 4
    assert (found["pid"], found["ending"]["text"]) == (stranger.pid, "still runs")


def test_the_end_of_the_time_ends_a_command(trace: Trace) -> None:
    words = program(f"{COUNTS_INTERRUPTS}\nwhile True: time.sleep(0.1)")
    found = trace.json("--duration", "3", "--interval", "0.1", "--", *words)
    assert found["ending"] == {"text": "ended with exit code 40", "exit_code": 40}


def test_who_does_not_end_at_the_end_of_the_time_is_named(trace: Trace) -> None:
    shown = trace.run("--duration", "0.5", "--interval", "0.1", "--output", str(trace.file), "--", "sleep", "60")
    assert shown.returncode == 128 + signal.SIGTERM
    assert "the process was killed by SIGTERM at the end of --duration." in shown.stderr


@pytest.mark.parametrize(
    ("sent", "exit_code"),
    [([signal.SIGINT], 41), ([signal.SIGINT, signal.SIGINT], 41), ([signal.SIGTERM], 40), ([signal.SIGHUP], 129)],
)
def test_a_signal_is_the_commands(trace: Trace, sent: list[signal.Signals], exit_code: int) -> None:
    """Where no terminal has told it already; a second Ctrl-C becomes SIGTERM."""
    last = "while not count: time.sleep(0.05)\nsys.exit(41)" if len(sent) == 1 else "while True: time.sleep(0.1)"
    words = ("--output", str(trace.file), "--interval", "0.1", "--", *program(f"{COUNTS_INTERRUPTS}\n{last}"))
    # a session of its own has no terminal
    with trace.start(*words, start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(sent[0])
        if sent[1:]:
            assert process.stdout.readline() == "interrupted\n"
            process.send_signal(sent[1])
        _, stderr = process.communicate(timeout=15)
    assert process.returncode == exit_code, stderr
    assert "Next: flyball correlate" in stderr


def test_ctrl_c_on_a_terminal_reaches_the_command_once(trace: Trace) -> None:
    code = f"{COUNTS_INTERRUPTS}\nwhile not count: time.sleep(0.05)\ntime.sleep(1)\nsys.exit(40 + count)"
    words = trace.words(["--output", str(trace.file), "--interval", "0.1", "--", *program(code)])
    said, status = on_a_terminal(words, b"ready", b"\x03")
    assert os.waitstatus_to_exitcode(status) == 41
    assert b"ended with exit code 41" in said


def on_a_terminal(words: list[str], after: bytes, keys: bytes) -> tuple[bytes, int]:
    """Type `keys` once `after` is seen; all that was seen, and the wait status."""
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(Path(__file__).parents[3])
        os.execv(words[0], words)
    said = b""
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # EIO: the other end is closed
            break
        said += piece
        if keys and after in said:
            os.write(terminal, keys)
            keys = b""
    os.close(terminal)
    return said, os.waitpid(pid, 0)[1]


def test_what_a_command_leaves_behind_does_not_hold_the_trace_up(trace: Trace) -> None:
    """It inherits standard error and lives on."""
    words = ["sh", "-c", "sleep 40 >&- & sleep 0.4; echo $!"]
    ran = trace.run("--interval", "0.1", "--output", str(trace.file), "--", *words)
    assert ran.returncode == 0
    assert Path(f"/proc/{int(ran.stdout)}/comm").read_text() == "sleep\n"
    os.kill(int(ran.stdout), signal.SIGKILL)


def test_a_command_that_is_over_at_once(trace: Trace) -> None:
    """With no row, or with one."""
    shown = trace.run("--output", str(trace.file), "--", "true")
    assert shown.returncode == 0
    assert "the process ended with exit code 0" in shown.stderr


#: Traces as nobody what is left to be traced once everything is imported, which nobody may not be allowed to read.
_AS_NOBODY = """
import os, sys
from supervisor.sampling import oneprocess
from handlers.leak.commands.trace import command
words = sys.argv[2:]
if sys.argv[1] == "old":
    oneprocess.counts_by_size = lambda root: False
command.main(["--pid", str(os.getpid()), "--duration", "0.2", "--output", "own.csv"], standalone_mode=False)
os.setgroups([]); os.setgid(65534); os.setuid(65534)
command.main(words, standalone_mode=False)
"""


@ROOT_ALONE
@pytest.mark.parametrize("kernel", ["old", "new"])
def test_of_another_users_process_is_told_what_can_be(
    trace: Trace, stranger: subprocess.Popen[str], kernel: str
) -> None:
    """Since Linux 6.2 the number of handles is everybody's; before, they have to be listed."""
    words = ("--pid", str(stranger.pid), "--interval", "0.1", "--duration", "0.5", "--output", "-", "--quiet")
    command = [sys.executable, "-c", _AS_NOBODY, kernel, *words]
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    shown = subprocess.run(command, cwd=trace.directory, env=environ, capture_output=True, text=True, check=True)
    rows = list(csv.DictReader(shown.stdout[shown.stdout.index("Time(s)") :].splitlines()))
    assert {row["Threads"] for row in rows} == {"5"}
    assert all(float(row["RSS(MB)"]) > 1 for row in rows)
    unknown = kernel == "old" or not counts_by_size(Path("/proc"))
    assert {row["Handles"] == "" for row in rows} == {unknown}
    assert shown.stderr.count("open handles are unknown: the process is another user's") == unknown


@ROOT_ALONE
@pytest.mark.skipif(not os.access("/proc/sys/kernel/ns_last_pid", os.W_OK), reason="pids cannot be chosen here")
def test_whoever_gets_its_pid_is_not_traced(trace: Trace) -> None:
    """The trace stands still (SIGSTOP) while the process ends and another one comes under its pid."""
    first = subprocess.Popen(["sleep", "60"])
    with trace.start("--pid", str(first.pid), "--interval", "0.1", "--output", str(trace.file)) as process:
        trace.wait_for(lambda rows: len(rows) >= 3)
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        before = trace.rows()
        first.kill()
        first.wait()
        second = until(lambda: _under(first.pid))
        process.send_signal(signal.SIGCONT)
        stdout, _ = process.communicate(timeout=10)
        second.kill()
        second.wait()
    assert len(trace.rows()) <= len(before) + 2
    assert f"its pid belongs to another process now ({Path(sys.executable).name}), not traced" in stdout


def _under(pid: int) -> subprocess.Popen[bytes] | None:
    """A process with this very pid, None where somebody was faster."""
    Path("/proc/sys/kernel/ns_last_pid").write_text(str(pid - 1))
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    if process.pid == pid:
        return process
    process.kill()
    process.wait()
    return None


def test_a_thread_is_not_a_process(trace: Trace, stranger: subprocess.Popen[str]) -> None:
    thread = next(
        int(each.name) for each in Path(f"/proc/{stranger.pid}/task").iterdir() if each.name != str(stranger.pid)
    )
    shown = trace.run("--pid", str(thread))
    assert shown.returncode == 1
    assert f"{thread} is no process: it is one of its other threads" in shown.stderr


def test_the_kernels_log_tells_who_was_chosen(tmp_path: Path) -> None:
    """As a real record looked (shortened); a pid that begins alike is another's, and so was the same one before."""
    log = tmp_path / "kmsg"
    log.write_text(
        "3,882,90000100,-;Memory cgroup out of memory: Killed process 4711 (python3) total-vm:1056256kB, anon-rss:1kB\n"
    )
    killed = -signal.SIGKILL
    assert "ran out of memory" in ending(4711, killed, 60, str(log)).text
    assert ending(471, killed, 60, str(log)).text == "was killed by SIGKILL"
    assert ending(4711, killed, 120, str(log)).text == "was killed by SIGKILL"
    assert ending(4711, -signal.SIGTERM, 60, str(log)).text == "was killed by SIGTERM"
    assert ending(4711, killed, 60, str(tmp_path / "none")).text == "was killed by SIGKILL"
    assert unknown_ending(4711, 60, str(log)).signal == "SIGKILL"
    assert unknown_ending(4711, 120, str(log)).text == "ended; how, only its parent is told"


def test_the_json_has_all_that_is_known(trace: Trace) -> None:
    found = trace.json("--interval", "0.1", "--", *program("time.sleep(0.5)"))
    assert found["schema_version"] == 1
    assert found["file"] == str(trace.file)
    assert found["rows"] == len(trace.rows())
    assert found["ending"] == {"text": "ended with exit code 0", "exit_code": 0}
    assert found["stage"] in ("unknown", "warming", "steady")
    assert json.dumps(found["verdicts"])
