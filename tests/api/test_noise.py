"""Bytes that no client sends: in paths, queries and headers of requests that are otherwise right."""

import json
import random
import socket
from collections import Counter
from typing import Final
from urllib.parse import urlsplit

from tests.api.client import Client
from tests.daemon import Daemon

REQUESTS: Final = 1_500
BYTES: Final = b"%/?&=;\xff\xed\xa0\x80\xc3\xa9\x00\x7f abcdef0123456789\"'<>\\{}[]:,.-_~\t"
#: `@` is where the noise goes, `#` what every request of a client of ours has.
SHAPES: Final = (
    b"GET /@ HTTP/1.1\r\n#\r\n",
    b"GET /api/gpu/status?@ HTTP/1.1\r\n#\r\n",
    b"GET /api/gpu/status HTTP/1.1\r\n#Expect: @\r\n\r\n",
    b"GET /api/events?@ HTTP/1.1\r\n#Last-Event-ID: x@\r\n\r\n",
    b"POST /api/targets/@/pause HTTP/1.1\r\n#\r\n",
    b"PUT /api/gpu/config HTTP/1.1\r\n#If-Match: x@\r\nContent-Type: application/json\r\nContent-Length: 18\r\n\r\n"
    b'{"temp_normal":70}',
    b"POST /api/targets/gpu0/pause HTTP/1.1\r\n#Content-Type: x@\r\nContent-Encoding: @\r\nContent-Length: 2\r\n\r\n{}",
    b"POST /api/targets/gpu0/pause HTTP/1.1\r\nHost: localhost\r\nAuthorization: @\r\nConnection: close\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: @\r\nOrigin: @\r\nSec-Fetch-Site: @\r\nConnection: close\r\n\r\n",
)  # fmt: skip


def noise(chance: random.Random) -> bytes:
    return bytes(chance.choice(BYTES) for _ in range(chance.randint(0, 24)))


def test_noise_is_refused_with_a_problem(daemon: Daemon, api: Client) -> None:
    """Never a 5xx, never silence, and nothing in the log: not even what could not be put into JSON."""
    chance = random.Random(20_261_121)
    head = f"Host: localhost\r\nAuthorization: Bearer {api.token}\r\nConnection: close\r\n".encode()
    logged, answers = daemon.errors, Counter[int]()
    for number in range(REQUESTS):
        begin, *parts = SHAPES[number % len(SHAPES)].split(b"@")
        request = (begin + b"".join(noise(chance) + part for part in parts)).replace(b"#", head)
        answer = _asked(api, request)
        first, _, body = answer.partition(b"\r\n\r\n")
        assert first.startswith(b"HTTP/1."), (request, answer)
        status = int(first.split()[1])
        answers[status] += 1
        assert status < 500, (request, answer)
        if status >= 400:
            assert b"application/problem+json" in first, (request, answer)
            assert json.loads(body)["detail"], (request, answer)
    assert daemon.errors == logged
    assert {400, 401, 403, 404, 412, 415, 417, 422} <= answers.keys(), answers


def _asked(api: Client, request: bytes) -> bytes:
    """All that comes back until the server hangs up; of a stream that goes on, what comes first."""
    address = urlsplit(api.url)
    with socket.create_connection((address.hostname, address.port or 0), timeout=20) as connection:
        connection.sendall(request)
        received = b""
        while not received.startswith(b"HTTP/1.1 200") and (part := connection.recv(65_536)):
            received += part
    return received
