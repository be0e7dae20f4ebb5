"""`flyball status`: known, stale and unknown are told apart."""

import json
import os
import socket
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
import redis

from schemas.status import HandlerStatus
from supervisor.bus.keys import status_key
from supervisor.identity import own_identity
from supervisor.runtime.lock import StateLock
from tests.busservers import BusServer, start_bus_server
from tests.cli.conftest import HOST, Flyball, Supervisor, a_status
from tests.tools import require_tool

REQUIRED = {
    "schema_version", "host", "time", "bus", "api", "lease", "gpus", "gpu_backend", "host_memory", "targets",
    "workloads", "handlers",
}  # fmt: skip


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


def test_a_report_is_shown_to_people(flyball: Flyball, supervisor: Supervisor) -> None:
    supervisor.report(a_status(problems=("the disk is full",)))
    shown = flyball.run("status")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "\x1b" not in shown.stdout
    lines = shown.stdout.splitlines()
    assert lines[0].startswith("box · reported ")
    assert "gpu0    THROTTLED  paused  88 °C  81%     alice paused it [alice@box until 2026-11-21T12:10:00Z]" in lines
    assert "host    OPTIMAL    100%    -      25%" in lines
    assert "! the disk is full" in lines


def test_the_document_has_every_promised_key_and_what_we_do_not_know(flyball: Flyball, supervisor: Supervisor) -> None:
    document = json.loads(msgspec.json.encode(a_status())) | {"from_the_future": [1]}
    supervisor.client.set(status_key(HOST), json.dumps(document))
    shown = flyball.json("status")
    assert shown.keys() >= REQUIRED
    assert (shown["state"], shown["source"], shown["schema_version"]) == ("known", "bus", 1)
    assert {key: shown[key] for key in document} == document


def test_no_key_vanishes_where_all_is_well(flyball: Flyball, supervisor: Supervisor) -> None:
    """What a program asks for is there at its default, too."""
    supervisor.report(a_status(handlers=(HandlerStatus(name="throttle", state="running"),)))
    shown = flyball.json("status")
    assert shown["gpu_backend"] == {"state": "ok", "reason": "", "hint": "", "xid_sources": []}
    assert [gpu["reading"] for gpu in shown["gpus"]] == ["fresh", "blind"]
    assert "power_watts" not in shown["gpus"][0]
    assert (shown["bus"]["state"], shown["bus"]["spooled"], shown["bus"]["away_s"]) == ("up", 0, None)
    (handler,) = shown["handlers"]
    assert (handler["lag"], handler["handled"], handler["failed"], handler["last_error"]) == (None, 0, 0, "")
    assert shown["targets"][1]["override"] is None
    (workload,) = shown["workloads"]
    assert (workload["declared"], workload["applied"], workload["counts"]) == (False, {}, {})


def test_simulated_cards_are_marked(flyball: Flyball, supervisor: Supervisor) -> None:
    supervisor.report(a_status(simulated=True))
    assert "SIMULATED" in flyball.run("status").stdout.splitlines()[0]


def test_no_report_is_unknown_and_never_green(flyball: Flyball) -> None:
    shown = flyball.run("status")
    assert shown.returncode == 3
    assert "box: unknown · no supervisor has reported for this host" in shown.stdout
    document = flyball.json("status")
    assert (document["schema_version"], document["state"], document["host"]) == (1, "unknown", HOST)
    assert document.keys() >= REQUIRED
    assert (document["bus"]["url"], document["api"]["url"], document["lease"]["epoch"]) == (None, None, None)
    assert document["gpu_backend"] == {"state": None, "reason": None, "hint": None, "xid_sources": []}
    assert (document["gpus"], document["targets"], document["workloads"], document["handlers"]) == ([], [], [], [])
    assert (document["host_memory"], document["simulated"]) == (None, None)


def test_without_a_bus_and_a_state_directory_it_is_unknown(alone: Flyball) -> None:
    shown = alone.run("status")
    assert (shown.returncode, shown.stderr) == (3, "")
    assert "nothing answers on the bus" in shown.stdout
    assert "flyball run" in shown.stdout


def test_a_report_that_cannot_be_read_is_unknown(flyball: Flyball, supervisor: Supervisor) -> None:
    for broken in (b"{", b"[]", b'{"host": "box"}', b"\xff"):
        supervisor.client.set(status_key(HOST), broken)
        shown = flyball.run("status")
        assert (shown.returncode, shown.stderr) == (3, "")
        assert "cannot be read" in shown.stdout


def test_while_the_bus_is_away_the_file_tells(flyball: Flyball, bus: BusServer) -> None:
    (bus.directory / "status.json").write_bytes(msgspec.json.encode(a_status()))
    bus.kill()
    shown = flyball.run("status")
    assert shown.returncode == 0
    assert "is away: nothing answers on the bus" in shown.stdout
    document = flyball.json("status")
    assert (document["state"], document["source"]) == ("known", "file")
    assert document["age_s"] >= 0
    assert "nothing answers" in document["trouble"]


def test_an_old_file_is_stale(flyball: Flyball, bus: BusServer) -> None:
    time = ago(60)
    (bus.directory / "status.json").write_bytes(msgspec.json.encode(a_status(time=time)))
    shown = flyball.run("status")
    assert shown.returncode == 3
    assert f"no supervisor has reported for this host since {time}" in shown.stdout
    assert "STALE" in shown.stdout
    document = flyball.json("status")
    assert (document["state"], document["source"]) == ("stale", "file")
    assert document["age_s"] >= 60


def test_the_file_of_a_supervisor_that_ended_is_stale_at_once(flyball: Flyball, bus: BusServer) -> None:
    """However young it is: the lock is empty after a clean stop, and names a dead process after a kill."""
    (bus.directory / "status.json").write_bytes(msgspec.json.encode(a_status()))
    lock = StateLock(bus.directory, own_identity(bus.directory, HOST))
    with lock:
        assert flyball.json("status")["state"] == "known"
        held = lock.path.read_bytes()
    assert flyball.json("status")["state"] == "stale"
    with subprocess.Popen(["sleep", "0"]) as ended:
        ended.wait()
    lock.path.write_bytes(held.replace(f'"pid":{os.getpid()},'.encode(), f'"pid":{ended.pid},'.encode()))
    assert flyball.run("status").returncode == 3


def test_the_file_of_another_host_is_not_ours(flyball: Flyball, bus: BusServer) -> None:
    (bus.directory / "status.json").write_bytes(msgspec.json.encode(a_status(host="elsewhere")))
    assert "called elsewhere" in flyball.run("status").stdout
    assert flyball.json("status")["state"] == "unknown"


@pytest.mark.parametrize("kind", ["debian", "embedded"])
def test_a_password_is_needed_wrong_or_right(alone: Flyball, kind: str, tmp_path: Path) -> None:
    with start_bus_server(kind, ["--requirepass", "hunter2"]) as server:
        for url, words in ((server.url, "NOAUTH"), (f"unix://:wrong-one@{server.path}", "WRONGPASS")):
            shown = alone.run("status", "--set", f"bus.url={url}")
            assert (shown.returncode, shown.stdout) == (2, "")
            assert words in shown.stderr
            assert "bus.password_file" in shown.stderr
            assert f"try: redis-cli -s {server.path} --askpass PING\n" in shown.stderr
            assert "wrong-one" not in shown.stderr
            assert "Traceback" not in shown.stderr
        assert alone.run("status", "--set", f"bus.url=unix://:hunter2@{server.path}").returncode == 3
        secret = tmp_path / "secret"
        secret.write_text("hunter2\n")
        shown = alone.run("status", FLYBALL_BUS__URL=server.url, FLYBALL_BUS__PASSWORD_FILE=str(secret))
        assert (shown.returncode, shown.stderr) == (3, "")


def test_a_password_file_that_is_missing_is_named(flyball: Flyball) -> None:
    shown = flyball.run("status", "--set", "bus.password_file=/nowhere/secret")
    assert shown.returncode == 2
    assert "bus.password_file: /nowhere/secret cannot be read: No such file or directory" in shown.stderr


@pytest.fixture
def free_port() -> int:
    """A TCP port that nobody listened at just now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def test_another_database_of_a_server_on_tcp(alone: Flyball, free_port: int) -> None:
    with (
        start_bus_server("debian", ["--port", str(free_port)]) as server,
        redis.Redis(unix_socket_path=str(server.path), db=3) as third,
    ):
        third.set(status_key(HOST), msgspec.json.encode(a_status()))
        assert alone.run("status", "--set", f"bus.url=redis://127.0.0.1:{free_port}/3").returncode == 0
        assert alone.run("status", "--set", f"bus.url=unix://{server.path}?db=3").returncode == 0
        assert alone.run("status", "--set", f"bus.url=redis://127.0.0.1:{free_port}").returncode == 3
    shown = alone.run("events", "--set", f"bus.url=redis://127.0.0.1:{free_port}")
    assert (shown.returncode, "Connection refused" in shown.stderr) == (1, True)


def test_an_encrypted_bus_is_believed_only_with_its_certificate(alone: Flyball, free_port: int, tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [require_tool("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    options = ["--tls-port", str(free_port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key),
               "--tls-ca-cert-file", str(certificate), "--tls-auth-clients", "no"]  # fmt: skip
    url = f"rediss://127.0.0.1:{free_port}"
    with start_bus_server("debian", options):
        for query, words in (
            (f"?ssl_ca_certs={certificate}", "no supervisor has reported"),
            ("?ssl_cert_reqs=none", "no supervisor has reported"),
            ("", "certificate verify failed"),
        ):
            shown = alone.run("status", "--set", f"bus.url={url}{query}")
            assert (shown.returncode, shown.stderr) == (3, "")
            assert words in shown.stdout


def test_a_bus_that_hangs_is_away_after_its_timeout(flyball: Flyball, bus: BusServer) -> None:
    bus.pause()
    shown = flyball.run("status", "--set", "bus.timeout_s=0.2")
    assert shown.returncode == 3
    assert "did not answer within 0.2 s" in shown.stdout
