"""The servers that other tests stand on keep their word."""

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeout

from tests.busservers import BusServer


def _client(server: BusServer) -> Redis:
    return Redis.from_url(server.url, socket_timeout=1.0, retry=Retry(NoBackoff(), 0), decode_responses=True)


async def test_data_outlives_a_kill(bus_server: BusServer) -> None:
    async with _client(bus_server) as client:
        await client.xadd("stream", {"n": 1})
    bus_server.restart()
    async with _client(bus_server) as client:
        assert await client.xlen("stream") == 1


async def test_a_paused_server_stays_connected_and_silent(bus_server: BusServer) -> None:
    async with _client(bus_server) as client:
        await client.ping()
        bus_server.pause()
        with pytest.raises(RedisTimeout):
            await client.ping()
        bus_server.resume()
        assert await client.ping()


async def test_a_killed_server_is_gone(bus_server: BusServer) -> None:
    async with _client(bus_server) as client:
        bus_server.kill()
        with pytest.raises(RedisConnectionError):
            await client.ping()
