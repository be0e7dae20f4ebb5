"""The floor of the API's bench: aiohttp with a handler that does nothing, on the loop that the daemon runs on.

    python -m bench.emptyserver

It prints its port, and serves until it is ended.
"""

import asyncio

import uvloop
from aiohttp import web


async def main() -> None:
    """Serve."""

    async def nothing(request: web.Request) -> web.Response:
        return web.Response()

    application = web.Application()
    application.add_routes([web.get("/", nothing)])
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.Loop) as started:
        started.run(main())
