"""The mock driver library itself, through the real pynvml in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mocknvml.build import build_library
from tests.mocknvml.control import DEFAULT_VALUES, MockNvml, MockProcess
from tests.tools import require_tool


@pytest.fixture
def mock(tmp_path: Path) -> MockNvml:
    require_tool("gcc")
    return MockNvml(tmp_path / "nvml", library=build_library(), gpus=2)


def start(mock: MockNvml, program: str) -> subprocess.Popen[str]:
    """A Python program with pynvml initialised as `n`."""
    return subprocess.Popen(
        [sys.executable, "-c", f"import pynvml as n\nn.nvmlInit()\n{program}"],
        env=os.environ | mock.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def said(mock: MockNvml, program: str) -> list[str]:
    """What a program prints."""
    with start(mock, program) as process:
        output, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    return output.splitlines()


def test_an_xid_event_reaches_a_set_that_waits_and_no_later_one(mock: MockNvml) -> None:
    program = (
        "events, card = n.nvmlEventSetCreate(), n.nvmlDeviceGetHandleByIndex(1)\n"
        "n.nvmlDeviceRegisterEvents(card, n.nvmlDeviceGetSupportedEventTypes(card), events)\n"
        "print('waiting', flush=True)\n"
        "event = n.nvmlEventSetWait_v2(events, 20000)\n"
        "print(hex(event.eventType), event.eventData, n.nvmlDeviceGetIndex(event.device))\n"
        "late = n.nvmlEventSetCreate()\n"
        "n.nvmlDeviceRegisterEvents(card, n.nvmlEventTypeXidCriticalError, late)\n"
        "try:\n"
        "    n.nvmlEventSetWait_v2(late, 10)\n"
        "except n.NVMLError_Timeout:\n"
        "    print('timeout')\n"
    )
    with start(mock, program) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        mock.xid(0, 13)  # nobody registered for this card
        mock.xid(1, 79)
        assert process.stdout.readline() == "0x8 79 1\n"
        assert process.stdout.readline() == "timeout\n"


def test_calls_are_counted_over_all_programs(mock: MockNvml) -> None:
    program = "card = n.nvmlDeviceGetHandleByIndex(0)\nfor _ in range(5): n.nvmlDeviceGetTemperature(card, 0)\n"
    assert mock.calls() == {}
    for _ in range(2):
        said(mock, program)
    assert mock.calls()["nvmlDeviceGetTemperature"] == 10
    assert mock.calls()["nvmlDeviceGetHandleByIndex_v2"] == 2


def test_a_program_sees_changes_while_it_runs(mock: MockNvml) -> None:
    program = (
        "card = n.nvmlDeviceGetHandleByIndex(0)\n"
        "for line in __import__('sys').stdin: print(n.nvmlDeviceGetTemperature(card, 0), flush=True)\n"
    )
    with start(mock, program) as process:
        assert process.stdin is not None and process.stdout is not None
        for celsius in range(40, 90):
            mock.set(gpu=0, temperature=celsius)
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == f"{celsius}\n"


def test_the_recovery_action_is_field_230(mock: MockNvml) -> None:
    mock.set(gpu=0, field_230=2)
    program = "print(n.nvmlDeviceGetFieldValues(n.nvmlDeviceGetHandleByIndex(0), [230])[0].value.ullVal)"
    assert said(mock, program) == ["2"]


def test_memory_that_is_not_available_is_what_trips_pynvml_or_none(mock: MockNvml) -> None:
    mock.set_processes(0, [MockProcess(5), MockProcess(6, 123)])
    program = (
        "for process in n.nvmlDeviceGetComputeRunningProcesses(n.nvmlDeviceGetHandleByIndex(0)):\n"
        "    print(process.pid, process.usedGpuMemory)\n"
    )
    assert said(mock, program) == ["5 None", "6 123"]


def test_a_name_that_there_is_not_is_refused(mock: MockNvml) -> None:
    with pytest.raises(KeyError, match="temprature"):
        mock.set(temprature=3)


def test_the_library_knows_every_value_that_control_can_set() -> None:
    source = Path(__file__).with_name("nvml.c").read_text()
    assert [name for name in DEFAULT_VALUES if f"V({name})" not in source] == []
