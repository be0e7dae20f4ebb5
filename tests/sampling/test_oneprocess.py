"""One process and its descendants: what they use, and that nobody else slips in under their pids."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from supervisor.errors import FlyballError
from supervisor.sampling.oneprocess import ProcessTree

PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")


class Proc:
    """A /proc of our own, with what `ProcessTree` reads of it."""

    def __init__(self, root: Path) -> None:
        """Nothing runs in it."""
        self.root = root
        self._newest = 0

    def put(self, pid: int, *, parent: int = 1, start: int = 500, pages: int = 100, cpu: int = 0) -> None:
        """A process with one thread and three handles, of which nothing is shared."""
        directory = self.root / str(pid)
        (directory / "fd").mkdir(parents=True, exist_ok=True)
        for name in range(3):
            (directory / "fd" / str(name)).touch()
        fields = ["S", str(parent), *["0"] * 9, str(cpu), "0", *["0"] * 4, "1", "0", str(start), "0"]
        (directory / "stat").write_text(f"{pid} (a b) c) {' '.join(fields)}\n")
        (directory / "statm").write_text(f"{pages * 2} {pages} 0 1 0 1 0\n")
        self._newest += 1
        (self.root / "loadavg").write_text(f"0.1 0.1 0.1 1/9 {self._newest}\n")

    def remove(self, pid: int) -> None:
        """It ends, and its parent knows."""
        subprocess.run(["rm", "-r", str(self.root / str(pid))], check=True)

    def tree(self, pid: int) -> ProcessTree:
        """Its tree."""
        return ProcessTree(pid, str(self.root))


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    """An empty one."""
    return Proc(tmp_path)


def test_the_sum_of_a_tree(proc: Proc) -> None:
    """Grandchildren whose pid is lower than their parent's belong to it, and strangers do not."""
    proc.put(10, cpu=TICKS)
    proc.put(30, parent=10, pages=20)
    proc.put(20, parent=30, pages=3)
    proc.put(40, parent=1, pages=1000)
    look = proc.tree(10).look()
    assert look is not None
    assert look.pids[0] == 10
    assert set(look.pids) == {10, 20, 30}
    assert (look.threads, look.handles, look.cpu_s) == (3, 9, 1.0)
    assert (look.rss_bytes, look.rss_anon_bytes, look.vms_bytes) == (123 * PAGE, 123 * PAGE, 246 * PAGE)


def test_a_child_that_comes_and_goes(proc: Proc) -> None:
    """What it has spent stays in the sum."""
    proc.put(10)
    tree = proc.tree(10)
    assert tree.look() is not None
    proc.put(11, parent=10, cpu=5 * TICKS)
    during = tree.look()
    proc.remove(11)
    after = tree.look()
    assert during is not None
    assert after is not None
    assert (during.pids, during.cpu_s) == ((10, 11), 5.0)
    assert (after.pids, after.cpu_s) == ((10,), 5.0)


def test_a_childs_pid_that_is_used_again_is_no_child(proc: Proc) -> None:
    proc.put(10)
    proc.put(11, parent=10)
    tree = proc.tree(10)
    before = tree.look()
    proc.put(11, parent=1, start=900, pages=9999)
    after = tree.look()
    assert before is not None
    assert after is not None
    assert len(before.pids) == 2
    assert (after.pids, after.rss_bytes) == ((10,), 100 * PAGE)


def test_a_pid_that_is_used_again_ends_it(proc: Proc) -> None:
    proc.put(10)
    tree = proc.tree(10)
    assert tree.successor() == ""
    proc.put(10, start=501)
    assert tree.look() is None
    assert tree.successor() == "a b) c"


def test_it_ends(proc: Proc) -> None:
    proc.put(10)
    tree = proc.tree(10)
    proc.remove(10)
    assert tree.look() is None
    assert tree.successor() == ""


def test_ourselves_are_never_counted() -> None:
    """The program that traces may be started by the one that it traces."""
    code = (
        "import os, sys; from supervisor.sampling.oneprocess import ProcessTree;"
        "print(os.getpid() in ProcessTree(os.getppid()).look().pids, os.getpid())"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.split()[0] == "False"


def test_figures_are_those_that_the_kernel_tells() -> None:
    """Of a real process that stands still."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdin and process.stdout
        try:
            process.stdin.write(b"!")
            assert process.stdout.read(1) == b"!"  # all that it loads is loaded
            look = ProcessTree(process.pid).look()
            status = _status(process.pid)
            listed = len(list(Path(f"/proc/{process.pid}/fd").iterdir()))
        finally:
            process.kill()
    assert look is not None
    assert (look.threads, look.handles) == (int(status["Threads"]), listed)
    assert look.vms_bytes == int(status["VmSize"].split()[0]) * 1024
    assert look.rss_bytes == pytest.approx(int(status["VmRSS"].split()[0]) * 1024, abs=64 * PAGE)


def _status(pid: int) -> Mapping[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def test_what_is_none_is_a_message(proc: Proc) -> None:
    with pytest.raises(FlyballError, match="there is no process 77"):
        proc.tree(77)
    proc.put(5, pages=0)
    with pytest.raises(FlyballError, match="process 5 has ended: its parent has not asked yet how"):
        proc.tree(5)
    stat = proc.root / "5" / "stat"
    fields = stat.read_text().split(" ")
    fields[10] = str(0x0020_0000)  # `(a b) c)` is three words
    stat.write_text(" ".join(fields))
    with pytest.raises(FlyballError, match="process 5 is a thread of the kernel"):
        proc.tree(5)
