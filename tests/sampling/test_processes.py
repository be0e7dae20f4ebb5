"""Processes from a recorded tree, and real ones that start, grow, end and leave their pid to another."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.sample import Process
from supervisor.config import Match, WorkloadSection
from supervisor.sampling.cgroup import memory_path
from supervisor.sampling.processes import ProcProcesses
from supervisor.sampling.procfs import parse_stat, parse_statm
from supervisor.sampling.source import Registered

PAGE = os.sysconf("SC_PAGE_SIZE")
TREE = Path(__file__).parent / "trees" / "processes"

Spawn = Callable[..., subprocess.Popen[bytes]]


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return Path(shutil.copytree(TREE, tmp_path / "proc"))


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Start a Python program that says a line when it is ready; all are killed in the end."""
    started: list[subprocess.Popen[bytes]] = []

    def start(code: str = "", *arguments: str) -> subprocess.Popen[bytes]:
        program = f"import os, sys, threading\n{code}\nprint('ready', flush=True)\nsys.stdin.read()"
        process = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return process

    try:
        yield start
    finally:
        for process in started:
            process.kill()
            process.communicate()


def by_pid(processes: tuple[Process, ...]) -> dict[int, Process]:
    return {process.pid: process for process in processes}


def declare(name: str, **conditions: str) -> WorkloadSection:
    return WorkloadSection(name=name, match=Match(**conditions))


# a recorded tree


def test_reads_every_figure_of_a_recorded_process(tree: Path) -> None:
    source = ProcProcesses(proc_root=str(tree))
    process = by_pid(source.read((), {}))[700]
    source.close()
    ticks = os.sysconf("SC_CLK_TCK")
    assert process.name == "tra) (iner x"
    assert process.start_time_s == 5000 / ticks
    assert process.cpu_seconds == 1500 / ticks
    assert (process.threads, process.open_handles) == (12, 7)
    assert process.rss_bytes == 50000 * PAGE
    assert process.rss_anon_bytes == 42000 * PAGE
    assert process.vms_bytes == 200000 * PAGE
    assert process.cgroup == "/ml.slice/train.service"
    assert process.user == tree.owner()


def test_kernel_threads_and_zombies_are_not_among_the_largest(tree: Path) -> None:
    source = ProcProcesses(proc_root=str(tree))
    assert sorted(by_pid(source.read((), {}))) == [1, 700, 701, 900]
    source.close()


@pytest.mark.parametrize(("top", "pids"), [(0, []), (1, [700]), (2, [700, 701])])
def test_the_largest_by_rss(tree: Path, top: int, pids: list[int]) -> None:
    source = ProcProcesses(top=top, proc_root=str(tree))
    assert [process.pid for process in source.read((), {})] == pids
    source.close()


def test_those_on_a_gpu_are_there_however_small(tree: Path) -> None:
    source = ProcProcesses(top=1, proc_root=str(tree))
    assert [process.pid for process in source.read({1, 31337}, {})] == [1, 700]
    source.close()


def workloads(tree: Path, *sections: WorkloadSection, registered: Registered | None = None) -> dict[int, str]:
    source = ProcProcesses(sections, top=0, proc_root=str(tree))
    source.read((), registered or {})
    found = {process.pid: process.workload for process in source.read((), registered or {})}
    source.close()
    return found


def test_a_declared_workload_with_its_children(tree: Path) -> None:
    assert workloads(tree, declare("trainer", cmdline="python train")) == {
        700: "trainer", 701: "trainer", 702: "trainer",
    }  # fmt: skip
    assert workloads(tree, declare("notes", cmdline="train.py", cgroup="/user.slice")) == {900: "notes"}
    assert workloads(tree, declare("mine", user=tree.owner(), cmdline="^vi")) == {900: "mine"}
    assert workloads(tree, declare("theirs", user="nobody-at-all")) == {}


def test_a_mark_is_shown_and_hides_no_workload(tree: Path) -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    marks = {700: (5000 / ticks, "@a"), 900: (9000 / ticks, "@b")}
    assert workloads(tree, registered=marks) == {700: "@a", 701: "@a", 702: "@a", 900: "@b"}
    assert workloads(tree, declare("trainer", cmdline="python train"), registered=marks) == {
        700: "trainer", 701: "trainer", 702: "trainer", 900: "@b",
    }  # fmt: skip


def test_a_registered_workload_needs_the_right_start_time(tree: Path) -> None:
    started_s = 5000 / os.sysconf("SC_CLK_TCK")
    assert workloads(tree, registered={701: (started_s, "x"), 700: (started_s, "trainer")}) == {
        700: "trainer", 701: "trainer", 702: "trainer",
    }  # fmt: skip


def test_nobody_gets_the_name_of_a_declaration_by_a_word(tree: Path) -> None:
    """Else a stranger that leaks by that name would have the workload restarted."""
    ticks = os.sysconf("SC_CLK_TCK")
    trainer, stranger = (5000 / ticks, "trainer"), (9000 / ticks, "trainer")
    joined = {700: trainer, 900: stranger}
    declared = declare("trainer", cmdline="python train")
    assert workloads(tree, declared, registered=joined) == {700: "trainer", 701: "trainer", 702: "trainer"}
    anybody = WorkloadSection(name="trainer")
    assert workloads(tree, anybody, registered=joined)[900] == "trainer"


@pytest.mark.parametrize("start_time_s", [1.7e308, float("inf"), float("nan"), 1e12, -1.0])
def test_no_start_time_that_is_said_can_end_the_reading(tree: Path, start_time_s: float) -> None:
    assert workloads(tree, registered={1: (start_time_s, "x")}) == {}


def test_names_that_are_not_utf8_are_published(tree: Path) -> None:
    stat = tree / "700/stat"
    stat.write_bytes(stat.read_bytes().replace(b"tra) (iner x", b"tra\xff"))
    (tree / "700/cgroup").write_bytes(b"0::/ml.slice/\xfe\xc2\x85\n")
    source = ProcProcesses(proc_root=str(tree))
    process = by_pid(source.read((), {}))[700]
    source.close()
    assert msgspec.json.decode(msgspec.json.encode(process), type=Process) == process
    assert (process.name, process.cgroup) == (r"tra\xff", "/ml.slice/\\xfe\x85")


def test_a_workload_that_left_is_unnamed(tree: Path) -> None:
    source = ProcProcesses(top=0, proc_root=str(tree))
    registered = {900: (9000 / os.sysconf("SC_CLK_TCK"), "notes")}
    assert [process.workload for process in source.read((), registered)] == ["notes"]
    assert source.read((), {}) == ()
    source.close()


def test_a_pidfile_names_a_process_that_was_there_when_it_was_written(tree: Path, tmp_path: Path) -> None:
    pidfile = tmp_path / "train.pid"
    pidfile.write_text("700\n")
    section = declare("trainer", pidfile=str(pidfile))
    started_s = 1_700_000_000 + 5000 / os.sysconf("SC_CLK_TCK")
    os.utime(pidfile, (started_s + 1, started_s + 1))
    assert 700 in workloads(tree, section)
    # the file is older than the process: it was left behind by another one, which had the same pid
    os.utime(pidfile, (started_s - 100, started_s - 100))
    assert workloads(tree, section) == {}


def test_a_command_line_that_comes_with_exec_is_seen(tree: Path) -> None:
    (tree / "900/cmdline").write_bytes(b"sh\0")
    source = ProcProcesses([declare("trainer", cmdline="^python")], top=0, proc_root=str(tree))
    assert 900 not in by_pid(source.read((), {}))
    (tree / "900/cmdline").write_bytes(b"python\0other.py\0")
    source.read((), {})
    assert by_pid(source.read((), {}))[900].workload == "trainer"
    source.close()


def test_a_pid_that_another_process_has_now_is_another_process(tree: Path) -> None:
    source = ProcProcesses(top=10, proc_root=str(tree), descriptors=0)
    registered = {900: (9000 / os.sysconf("SC_CLK_TCK"), "notes")}
    assert by_pid(source.read((), registered))[900].workload == "notes"
    stat = tree / "900/stat"
    stat.write_text(stat.read_text().replace(" 9000 ", " 9999 "))
    assert 900 not in by_pid(source.read((), registered))
    after = by_pid(source.read((), registered))[900]
    assert (after.workload, after.start_time_s) == ("", 9999 / os.sysconf("SC_CLK_TCK"))
    source.close()


def test_half_written_files_are_absent(tree: Path) -> None:
    (tree / "700/stat").write_text("700 (x")
    (tree / "701/statm").write_text("")
    source = ProcProcesses(proc_root=str(tree))
    assert sorted(by_pid(source.read((), {}))) == [1, 900]
    source.close()


@given(st.binary(max_size=400))
def test_any_content_is_parsed_or_none(content: bytes) -> None:
    stat, statm = parse_stat(content), parse_statm(content)
    assert stat is None or stat.start_ticks is not None
    assert statm is None or statm.anonymous >= 0


# real processes


def test_agrees_with_psutil_on_a_real_process(spawn: Spawn) -> None:
    pid = spawn().pid
    source = ProcProcesses(top=0)
    ours = by_pid(source.read({pid}, {}))[pid]
    source.close()
    theirs = psutil.Process(pid)
    assert ours.user == theirs.username()
    assert ours.threads == theirs.num_threads()
    assert ours.open_handles == theirs.num_fds()
    assert ours.rss_bytes == theirs.memory_info().rss
    assert ours.vms_bytes == theirs.memory_info().vms
    status = Path(f"/proc/{pid}/status").read_text()
    # kernels differ in which of the two adds up the counters of every CPU
    assert ours.rss_anon_bytes == pytest.approx(int(status.split("RssAnon:")[1].split()[0]) * 1024, abs=256 * PAGE)
    assert ours.start_time_s + psutil.boot_time() == pytest.approx(theirs.create_time(), abs=2)


def test_a_real_process_whose_name_and_cgroup_are_not_utf8(spawn: Spawn) -> None:
    """PR_SET_NAME takes any bytes; so does mkdir where cgroups may be made."""
    process = spawn("import ctypes; ctypes.CDLL(None).prctl(15, b'bad\\xff\\xfe', 0, 0, 0)")
    with own_cgroup(b"flyball-\xff-%d" % os.getpid(), process.pid) as path:
        source = ProcProcesses(top=0)
        found = by_pid(source.read({process.pid}, {}))[process.pid]
        source.close()
        assert found.name == r"bad\xff\xfe"
        assert msgspec.json.decode(msgspec.json.encode(found), type=Process) == found
        if path is not None:
            assert r"/flyball-\xff-" in found.cgroup


def test_threads_and_descriptors_are_counted(spawn: Spawn) -> None:
    plain = spawn()
    busy = spawn(
        "kept = [os.open('/dev/null', os.O_RDONLY) for _ in range(25)]\n"
        "for _ in range(6): threading.Thread(target=threading.Event().wait, daemon=True).start()"
    )
    source = ProcProcesses(top=0)
    processes = by_pid(source.read({plain.pid, busy.pid}, {}))
    source.close()
    assert (processes[busy.pid].open_handles or 0) - (processes[plain.pid].open_handles or 0) == 25
    assert (processes[busy.pid].threads or 0) - (processes[plain.pid].threads or 0) == 6


def test_memory_that_is_written_to_is_anonymous(spawn: Spawn) -> None:
    process = spawn("block = bytearray(os.urandom(1)) * (64 << 20)")
    source = ProcProcesses(top=0)
    figures = by_pid(source.read({process.pid}, {}))[process.pid]
    source.close()
    assert figures.rss_anon_bytes is not None
    assert figures.rss_bytes is not None
    assert 64 << 20 <= figures.rss_anon_bytes <= figures.rss_bytes


@pytest.mark.parametrize("descriptors", [None, 0], ids=["cached", "uncached"])
def test_a_process_that_is_killed_disappears(spawn: Spawn, descriptors: int | None) -> None:
    process = spawn()
    registered = {process.pid: (start_time_s(process.pid), "trainer")}
    source = ProcProcesses(top=0, descriptors=descriptors)
    assert by_pid(source.read((), registered))[process.pid].workload == "trainer"
    process.kill()
    process.wait()
    assert source.read({process.pid}, registered) == ()
    source.close()


def test_the_children_of_a_real_workload_are_its_own(spawn: Spawn) -> None:
    parent = spawn("if os.fork() == 0: os.execv('/bin/sleep', ['sleep', '600'])", "workload-under-test")
    (child,) = psutil.Process(parent.pid).children()
    source = ProcProcesses([declare("trainer", cmdline="workload-under-test$")], top=0)
    try:
        source.read((), {})
        names = {process.pid: process.workload for process in source.read((), {})}
        parent.kill()
        parent.wait()
        orphans = {process.pid: process.workload for process in source.read((), {})}
    finally:
        child.kill()
        source.close()
    assert names == {parent.pid: "trainer", child.pid: "trainer"}
    assert orphans == {child.pid: "trainer"}


def test_a_reused_pid_is_not_the_old_process(spawn: Spawn) -> None:
    first = spawn()
    registered = {first.pid: (start_time_s(first.pid), "trainer")}
    source = ProcProcesses(top=0)
    before = by_pid(source.read((), registered))[first.pid]
    while start_time_s(spawn().pid) == before.start_time_s:
        """Start times are in hundredths of a second: the second one must have another."""
    first.kill()
    first.wait()
    second = reuse(first.pid, spawn)
    assert source.read({second.pid}, registered) == ()  # the descriptor says that the first one is gone
    after = by_pid(source.read({second.pid}, registered))[second.pid]
    source.close()
    assert after.start_time_s > before.start_time_s
    assert (before.workload, after.workload) == ("trainer", "")


def test_never_more_descriptors_than_allowed(spawn: Spawn, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        spawn()
    before = open_files()
    source = ProcProcesses(top=1000, descriptors=2)
    everything = source.read((), {})
    assert open_files() == before + 2
    assert len(everything) > 3
    assert all(process.rss_bytes for process in everything)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    source.read((), {})
    assert len(caplog.records) == 1  # said once
    source.close()
    assert open_files() == before


@contextmanager
def own_cgroup(name: bytes, pid: int) -> Iterator[bytes | None]:
    """A process in a cgroup of that name, beside the one it was in; None where none may be made here.

    The process is ended when it is over, because only an empty cgroup can be removed.
    """
    membership = memory_path(Path(f"/proc/{pid}/cgroup").read_bytes())
    path: bytes | None = None
    if membership is not None:
        inner, version = membership
        root = Path("/sys/fs/cgroup") if version == 2 else Path("/sys/fs/cgroup/memory")
        path = os.path.join(os.fsencode(root / inner.lstrip("/")), name)  # noqa: PTH118 - a Path is no bytes
    try:
        if path is not None:
            os.mkdir(path)  # noqa: PTH102
            Path(os.fsdecode(path), "cgroup.procs").write_text(str(pid))
    except OSError:
        path = None
    try:
        yield path
    finally:
        if path is not None:
            os.kill(pid, signal.SIGKILL)
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            os.rmdir(path)  # noqa: PTH106


def start_time_s(pid: int) -> float:
    stat = parse_stat(Path(f"/proc/{pid}/stat").read_bytes())
    assert stat is not None
    return stat.start_ticks / os.sysconf("SC_CLK_TCK")


def reuse(pid: int, spawn: Spawn) -> subprocess.Popen[bytes]:
    """Make the kernel give that pid to a new process, where we may."""
    last = Path("/proc/sys/kernel/ns_last_pid")
    for _ in range(20):
        try:
            last.write_text(str(pid - 1))
        except OSError as error:
            pytest.skip(f"the pid of the next process cannot be chosen here: {error}")
        process = spawn()
        if process.pid == pid:
            return process
    pytest.skip("other programs took the pid each time")
