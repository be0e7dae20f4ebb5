"""XIDs in a reading that came too late: its figures are thrown away, these are not."""

import asyncio

from msgspec.structs import replace

from schemas.sample import Xid
from supervisor.sampling.guarded import GuardedGpus
from tests.sampling.doubles import FakeGpus, gpu

XIDS = (Xid(code=79, count=2, source="nvml"),)


async def test_they_come_with_the_next_full_reading_once() -> None:
    source = FakeGpus(lambda: (replace(gpu(0), xids=XIDS), gpu(1)))
    source.blocked = asyncio.Event()
    guarded = GuardedGpus(source, bound_s=0.01)
    guarded.begin()
    assert (await guarded.end()).gpus == ()
    source.blocked.set()
    await asyncio.sleep(0)  # the late reading ends
    source.respond = lambda: (gpu(0), replace(gpu(1), xids=XIDS))
    while True:
        guarded.begin({0, 1})
        if (readings := await guarded.end()).gpus:
            break
    assert [card.xids for card in readings.gpus] == [(), XIDS]
    guarded.begin()
    assert [card.xids for card in (await guarded.end()).gpus] == [XIDS, XIDS]
    guarded.begin()
    assert [card.xids for card in (await guarded.end()).gpus] == [(), XIDS]
    await guarded.stop()
