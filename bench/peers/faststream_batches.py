"""FastStream's consumer of a stream: it decodes each event, and says something after every n-th, on uvloop.

python faststream_batches.py URL       for each line [count, every, payload]: events a second
"""

import asyncio
import json
import sys
import time
from typing import Any

import uvloop
from faststream.redis import RedisBroker, StreamSub

STREAM = "faststream"
BATCH = 100


async def main(url: str) -> None:
    """Answer until standard input ends."""
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        count, every, payload = json.loads(line)
        print(json.dumps(await consume(url, count, every, payload.encode())), flush=True)


async def consume(url: str, count: int, every: int, payload: bytes) -> float:
    """Fill the stream, then start the broker and see how long it takes."""
    broker: Any = RedisBroker(url, logger=None)
    left, begun, done = count, 0.0, asyncio.Event()

    async def handle(body: dict[str, Any]) -> None:
        nonlocal left, begun
        begun = begun or time.monotonic()
        left -= 1
        if left % every == 0:
            await broker.publish(b"y" * 250, "faststream:throttle")
        if not left:
            done.set()

    subscriber = StreamSub(STREAM, group="group", consumer="consumer", max_records=BATCH)
    broker.subscriber(stream=subscriber)(handle)
    async with broker:
        for _ in range(count):
            await broker.publish(payload, stream=STREAM)
        await broker._connection.xgroup_create(STREAM, "group", id="0")
        await broker.start()
        await done.wait()
        spent = time.monotonic() - begun
        await broker._connection.delete(STREAM)
    return count / spent


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
