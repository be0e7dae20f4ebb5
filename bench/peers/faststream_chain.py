"""FastStream's chain: publish to a stream → subscriber → publish to a channel → subscriber, on uvloop.

python faststream_chain.py URL BYTES       for each line with a number: so many samples, their seconds
"""

import asyncio
import json
import sys
import time
from typing import Any

import uvloop
from faststream.redis import RedisBroker, StreamSub


async def main(url: str, size: int) -> None:
    """Answer until standard input ends."""
    broker: Any = RedisBroker(url, logger=None)
    payload, directive = b"x" * size, b"y" * 250
    heard: asyncio.Queue[float] = asyncio.Queue()

    async def decide(body: bytes) -> bytes:
        return directive

    async def obey(body: bytes) -> None:
        heard.put_nowait(time.monotonic())

    decisions = broker.publisher("faststream:throttle")(decide)
    broker.subscriber(stream=StreamSub("faststream", group="group", consumer="consumer", max_records=100))(decisions)
    broker.subscriber("faststream:throttle")(obey)

    async with broker:
        await broker.start()
        await asyncio.sleep(0.5)  # nothing tells that its readers have begun
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            spent = []
            for _ in range(json.loads(line)):
                begun = time.monotonic()
                await broker.publish(payload, stream="faststream")
                spent.append(await heard.get() - begun)
            print(json.dumps(spent), flush=True)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2])))
