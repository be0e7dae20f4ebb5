"""The host's figures, from recorded trees and from the machine that the tests run on."""

import shutil
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.sampling.cgroup import memory_path
from supervisor.sampling.host import ProcHost
from supervisor.sampling.pressure import averages

TREES = Path(__file__).parent / "trees"
KIB, GIB = 1024, 1 << 30


def host_of(tree: Path) -> ProcHost:
    return ProcHost(str(tree / "proc"), str(tree / "cgroup"))


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.fixture
def v2(tmp_path: Path) -> Path:
    return Path(shutil.copytree(TREES / "v2", tmp_path / "v2"))


def test_reads_every_figure_of_a_recorded_tree() -> None:
    host = host_of(TREES / "v2")
    figures = host.read()
    host.close()
    assert (figures.cpu_count, figures.load_1m, figures.load_5m, figures.load_15m) == (2, 0.52, 1.58, 2.59)
    assert figures.memory_total_bytes == 16384000 * KIB
    assert figures.memory_available_bytes == 4096000 * KIB
    assert (figures.swap_total_bytes, figures.swap_used_bytes) == (2048000 * KIB, 512000 * KIB)
    assert figures.pressure is not None
    assert figures.pressure.cpu_some_ratio == 0.125
    assert figures.pressure.memory_full_ratio == 0.0175
    assert figures.pressure.io_some_ratio == 0.004


def test_busy_is_the_share_between_two_reads(v2: Path) -> None:
    host = host_of(v2)
    assert host.read().cpu_busy_ratio is None
    # 100 ticks more, 40 of them idle and 10 waiting for I/O
    (v2 / "proc/stat").write_text("cpu  1040 50 460 8040 510 0 0 0 0 0\ncpu0 1 1 1 1 1\n")
    assert host.read().cpu_busy_ratio == pytest.approx(0.5)
    assert host.read().cpu_busy_ratio is None  # no time has passed
    host.close()


def test_the_fullest_limit_of_our_cgroup_and_its_parents_counts(v2: Path) -> None:
    host = host_of(v2)
    figures = host.read()
    assert figures.cgroup_memory_limit_bytes == 8 * GIB  # 6.5 of 8 in use, against 0.75 of 2 in our own
    assert figures.cgroup_memory_used_bytes == 7 * GIB - GIB // 2
    assert figures.memory_used_ratio == pytest.approx(6.5 / 8)
    (v2 / "cgroup/system.slice/memory.max").write_text("max\n")
    assert host.memory().cgroup_memory_limit_bytes == 2 * GIB
    host.close()


def test_a_limit_above_the_machines_memory_is_none(v2: Path) -> None:
    for level in ("system.slice", "system.slice/flyball.service"):
        (v2 / "cgroup" / level / "memory.max").write_text(f"{1 << 62}\n")
    host = host_of(v2)
    assert host.memory().cgroup_memory_limit_bytes is None
    assert host.memory().memory_used_ratio == pytest.approx(0.75)
    host.close()


def test_a_v1_container_finds_its_limit_at_the_mounted_root() -> None:
    host = host_of(TREES / "v1")
    figures = host.read()
    host.close()
    assert figures.cgroup_memory_limit_bytes == 4 * GIB
    assert figures.cgroup_memory_used_bytes == 2 * GIB
    assert figures.pressure is None
    assert figures.cpu_count is None
    assert figures.load_1m is None


def test_an_empty_machine_has_no_figures(tmp_path: Path) -> None:
    host = ProcHost(str(tmp_path), str(tmp_path))
    figures = host.read()
    assert figures.memory_used_ratio is None
    assert figures.cpu_busy_ratio is None
    # and a file that appears later is read
    (tmp_path / "meminfo").write_text("MemTotal: 100 kB\nMemAvailable: 25 kB\n")
    assert host.memory().memory_used_ratio == pytest.approx(0.75)
    host.close()


def test_agrees_with_psutil_on_this_machine() -> None:
    host = ProcHost()
    figures = host.read()
    host.close()
    assert figures.memory_total_bytes == psutil.virtual_memory().total
    assert figures.cpu_count == psutil.cpu_count()
    assert figures.swap_total_bytes == psutil.swap_memory().total


def test_close_gives_back_every_descriptor() -> None:
    before = open_files()
    host = ProcHost()
    host.read()
    assert open_files() > before
    host.close()
    assert open_files() == before


@given(st.binary(max_size=300))
def test_any_content_is_read_or_absent(content: bytes) -> None:
    assert all(ratio >= 0 for ratio in averages(content).values())
    found = memory_path(content)
    assert found is None or found[1] in (1, 2)


@given(st.binary(max_size=300))
def test_any_content_of_the_hosts_files_is_read_or_absent(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    root = tmp_path_factory.mktemp("proc")
    for name in ("stat", "loadavg", "meminfo"):
        (root / name).write_bytes(content)
    host = ProcHost(str(root), str(root))
    host.read()
    ratio = host.read().memory_used_ratio
    host.close()
    assert ratio is None or ratio <= 1
