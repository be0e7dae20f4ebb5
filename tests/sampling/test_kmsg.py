"""XIDs in the kernel's log: what a line says, and a log that is not what it should be."""

import asyncio
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.sampling.kmsg import KernelLog, XidLine, pci_address, xid_of
from tests.kernellog import USER_ERROR, FakeKernelLog, record

CARD = (0, 0x3B, 0)
LOST = "NVRM: Xid (PCI:0000:3b:00): 79, pid=1234, name=python, GPU has fallen off the bus."
LOST_LINE = XidLine(pci=CARD, code=79, pid=1234, process="python", detail="GPU has fallen off the bus.")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (LOST, LOST_LINE),
        (
            "NVRM: Xid (PCI:0000:3b:00): 13, pid='<unknown>', name=<unknown>, Graphics SM Warp Exception on (GPC 7)",
            XidLine(pci=CARD, code=13, detail="Graphics SM Warp Exception on (GPC 7)"),
        ),
        (
            "NVRM: Xid (PCI:0000:3b:00): 62, 223b6a66 00002100",
            XidLine(pci=CARD, code=62, detail="223b6a66 00002100"),
        ),
        (
            "NVRM: Xid (0000:03:00): 14, Channel 00000001",
            XidLine(pci=(0, 3, 0), code=14, detail="Channel 00000001"),
        ),
        (
            "NVRM: Xid (PCI:0000:0f:00 GPU-I:05): 94, pid=7194, Contained: CE User Channel (0x9). RST: No, D-RST: No",
            XidLine(pci=(0, 15, 0), code=94, pid=7194, detail="Contained: CE User Channel (0x9). RST: No, D-RST: No"),
        ),
        (
            "NVRM: Xid (PCI:0009:01:00): 45, pid=42, name=VLLM::Worker, channel 0x00000002",
            XidLine(pci=(9, 1, 0), code=45, pid=42, process="VLLM::Worker", detail="channel 0x00000002"),
        ),
        (
            "NVRM: Xid (PCI:0000:3b:00.0): 31, pid=99999999999, name=x",
            XidLine(pci=CARD, code=31, detail="pid=99999999999, name=x"),
        ),
        ("NVRM: Xid (PCI:0000:3b:00): 48", XidLine(pci=CARD, code=48)),
        ("NVRM: Xid (PCI:0000:3b:00): 31, pid=9999999999, name=x", XidLine(pci=CARD, code=31, process="x")),
        ("NVRM: Xid (PCI:0000:3b:00): 13, " + "x" * 500, XidLine(pci=CARD, code=13, detail="x" * 200)),
    ],
)
def test_what_a_line_says(text: str, line: XidLine) -> None:
    assert xid_of(record(text)) == line


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b";",
        b"\xff\xfe",
        b"3",
        record("NVRM: GPU at PCI:0000:3b:00: GPU-b850f46d"),
        record("python[77]: said NVRM: Xid (PCI:0000:3b:00): 79, pid=1"),
        record("NVRM: Xid (PCI:0000:3b): 79, pid=1"),
        record("NVRM: Xid (PCI:zzzz:3b:00): 79"),
        record("NVRM: Xid (PCI:0000:3b:00): seventy-nine"),
        record("nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 28006, Non-fatal, Link 46"),
        record(LOST, priority=USER_ERROR),
    ],
)
def test_what_is_no_xid_of_the_kernels(packet: bytes) -> None:
    assert xid_of(packet) is None


@given(
    st.binary(max_size=200) | st.binary(max_size=99).map(lambda rest: b"3,1,1,-;NVRM: Xid (PCI:0000:3b:00): " + rest)
)
def test_no_record_is_too_strange(packet: bytes) -> None:
    line = xid_of(packet)
    assert line is None or line.pci == CARD
    if line is not None:
        f"{line.process} {line.detail}".encode()  # no half of a surrogate pair


def test_addresses_of_nvml_and_of_the_kernel_meet() -> None:
    assert pci_address("00000000:3B:00.0") == pci_address("0000:3b:00") == CARD
    assert pci_address("") is pci_address("3b:00") is None


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[FakeKernelLog]:
    with FakeKernelLog(tmp_path / "kmsg") as kernel:
        yield kernel


async def heard(found: asyncio.Queue[XidLine]) -> XidLine:
    async with asyncio.timeout(20):
        return await found.get()


async def test_lines_come_as_they_are_written_whatever_stands_between_them(kernel: FakeKernelLog) -> None:
    found: asyncio.Queue[XidLine] = asyncio.Queue()
    log = KernelLog(kernel.path, found.put_nowait)
    log.open()
    try:
        assert log.readable
        kernel.write("something else")
        kernel.write_bytes(b"\x00\xff;;;")
        kernel.write(LOST)
        assert await heard(found) == LOST_LINE
        for code in range(200):
            kernel.write(f"NVRM: Xid (PCI:0000:3b:00): {code}")
        assert [(await heard(found)).code for _ in range(200)] == list(range(200))
    finally:
        log.close()
    assert not log.readable


async def test_a_flood_lets_others_have_their_turn(kernel: FakeKernelLog) -> None:
    left, found = 2000, asyncio.Queue[XidLine]()

    def read(descriptor: int, size: int) -> bytes:
        nonlocal left
        if not left:
            raise BlockingIOError
        left -= 1
        return record(LOST)

    log = KernelLog(kernel.path, found.put_nowait, read=read)
    log.open()
    try:
        kernel.write(LOST)
        await heard(found)
        assert left > 1000, "everything was read in one turn"
        for _ in range(1999):
            await heard(found)
    finally:
        log.close()


async def test_an_overrun_is_said_once_and_survived(kernel: FakeKernelLog, caplog: pytest.LogCaptureFixture) -> None:
    """A record that was overwritten before it was read answers EPIPE, and the next read goes on behind it."""
    overruns = 3

    def read(descriptor: int, size: int) -> bytes:
        nonlocal overruns
        if overruns:
            overruns -= 1
            raise OSError(errno.EPIPE, "Broken pipe")
        return os.read(descriptor, size)

    found: asyncio.Queue[XidLine] = asyncio.Queue()
    log = KernelLog(kernel.path, found.put_nowait, read=read)
    log.open()
    try:
        kernel.write(LOST)
        assert await heard(found) == LOST_LINE
    finally:
        log.close()
    assert [line.getMessage() for line in caplog.records] == [
        f"{kernel.path} is written faster than it is read; XIDs may be missing"
    ]


@pytest.mark.parametrize("kind", ["missing", "file", "directory", "device that nobody can wait for"])
async def test_a_log_that_cannot_be_followed_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    path = tmp_path / "kmsg"
    if kind == "file":
        path.write_text("")
    elif kind == "directory":
        path.mkdir()
    elif kind == "device that nobody can wait for":
        path = Path("/dev/null")
    caplog.set_level("INFO")
    log = KernelLog(path, lambda line: None)
    log.open()
    assert not log.readable
    (said,) = [line.getMessage() for line in caplog.records]
    assert said.startswith(f"{path} is not read (") and said.endswith("XIDs that NVML does not tell are not heard")
    log.close()


async def test_a_log_that_ends_is_given_up(kernel: FakeKernelLog, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    ended = asyncio.Event()

    def read(descriptor: int, size: int) -> bytes:
        ended.set()
        return b""

    log = KernelLog(kernel.path, lambda line: None, read=read)
    log.open()
    kernel.write(LOST)
    async with asyncio.timeout(20):
        await ended.wait()
    assert not log.readable
    assert "it ended" in caplog.text


async def test_the_machines_own_log_is_followed_from_its_end_where_it_may_be_read() -> None:
    if not os.access("/dev/kmsg", os.R_OK):
        pytest.skip("/dev/kmsg may not be read here")
    found: list[XidLine] = []
    log = KernelLog(Path("/dev/kmsg"), found.append)
    log.open()
    assert log.readable
    log.close()
    assert found == []
