"""rediss:// to a server with a certificate of our own making."""

import asyncio
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from supervisor.bus.connection import Connection
from supervisor.errors import BusRefused
from tests.busservers import start_bus_server
from tests.tools import require_tool


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        return int(taken.getsockname()[1])


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost that signs itself; its key lies beside it."""
    openssl, directory = require_tool("openssl"), tmp_path_factory.mktemp("tls")
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-keyout", directory / "key.pem", "-out", directory / "certificate.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    return directory / "certificate.pem"


@pytest.fixture(scope="module")
def port(certificate: Path) -> Iterator[int]:
    """The port of a server that speaks TLS there."""
    port = free_port()
    options = [
        "--tls-port", str(port), "--bind", "127.0.0.1", "--tls-auth-clients", "no", "--tls-cert-file", str(certificate),
        "--tls-key-file", str(certificate.with_name("key.pem")), "--tls-ca-cert-file", str(certificate),
    ]  # fmt: skip
    with start_bus_server("debian", options):
        yield port


async def test_an_encrypted_connection_serves_as_any_other(port: int, certificate: Path) -> None:
    connection = Connection(f"rediss://localhost:{port}?ssl_ca_certs={certificate}", timeout_s=5)
    try:
        assert await connection.call("acquire", ["lease"], "{}", 1000, "", 0) == [1, b"1"]
    finally:
        await connection.close()


async def test_a_certificate_that_nobody_vouches_for_is_refused(port: int) -> None:
    connection = Connection(f"rediss://localhost:{port}", timeout_s=5)
    with pytest.raises(BusRefused, match=r"certificate of the bus .* is not trusted") as caught:
        await connection.open()
    assert "ssl_ca_certs" in caught.value.hint
    for _ in range(10):
        await asyncio.sleep(0)  # the transport of a failed handshake closes some rounds of the loop later
