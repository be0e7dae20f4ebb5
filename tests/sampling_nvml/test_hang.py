"""A call into the driver that does not return."""

import asyncio
import os
import select
import sys

import pytest

from supervisor.sampling.nvml.source import NvmlSource
from tests.mocknvml.control import MockNvml
from tests.sampling_nvml.conftest import PATIENCE_S, all_fresh, kinds, only_blind, read_until, reader_pids


async def test_seven_cards_are_read_in_every_round_while_the_eighth_hangs_twice(
    mock: MockNvml, source: NvmlSource
) -> None:
    others = [*range(3), *range(4, 8)]
    for temperature in (50, 60):
        mock.set(gpu=3, hang=1)
        for tick in range(8):
            mock.set(gpu=others, temperature=temperature + tick)
            readings = await source.read()
            assert kinds(readings) == ["fresh"] * 3 + ["blind"] + ["fresh"] * 4
            assert {readings.gpus[index].temperature_celsius for index in others} == {temperature + tick}
            assert readings.gpus[3].reason == "no answer within 1 s"
            assert readings.gpus[3].temperature_celsius is None
            assert readings.gpus[3].uuid == mock.uuid(3)
        mock.set(gpu=3, hang=0)
        await read_until(source, all_fresh)


async def test_a_slow_card_is_blind_until_it_is_quick_again(mock: MockNvml, source: NvmlSource) -> None:
    mock.set(gpu=7, latency_us=250_000)
    assert only_blind(7)(await source.read())
    mock.set(gpu=7, latency_us=0)
    await read_until(source, all_fresh)


async def test_several_cards_hang_at_once(mock: MockNvml, source: NvmlSource) -> None:
    mock.set(gpu=[1, 2, 6], hang=1)
    await read_until(source, only_blind(1, 2, 6))
    mock.set(gpu=2, hang=0)
    await read_until(source, only_blind(1, 6))
    mock.set(hang=0)
    await read_until(source, all_fresh)


async def test_a_reader_that_alone_is_stuck_is_replaced(mock: MockNvml, source: NvmlSource) -> None:
    stuck = source.reader_pid
    assert stuck is not None
    mock.set(gpu=4, hang=1, hang_pid=stuck)
    assert only_blind(4)(await source.read())
    await read_until(source, all_fresh)
    assert source.reader_pid != stuck
    await read_until(source, lambda _: stuck not in reader_pids(mock.path))


async def test_cards_that_only_wait_for_a_lock_of_the_one_that_hangs_are_read_again(
    mock: MockNvml, source: NvmlSource
) -> None:
    """A fresh process has a fresh lock; only the card that is to blame stays blind."""
    mock.shared_lock = True
    mock.set(gpu=1, hang=1)
    await read_until(source, only_blind(1))
    mock.set(gpu=1, hang=0)
    await read_until(source, all_fresh)


async def test_a_card_that_hangs_from_the_start_does_not_hide_the_others(mock: MockNvml) -> None:
    mock.set(gpu=2, hang=1)
    source = NvmlSource(environment=os.environ | mock.environment())
    await source.start()
    try:
        readings = await read_until(source, only_blind(2))
        assert readings.gpus[2].uuid == "unidentified-2"
        mock.set(gpu=2, hang=0)
        readings = await read_until(source, all_fresh)
        assert [gpu.uuid for gpu in readings.gpus] == [mock.uuid(index) for index in range(8)]
    finally:
        await source.stop()


async def test_stop_does_not_wait_for_the_driver(mock: MockNvml, source: NvmlSource) -> None:
    mock.set(hang=1)
    await read_until(source, lambda readings: set(kinds(readings)) == {"blind"})
    assert reader_pids(mock.path)
    async with asyncio.timeout(PATIENCE_S):
        await source.stop()
    assert reader_pids(mock.path) == set()
    readings = await source.read()
    assert readings.backend.state == "stopped"
    assert set(kinds(readings)) == {"blind"}


async def test_stop_while_the_driver_initialises(mock: MockNvml) -> None:
    mock.hang_init = True
    mock.write()
    source = NvmlSource(environment=os.environ | mock.environment())
    await source.start()
    readings = await source.read()
    assert (readings.backend.state, readings.backend.reason) == ("unavailable", "starting")
    async with asyncio.timeout(PATIENCE_S):
        await source.stop()
    assert reader_pids(mock.path) == set()


async def test_a_quarantine_and_its_end_are_logged_once(
    mock: MockNvml, source: NvmlSource, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "supervisor.sampling.nvml")
    mock.set(gpu=4, hang=1)
    for _ in range(5):
        await source.read()
    mock.set(gpu=4, hang=0)
    await read_until(source, all_fresh)
    assert [record.getMessage() for record in caplog.records] == [
        f"gpu4 ({mock.uuid(4)}) is blind: no answer within 1 s",
        f"gpu4 ({mock.uuid(4)}) answers again",
    ]


async def test_readers_end_with_the_supervisor_even_when_they_hang(mock: MockNvml) -> None:
    program = (
        "import asyncio\n"
        "from supervisor.sampling.nvml.source import NvmlSource\n"
        "async def main():\n"
        "    source = NvmlSource()\n"
        "    await source.start()\n"
        "    while True:\n"
        "        readings = await source.read()\n"
        "        print(readings.gpus[0].reading, flush=True)\n"
        "        await asyncio.sleep(0.05)\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program), env=os.environ | mock.environment(), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE_S):
            while await process.stdout.readline() != b"fresh\n":
                pass
            mock.set(gpu=0, hang=1)
            while await process.stdout.readline() != b"blind\n":
                pass
    finally:
        descriptors = [os.pidfd_open(pid) for pid in reader_pids(mock.path)]
        process.kill()
        await process.wait()
    assert descriptors
    for descriptor in descriptors:
        ended, _, _ = await asyncio.to_thread(select.select, [descriptor], [], [], PATIENCE_S)
        os.close(descriptor)
        assert ended, "a reader outlived its supervisor"
