"""Real servers on loopback that answer as a test says, and the sources that ask them."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from supervisor.configuration.counters import CounterSection
from supervisor.sampling.counters.client import Client
from supervisor.sampling.counters.page import PageReader
from supervisor.sampling.counters.source import Told, Untold

PATIENCE_S = 20.0
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """Answers every request with `answer`, and keeps what was asked."""

    def __init__(self) -> None:
        self.asked: list[web.BaseRequest] = []
        self.bodies: list[bytes] = []
        self.url = ""
        self.answer: Callable[[], web.StreamResponse] = web.Response

    def says(self, body: str | bytes, *, status: int = 200, **headers: str) -> None:
        content = body if isinstance(body, bytes) else body.encode()
        self.answer = lambda: web.Response(
            body=content, status=status, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append(request)
        self.bodies.append(await request.read())
        return self.answer()


@asynccontextmanager
async def serving(context: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """A server that speaks HTTP, over TLS with a `context`."""
    server = Server()
    runner = web.ServerRunner(web.Server(server._handle))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    (address,) = runner.addresses
    server.url = f"http://127.0.0.1:{address[1]}"
    try:
        yield server
    finally:
        await runner.cleanup()


@asynccontextmanager
async def talking(talk: Talk) -> AsyncIterator[str]:
    """A server that says on each connection whatever `talk` writes; yields its address."""
    tasks: set[asyncio.Task[Any]] = set()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await talk(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(converse, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def json_section(url: str, *, counts: dict[str, str] | None = None, **more: Any) -> CounterSection:
    """A JSON source of one count, `done` at `done`, where nothing else is said."""
    return CounterSection(kind="json", url=url, counts={"done": "done"} if counts is None else counts, **more)


async def told(section: CounterSection) -> Told:
    """What a source tells when it is asked once."""
    reader = PageReader(section, Client())
    await reader.open()
    try:
        return await reader.read()
    finally:
        await reader.close()


async def untold(section: CounterSection) -> str:
    """The sentence of a source that tells nothing, without its name."""
    try:
        answer = await told(section)
    except Untold as error:
        return str(error).removeprefix(f"{section.kind} {section.url}: ")
    raise AssertionError(f"it told {answer}")


async def until(condition: Callable[[], object]) -> None:
    """Come back once it holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)
