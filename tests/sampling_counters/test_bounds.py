"""What comes over HTTP is bounded in size and time, and goes nowhere but where the configuration says."""

import asyncio
import gzip
import socket
import ssl
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from supervisor.sampling.counters.client import LARGEST_BODY, Client
from supervisor.sampling.counters.page import PageReader
from tests.sampling_counters.serving import Server, json_section, serving, talking, told, untold
from tests.tools import require_tool

MIB = 1 << 20


async def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}/"
    assert await untold(json_section(url)) == "connection refused; is the program running, and does it listen there?"


async def test_nobody_listens_at_any_address_of_a_name() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://localhost:{free.getsockname()[1]}/"
    assert await untold(json_section(url)) == "connection refused; is the program running, and does it listen there?"


async def test_tls_where_there_is_none(server: Server) -> None:
    said = await untold(json_section(server.url.replace("http:", "https:")))
    assert said == "what answers there does not speak TLS; check https and the port in url"


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for localhost that signs itself; its key lies beside it."""
    certificate = tmp_path / "certificate.pem"
    subprocess.run(
        [require_tool("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
         "-keyout", tmp_path / "key.pem", "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate


async def test_a_certificate_must_be_trusted(certificate: Path) -> None:
    """One that nobody vouches for is refused, and one that `SSL_CERT_FILE` names is not."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    async with serving(context) as server:
        server.says('{"done": 3}')
        section = json_section(f"https://localhost:{server.url.rpartition(':')[2]}/")
        said = await untold(section)
        assert said == (
            "its certificate is not trusted: self-signed certificate; SSL_CERT_FILE may name who vouches for it"
        )
        asked = "import asyncio; from tests.sampling_counters import serving as s; "
        asked += f"print(asyncio.run(s.told(s.json_section({section.url!r}))).tally.counts)"
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", asked, env={"SSL_CERT_FILE": str(certificate)}, stdout=subprocess.PIPE
        )
        assert (await child.communicate())[0] == b"{'done': 3.0}\n"


async def test_a_name_that_nobody_has() -> None:
    assert await untold(json_section("http://flyball.invalid/")) == "its host name is unknown; check url"


async def test_an_address_that_is_none() -> None:
    assert "check url" in await untold(json_section("http://a..b/"))


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (500, "it answered 500 Internal Server Error; see the program's own log"),
        (503, "it answered 503 Service Unavailable; see the program's own log"),
        (404, "it answered 404 Not Found; check the path in url"),
        (401, "it answered 401 Unauthorized; see authorization_file"),
        (405, "it answered 405 Method Not Allowed; choose another method"),
        (599, "it answered 599; see the program's own log"),
    ],
)
async def test_a_refusal_is_told(server: Server, status: int, why: str) -> None:
    server.says('{"done": 3}', status=status)
    assert await untold(json_section(server.url)) == why


async def test_no_redirect_is_followed(server: Server) -> None:
    async with serving() as elsewhere:
        elsewhere.says('{"done": 3}')
        server.says("", status=302, Location=f"{elsewhere.url}/x?token=hunter2")
        said = await untold(json_section(server.url))
        assert said == (
            f"it answered 302 Found, a way to '{elsewhere.url}/x?token=***' that is not followed; let url name the "
            "place itself"
        )
        assert elsewhere.asked == []


async def test_no_proxy_of_the_environment_is_asked(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.says('{"done": 3}')
    async with serving() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        assert (await told(json_section(server.url))).tally.counts == {"done": 3.0}
        assert proxy.asked == []


async def test_no_netrc_gives_its_password_away(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password hunter2\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    server.says('{"done": 3}')
    await told(json_section(server.url))
    assert "Authorization" not in server.asked[0].headers


async def test_a_password_in_the_address_is_sent_and_never_told(server: Server) -> None:
    server.says("", status=500)
    section = json_section(server.url.replace("//", "//me:hunter2@") + "/x?api_key=hunter2")
    said = await untold(section)
    assert server.asked[0].headers["Authorization"].startswith("Basic ")
    host = server.url.removeprefix("http://")
    assert said == (
        f"json http://***@{host}/x?api_key=***: it answered 500 Internal Server Error; see the program's own log"
    )


async def test_no_cookie_is_kept(server: Server) -> None:
    server.says('{"done": 3}', Set_Cookie="session=1")
    reader = PageReader(json_section(server.url.replace("127.0.0.1", "localhost")), Client())
    await reader.open()
    await reader.read()
    await reader.read()
    await reader.close()
    assert ["Cookie" in request.headers for request in server.asked] == [False, False]


async def test_a_gigabyte_is_read_to_the_first_mebibyte() -> None:
    """Said in advance, it is not read at all; else the connection is closed once it is too much, and memory is flat."""
    sent = [0]

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        block = b"10000\r\n" + b" " * 65536 + b"\r\n"
        for _ in range(1 << 14):
            writer.write(block)
            await writer.drain()
            sent[0] += 65536

    async with talking(pour) as url:
        tracemalloc.start()
        try:
            said = await untold(json_section(url, timeout_s=30))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert said == "the answer is larger than 1 MiB; point url at a smaller resource"
    assert sent[0] < 32 * MIB  # what the socket's buffers took
    assert peak < 8 * MIB


async def test_a_length_that_is_too_large_is_not_waited_for() -> None:
    async def boast(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n{")
        assert await reader.read() == b""  # closed by the client

    async with talking(boast) as url:
        assert "larger than 1 MiB" in await untold(json_section(url, timeout_s=60))


async def test_a_mebibyte_is_read(server: Server) -> None:
    server.says('{"done": 3}'.ljust(LARGEST_BODY))
    assert (await told(json_section(server.url))).tally.counts == {"done": 3.0}
    server.says('{"done": 3}'.ljust(LARGEST_BODY + 1))
    assert "larger than 1 MiB" in await untold(json_section(server.url))


async def test_a_bomb_is_not_unpacked(server: Server) -> None:
    server.says(gzip.compress(b" " * (64 * MIB)), Content_Encoding="gzip")
    tracemalloc.start()
    try:
        said = await untold(json_section(server.url))
        assert tracemalloc.get_traced_memory()[1] < 4 * MIB
    finally:
        tracemalloc.stop()
    assert said == "the answer is compressed ('gzip') though that was not asked for; turn it off"
    assert server.asked[0].headers["Accept-Encoding"] == "identity"


async def test_headers_are_bounded() -> None:
    async def chatter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n")
        for index in range(1 << 20):
            writer.write(b"X-%d: %b\r\n" % (index, b"x" * 1000))
            await writer.drain()

    async with talking(chatter) as url:
        said = await untold(json_section(url, timeout_s=20))
    assert said in {
        "what answers there does not speak HTTP; check the port in url",
        "it closes the connection without an answer; see the program's own log",
    }


@pytest.mark.parametrize("begin", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"])
async def test_the_time_is_for_the_whole_answer(begin: bytes) -> None:
    """A byte now and then keeps many a client waiting for ever."""

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(begin)
        for byte in b"HTTP/1.1 200 OK\r\n" if not begin else b"{" + b" " * 999:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.05)

    async with talking(drip) as url:
        began = asyncio.get_running_loop().time()
        said = await untold(json_section(url, timeout_s=0.4))
        took = asyncio.get_running_loop().time() - began
    assert said == "no whole answer came within 0.4 s; raise timeout_s if it is only slow"
    assert 0.39 < took < 5


async def test_who_says_nothing_is_not_waited_for() -> None:
    async def stare(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with talking(stare) as url:
        assert "no whole answer came within 0.2 s" in await untold(json_section(url, timeout_s=0.2))


async def test_what_is_not_http_is_told() -> None:
    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"220 mail.example ESMTP\r\n")

    async with talking(nonsense) as url:
        assert await untold(json_section(url)) == "what answers there does not speak HTTP; check the port in url"


async def test_an_answer_that_breaks_off_is_told() -> None:
    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"done":')

    async with talking(break_off) as url:
        said = await untold(json_section(url))
    assert said == "it broke off in the middle of its answer; see the program's own log"


async def test_who_hangs_up_is_told() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    async with talking(hang_up) as url:
        said = await untold(json_section(url))
    assert said == "it closes the connection without an answer; see the program's own log"


@pytest.mark.parametrize("body", ["", '{"method": "getIndexStatus"}'])
async def test_a_kept_connection_that_the_server_closed_is_no_trouble(body: str) -> None:
    """Servers close idle connections whenever they like; a request that crosses that is asked again, also by POST."""
    connections = [0]
    closed = asyncio.Event()

    async def one_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections[0] += 1
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(len(body))
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{"done": 3}')
        if connections[0] == 1:
            await reader.readuntil(b"\r\n\r\n")  # the second request comes, and there is no answer
        closed.set()

    async with talking(one_answer) as url:
        reader = PageReader(json_section(url, body=body), Client())
        await reader.open()
        first, second = await reader.read(), await reader.read()
        await reader.close()
    assert first == second
    assert connections[0] == 2
    assert closed.is_set()


async def test_a_connection_is_kept(server: Server) -> None:
    server.says('{"done": 3}')
    reader = PageReader(json_section(server.url), Client())
    await reader.open()
    await reader.read()
    await reader.read()
    peers = {request.transport.get_extra_info("peername") for request in server.asked if request.transport}
    await reader.close()
    assert len(server.asked) == 2
    assert len(peers) == 1


async def test_the_session_is_closed_by_its_last_user(server: Server) -> None:
    server.says('{"done": 3}')
    client = Client()
    first, second = PageReader(json_section(server.url), client), PageReader(json_section(server.url), client)
    await first.open()
    await second.open()
    await first.close()
    assert (await second.read()).tally.counts == {"done": 3.0}
    await second.close()
    assert client.closed
