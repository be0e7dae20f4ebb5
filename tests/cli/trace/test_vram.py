"""The memory of the cards, over the mock driver: that of the process and its children, on all cards."""

from pathlib import Path

import pytest

from tests.cli.trace.conftest import Trace, program
from tests.mocknvml.build import build_library
from tests.mocknvml.control import MockNvml, MockProcess
from tests.tools import require_tool

MIB = 2**20
NVIDIA_DEVICE = Path("/dev/nvidiactl")


def test_what_the_process_uses_on_the_cards(trace: Trace, tmp_path: Path) -> None:
    require_tool("gcc")
    with MockNvml(tmp_path / "mock", library=build_library(), gpus=2) as mock:
        trace.environ.update(mock.environment())
        words = program("signal.pause()")
        with trace.start("--interval", "0.1", "--output", str(trace.file), "--", *words) as process:
            trace.wait_for(lambda rows: len(rows) >= 2)
            pid = _child_of(process.pid)
            mock.set_processes(0, [MockProcess(pid, 100 * MIB), MockProcess(1, 7 * MIB)])
            mock.set_processes(1, [MockProcess(pid, 23 * MIB), MockProcess(pid, 23 * MIB, "graphics")])
            rows = trace.wait_for(lambda rows: rows[-1].get("VRAM(MB)") == "123.000")
            process.terminate()
            process.communicate(timeout=10)
    assert list(rows[0])[-1] == "VRAM(MB)"
    assert rows[0]["VRAM(MB)"] == "", "the driver takes a moment"


def _child_of(pid: int) -> int:
    """The program that is traced: the child that is no reader of the driver."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return next(int(each) for each in children if "signal.pause" in Path(f"/proc/{each}/cmdline").read_text())


@pytest.mark.skipif(NVIDIA_DEVICE.exists(), reason="there is a driver")
def test_without_a_driver_there_is_no_such_column(trace: Trace) -> None:
    trace.run("--output", str(trace.file), "--interval", "0.2", "--", "sleep", "1")
    assert "VRAM(MB)" not in trace.rows()[0]
