"""XIDs on their way from the driver into a sample, while all else goes wrong."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from schemas.sample import Gpu, Xid
from supervisor.sampling.kmsg import XidLine
from supervisor.sampling.nvml.source import NvmlSource
from supervisor.sampling.nvml.xids import SAME_WITHIN_S, Xids
from supervisor.sampling.source import GpuReadings
from tests.kernellog import FakeKernelLog
from tests.mocknvml.control import MockNvml
from tests.sampling_nvml.conftest import all_fresh, kinds, only_blind, read_until, reader_pids

_CODE_NOT_SUPPORTED = 3
_CODE_UNKNOWN = 999

#: As the kernel writes it of the mock's cards 0 and 4.
KERNEL_79 = "NVRM: Xid (PCI:0000:01:00): 79, pid=1234, name=python, GPU has fallen off the bus."
KERNEL_48 = "NVRM: Xid (PCI:0000:05:00): 48, pid='<unknown>', name=<unknown>, An uncorrectable double bit error"


class Heard:
    """Collects the XIDs of readings, by card and number."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[int, int]] = Counter()
        self.told: list[tuple[Gpu, Xid]] = []

    def until(self, **expected: int) -> Callable[[GpuReadings], bool]:
        """Whether all of `gpu3_xid79=1` were heard by now."""
        wanted = {
            (int(card.removeprefix("gpu")), int(code.removeprefix("xid"))): count
            for (card, code), count in ((name.split("_"), count) for name, count in expected.items())
        }

        def take(readings: GpuReadings) -> bool:
            for gpu in readings.gpus:
                for xid in gpu.xids:
                    self.counts[gpu.index, xid.code] += xid.count
                    self.told.append((gpu, xid))
            return self.counts == wanted

        return take


async def delivered(mock: MockNvml, source: NvmlSource, before: int) -> None:
    """Come back once the source has been told of an event that was raised after so many waits, without sampling it."""
    while mock.calls().get("nvmlEventSetWait_v2", 0) < before + 2:  # it waits again, so it has told
        await source.read(only=[0])
    await source.read(only=[0])  # behind it in the same pipe


async def test_an_xid_is_in_the_next_full_reading_and_only_there(mock: MockNvml, source: NvmlSource) -> None:
    waits = mock.calls().get("nvmlEventSetWait_v2", 0)
    mock.xid(5, 31)
    await delivered(mock, source, waits)
    assert (await source.read(only=[5])).gpus[0].xids == ()
    gpus = (await source.read()).gpus
    assert gpus[5].xids == (Xid(code=31, count=1, source="nvml"),)
    assert [gpu.index for gpu in gpus if gpu.xids] == [5]
    assert [gpu.index for gpu in (await source.read()).gpus if gpu.xids] == []


async def test_a_burst_of_a_thousand_is_a_count(mock: MockNvml, source: NvmlSource) -> None:
    heard = Heard()
    with mock.together():
        mock.xid(2, 13, count=1000)
        mock.xid(4, 48)
    await read_until(source, heard.until(gpu2_xid13=1000, gpu4_xid48=1))
    assert len(heard.told) < 100


async def test_with_an_xid_comes_what_the_driver_says_must_be_done(mock: MockNvml) -> None:
    """Although that is read every ten seconds only."""
    source = NvmlSource(environment=os.environ | mock.environment())
    await source.start()
    try:
        await read_until(source, all_fresh)
        with mock.together():
            mock.set(gpu=[1, 2], field_230=1)
            mock.xid(1, 95)
        heard = Heard()
        gpus = (await read_until(source, heard.until(gpu1_xid95=1))).gpus
        assert [gpu.recovery_action for gpu in gpus[:3]] == ["none", "gpu_reset", "none"]
    finally:
        await source.stop()


async def test_a_card_that_hangs_keeps_nobody_from_being_heard(mock: MockNvml, source: NvmlSource) -> None:
    mock.set(gpu=3, hang=1)
    await read_until(source, only_blind(3))
    mock.xid(5, 31)
    mock.xid(3, 119)
    heard = Heard()
    readings = await read_until(source, heard.until(gpu5_xid31=1, gpu3_xid119=1))
    assert only_blind(3)(readings)
    assert readings.backend.xid_sources == ("nvml",)
    assert [xid.code for gpu, xid in heard.told if gpu.reading == "blind"] == [119]


async def test_a_card_that_hangs_from_the_start_keeps_nobody_from_being_heard(mock: MockNvml) -> None:
    mock.set(gpu=0, hang=1)
    source = NvmlSource(environment=os.environ | mock.environment())
    await source.start()
    try:
        await read_until(source, only_blind(0))
        mock.xid(7, 31)
        await read_until(source, Heard().until(gpu7_xid31=1))
    finally:
        await source.stop()


async def test_events_while_cards_are_read_cost_the_readings_nothing(mock: MockNvml, source: NvmlSource) -> None:
    heard = Heard()
    done = heard.until(gpu6_xid13=5000)
    mock.xid(6, 13, count=5000)
    while not done(readings := await source.read()):
        assert all_fresh(readings)


@pytest.mark.parametrize("function", ["nvmlEventSetCreate", "nvmlDeviceGetSupportedEventTypes"])
async def test_a_driver_without_events(mock: MockNvml, caplog: pytest.LogCaptureFixture, function: str) -> None:
    mock.fail(function, _CODE_NOT_SUPPORTED)
    source = NvmlSource(environment=os.environ | mock.environment())
    await source.start()
    try:
        for _ in range(3):
            readings = await read_until(source, all_fresh)
            assert readings.backend.xid_sources == ()
    finally:
        await source.stop()
    assert len([line for line in caplog.records if "NVML tells no XIDs" in line.getMessage()]) == 1


async def test_one_card_whose_driver_tells_no_xids(
    mock: MockNvml, source: NvmlSource, caplog: pytest.LogCaptureFixture
) -> None:
    mock.set(gpu=2, event_types=None)
    (serving,) = reader_pids(mock.path)
    os.kill(serving, signal.SIGKILL)
    readings = await read_until(source, lambda readings: readings.backend.xid_sources == () and all_fresh(readings))
    assert readings.backend.state == "ok"
    assert f"NVML tells no XIDs of gpu2 (error {_CODE_NOT_SUPPORTED})" in caplog.text
    mock.xid(3, 31)
    await read_until(source, Heard().until(gpu3_xid31=1))


async def test_a_wait_that_fails_is_begun_anew_after_a_pause(
    mock: MockNvml, source: NvmlSource, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "supervisor.sampling.nvml")
    mock.fail("nvmlEventSetWait_v2", _CODE_UNKNOWN)
    readings = await read_until(source, lambda readings: readings.backend.xid_sources == ())
    assert all_fresh(readings), "the cards are well"
    await read_until(source, lambda _: mock.calls().get("nvmlEventSetCreate", 0) >= 3)
    mock.fail("nvmlEventSetWait_v2", 0)
    readings = await read_until(source, lambda readings: readings.backend.xid_sources == ("nvml",))
    mock.xid(1, 31)
    await read_until(source, Heard().until(gpu1_xid31=1))
    # a set is freed at the latest when the cards that were just being registered are
    await read_until(source, lambda _: mock.calls()["nvmlEventSetFree"] == mock.calls()["nvmlEventSetCreate"] - 1)
    assert mock.calls()["nvmlEventSetWait_v2"] < 20, "it backs off"
    assert [line.getMessage() for line in caplog.records] == [
        f"NVML tells no XIDs at present (error {_CODE_UNKNOWN})",
        "NVML tells XIDs again",
    ]


async def test_a_card_that_is_lost_takes_its_xid_along_and_the_others_are_heard_on(
    mock: MockNvml, source: NvmlSource
) -> None:
    """A lost card makes every wait fail at once, as NVML does."""
    with mock.together():
        mock.xid(6, 79)
        mock.set(gpu=6, lost=1)
    heard = Heard()
    await read_until(source, heard.until(gpu6_xid79=1))
    await read_until(source, lambda readings: kinds(readings) == ["fresh"] * 6 + ["lost", "fresh"])
    await read_until(source, lambda readings: readings.backend.xid_sources == ("nvml",))
    mock.xid(1, 31)
    await read_until(source, heard.until(gpu6_xid79=1, gpu1_xid31=1))
    mock.set(gpu=6, lost=0)
    await read_until(source, all_fresh)
    mock.xid(6, 13)
    await read_until(source, heard.until(gpu6_xid79=1, gpu1_xid31=1, gpu6_xid13=1))


async def test_what_was_heard_survives_the_reader_that_heard_it(mock: MockNvml, source: NvmlSource) -> None:
    waits = mock.calls().get("nvmlEventSetWait_v2", 0)
    mock.xid(5, 48, count=2)
    await delivered(mock, source, waits + 1)
    (serving,) = reader_pids(mock.path)
    os.kill(serving, signal.SIGKILL)
    while serving in reader_pids(mock.path) or (await source.read(only=[5])).gpus[0].reading != "fresh":
        pass
    assert (await source.read()).gpus[5].xids == (Xid(code=48, count=2, source="nvml"),)
    mock.xid(5, 48)
    await read_until(source, Heard().until(gpu5_xid48=1))


async def test_while_one_reader_replaces_another_no_xid_is_lost(mock: MockNvml, source: NvmlSource) -> None:
    """Of a card that hangs in one process only; that one serves until its successor is open, and both hear.

    One that the old reader told just before the change and the new one just after it counts twice.
    """
    raised, heard = 0, Heard()
    before = source.reader_pid
    mock.set(gpu=4, hang=1, hang_pid=before)
    while source.reader_pid == before:
        raised += 1
        mock.xid(1, 31)
        heard.until()(await source.read())
        await asyncio.sleep(0.02)  # the mock remembers 64 of them
    mock.xid(2, 48)
    all_told = heard.until()
    await read_until(source, lambda readings: all_told(readings) or (2, 48) in heard.counts)
    assert raised <= heard.counts[1, 31] <= raised + 1
    assert all_fresh(await source.read())


async def test_only_the_serving_reader_listens(mock: MockNvml, source: NvmlSource) -> None:
    mock.set(gpu=4, hang=1)
    await read_until(source, only_blind(4))
    mock.set(gpu=4, hang=0)
    await read_until(source, all_fresh)
    assert mock.calls()["nvmlInitWithFlags"] == 2, "somebody has probed"
    assert mock.calls()["nvmlEventSetCreate"] == 1


async def test_registering_costs_two_calls_a_card_once(mock: MockNvml, source: NvmlSource) -> None:
    for _ in range(3):
        await read_until(source, all_fresh)
    calls = mock.calls()
    assert (calls["nvmlDeviceGetSupportedEventTypes"], calls["nvmlDeviceRegisterEvents"]) == (8, 8)


@pytest.fixture
async def following(mock: MockNvml, tmp_path: Path) -> AsyncIterator[tuple[NvmlSource, FakeKernelLog]]:
    """A source that also follows a kernel log, over a driver that tells no XIDs of cards 0 to 3."""
    mock.set(gpu=range(4), event_types=None)
    with FakeKernelLog(tmp_path / "kmsg") as kernel:
        source = NvmlSource(environment=os.environ | mock.environment(), kernel_log=kernel.path)
        await source.start()
        try:
            await read_until(source, all_fresh)
            yield source, kernel
        finally:
            await source.stop()


async def test_the_kernels_log_tells_what_nvml_does_not(
    following: tuple[NvmlSource, FakeKernelLog], caplog: pytest.LogCaptureFixture
) -> None:
    source, kernel = following
    kernel.write("something else")
    kernel.write(KERNEL_79)
    kernel.write(KERNEL_79.replace("0000:01", "0000:c1"))
    kernel.write(KERNEL_79.replace("0000:01", "0000:c1"))
    heard = Heard()
    readings = await read_until(source, heard.until(gpu0_xid79=1))
    assert readings.backend.xid_sources == ("kmsg",)
    assert heard.told[0][1] == Xid(
        code=79, count=1, source="kmsg", pid=1234, process="python", detail="GPU has fallen off the bus."
    )
    strangers = [line.getMessage() for line in caplog.records if "not known" in line.getMessage()]
    assert strangers == ["the kernel's log tells XID 79 of a card at 0000:c1:00, which is not known here"]


async def test_what_both_tell_counts_once_and_says_the_program(
    mock: MockNvml, following: tuple[NvmlSource, FakeKernelLog]
) -> None:
    source, kernel = following
    waits = mock.calls().get("nvmlEventSetWait_v2", 0)
    mock.xid(4, 48)
    kernel.write(KERNEL_48)
    await delivered(mock, source, waits)
    (xid,) = (await source.read()).gpus[4].xids
    assert (xid.count, xid.source, xid.detail) == (1, "nvml", "An uncorrectable double bit error")
    kernel.write(KERNEL_48)  # NVML's word for it may be late, but this is the second one
    (xid,) = (await read_until(source, lambda readings: bool(readings.gpus[4].xids))).gpus[4].xids
    assert (xid.count, xid.source) == (1, "kmsg")


LINE = XidLine(pci=(0, 1, 0), code=13, pid=7, process="python", detail="text")


def test_the_ear_that_heard_the_most_counts() -> None:
    xids = Xids()
    for second in (0.0, 0.1, 0.2):
        xids.heard("card", 13, 100, second)
    for second in (0.1, 0.2, 0.3, 0.4):
        xids.logged("card", LINE, second)
    xids.heard("card", 13, 200, 0.5)  # the reader that takes over from 100
    xids.heard("other", 13, 200, 0.5)
    assert xids.take("card") == (Xid(code=13, count=4, source="nvml", pid=7, process="python", detail="text"),)
    assert xids.take("other") == (Xid(code=13, count=1, source="nvml"),)
    assert xids.take("card") == ()


def test_the_second_to_tell_adds_nothing_to_what_was_sampled() -> None:
    xids = Xids()
    xids.logged("card", LINE, 0.0)
    assert [xid.source for xid in xids.take("card")] == ["kmsg"]
    xids.heard("card", 13, 100, 0.1)
    assert xids.take("card") == ()
    xids.heard("card", 13, 100, 0.2)
    assert xids.take("card") == (Xid(code=13, count=1, source="nvml"),)


def test_the_same_number_is_another_xid_later() -> None:
    xids = Xids()
    xids.heard("card", 13, 100, 0.0)
    xids.logged("card", LINE, SAME_WITHIN_S + 0.1)
    assert [xid.count for xid in xids.take("card")] == [2]
