"""What limits a process, as the kernel tells it, and when a growth reaches it."""

import os
import resource
from pathlib import Path

import pytest

from handlers.leak import effects
from handlers.leak.effects import limits
from handlers.leak.forecast import Limit, exhaustion
from handlers.leak.units import amount, duration, estimate, rate
from schemas.leak import Exhaustion, Interval

GIB = 2**30
MIB = 2**20


def _tree(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def test_our_own_open_files_are_limited_as_the_kernel_says() -> None:
    (limit,) = limits(os.getpid(), "handles")
    assert limit.kind == "process"
    assert limit.value == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert limit.used == pytest.approx(sum(1 for _ in Path("/proc/self/fd").iterdir()), abs=2)


def test_memory_is_limited_by_each_cgroup_above_the_process(tmp_path: Path) -> None:
    _tree(
        tmp_path,
        {
            "proc/7/cgroup": "0::/a/b\n",
            "proc/7/limits": "Max address space         unlimited            unlimited            bytes\n",
            "cg/cgroup.controllers": "memory pids\n",
            "cg/a/memory.max": "8589934592\n", "cg/a/memory.current": "6442450944\n",
            "cg/a/memory.stat": "anon 5\ninactive_file 1073741824\n",
            "cg/a/b/memory.max": "max\n", "cg/a/b/memory.current": "100\n",
        },
    )  # fmt: skip
    assert limits(7, "rss", proc=tmp_path / "proc", cgroups=tmp_path / "cg") == [
        Limit(kind="cgroup", value=8.0 * GIB, used=5.0 * GIB)
    ]


def test_memory_is_limited_by_a_cgroup_of_version_1_and_its_own_address_space(tmp_path: Path) -> None:
    _tree(
        tmp_path,
        {
            "proc/7/cgroup": "5:memory:/a\n0::/other\n",
            "proc/7/limits": "Max address space         2147483648           2147483648           bytes\n",
            "proc/7/statm": "1000 500 100 1 0 200 0\n",
            "cg/memory/a/memory.limit_in_bytes": "4294967296\n", "cg/memory/a/memory.usage_in_bytes": "2147483648\n",
            "cg/memory/a/memory.stat": "inactive_file 3\ntotal_inactive_file 1073741824\n",
            "cg/memory/memory.limit_in_bytes": "9223372036854771712\n", "cg/memory/memory.usage_in_bytes": "1\n",
        },
    )  # fmt: skip
    page = os.sysconf("SC_PAGE_SIZE")
    assert limits(7, "rss", proc=tmp_path / "proc", cgroups=tmp_path / "cg") == [
        Limit(kind="cgroup", value=4.0 * GIB, used=1.0 * GIB),
        Limit(kind="process", value=2.0 * GIB, used=1000.0 * page),
    ]


def test_threads_are_limited_by_cgroup_kernel_and_user(tmp_path: Path) -> None:
    status = "Name:\tx\nUid:\t1000\t1000\t1000\t1000\nThreads:\t{}\n"
    _tree(
        tmp_path,
        {
            "proc/7/cgroup": "0::/a\n", "proc/7/status": status.format(30), "proc/8/status": status.format(5),
            "proc/9/status": "Name:\ty\nUid:\t0\t0\t0\t0\nThreads:\t400\n",
            "proc/7/limits": "Max processes             1000                 1000                 processes\n",
            "proc/loadavg": "0.1 0.2 0.3 2/345 99\n", "proc/sys/kernel/threads-max": "9000\n",
            "proc/sys/kernel/pid_max": "4194304\n", "cg/cgroup.controllers": "pids\n",
            "cg/a/pids.max": "64\n", "cg/a/pids.current": "31\n",
        },
    )  # fmt: skip
    assert limits(7, "threads", proc=tmp_path / "proc", cgroups=tmp_path / "cg") == [
        Limit(kind="cgroup", value=64.0, used=31.0),
        Limit(kind="host", value=9000.0, used=345.0),
        Limit(kind="process", value=1000.0, used=35.0),
    ]


def test_many_leaks_of_threads_share_one_look_at_all_processes(tmp_path: Path) -> None:
    """It takes milliseconds of the daemon's, and the API asks for all leaks at once."""
    status = "Name:\tx\nUid:\t{}\t0\t0\t0\nThreads:\t3\n"
    row = "Max processes             1000                 1000                 processes\n"
    tree = {f"proc/{pid}/status": status.format(1000 + pid % 2) for pid in range(1, 51)}
    _tree(tmp_path, tree | {f"proc/{pid}/limits": row for pid in range(1, 51)})
    effects._threads_by_user.cache_clear()
    for pid in range(1, 51):
        assert limits(pid, "threads", proc=tmp_path / "proc") == [Limit(kind="process", value=1000.0, used=75.0)]
    assert effects._threads_by_user.cache_info().misses <= 2  # the time for which it stands may end in between


def test_what_cannot_be_read_limits_nothing(tmp_path: Path) -> None:
    _tree(tmp_path, {"proc/7/cgroup": "\xff\n::\n0::/../..\n", "proc/7/limits": "Max open files  x\n"})
    for what in ("rss", "vms", "threads", "handles", "vram"):
        assert limits(7, what, proc=tmp_path / "proc", cgroups=tmp_path / "cg") == []
        assert limits(8, what, proc=tmp_path / "proc", cgroups=tmp_path / "cg") == []


def test_the_nearest_limit_is_forecast_with_its_uncertainty() -> None:
    far, near = Limit(kind="host", value=100.0, used=10.0), Limit(kind="cgroup", value=50.0, used=20.0)
    # 1 a second ± 10 % at 95 %: 10 % and 90 % are 6.54 % away
    known = exhaustion(Interval(1.0, 0.9, 1.1), [far, near])
    assert known == Exhaustion(limit="cgroup", limit_value=50.0, p10_s=28.2, p50_s=30.0, p90_s=32.1)


def test_what_is_far_or_uncertain_is_not_forecast() -> None:
    limit = Limit(kind="host", value=1e12, used=0.0)
    assert exhaustion(Interval(1.0, -2.0, 4.0), [limit]) == Exhaustion(
        limit="host", limit_value=1e12, p10_s=None, p50_s=None, p90_s=None
    )
    wide = exhaustion(Interval(1.0, -2.0, 4.0), [Limit(kind="host", value=60.0, used=0.0)])
    assert wide is not None and wide.p50_s == 60.0 and wide.p90_s is None
    assert exhaustion(Interval(-1.0, -2.0, 0.5), [limit]) is None
    assert exhaustion(None, [limit]) is None
    assert exhaustion(Interval(1.0, 0.9, 1.1), []) is None
    full = exhaustion(Interval(1.0, 0.9, 1.1), [Limit(kind="gpu", value=10.0, used=12.0)])
    assert full is not None and full.p50_s == 0.0


def test_figures_are_written_for_people() -> None:
    assert amount("threads", 97.0) == "97"
    assert amount("rss", 812.4 * MIB) == "812 MB"
    assert amount("rss", 1536.0 * MIB) == "1.5 GB"
    assert estimate("threads", Interval(1.031, 0.981, 1.094)) == "1.03 (0.98 to 1.09)"
    assert rate("rss", Interval(5 * MIB / 60, 4.8 * MIB / 60, 5.2 * MIB / 60)) == "5 MB/min (4.8 to 5.2)"
    assert rate("rss", Interval(5 * MIB / 3600, 4 * MIB / 3600, 6 * MIB / 3600)) == "5 MB/h (4 to 6)"
    assert rate("handles", Interval(0.5, 0.4, 0.6)) == "30 a min (24 to 36)"
    assert amount("threads", 0.000012) == "0.000012"
    assert [duration(seconds) for seconds in (0.4, 40, 100, 10_800, 200_000)] == [
        "0.4 s",
        "40 s",
        "1.7 min",
        "3 h",
        "2.3 d",
    ]
