"""Counters from a status resource, a Prometheus page and a file of performance lines: they stand in rows, or are said
to be missing.
"""

import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TextIO

import pytest

from tests.cli.trace.conftest import Trace, until


class Server:
    """A program's own HTTP server: JSON-RPC at POST /rpc, and /metrics."""

    def __init__(self) -> None:
        """Serve on a free port."""
        self.completed = 0
        self.well = True
        self.authorization = ""
        self.asked: list[bytes] = []
        served = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                served.asked.append(self.rfile.read(int(self.headers["Content-Length"])))
                result = {"completedCount": served.completed, "processingCount": 2, "pendingCount": 9}
                self._answer(json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}), "application/json")

            def do_GET(self) -> None:
                served.authorization = self.headers["Authorization"]
                text = f'# TYPE added counter\nadded{{table="a"}} {served.completed}\nadded{{table="b"}} 5\ndepth 4.5\n'
                self._answer(text, "text/plain; version=0.0.4")

            def _answer(self, body: str, kind: str) -> None:
                self.send_response(200 if served.well else 503)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, format: str, *args: object) -> None:
                """Nobody reads it."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"


@pytest.fixture
def server() -> Iterator[Server]:
    """It serves until the test ends."""
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.http.shutdown()
    server.http.server_close()
    thread.join()


def test_a_status_resource_that_fails_and_comes_back(
    trace: Trace, server: Server, stranger: subprocess.Popen[str]
) -> None:
    """Its cells are empty meanwhile, one sentence says so, and the trace goes on."""
    server.completed = 1
    body = '{"jsonrpc":"2.0","id":1,"method":"getIndexStatus","params":{}}'
    words = [
        "--pid", str(stranger.pid), "--interval", "0.1", "--output", str(trace.file),
        "--status-url", f"{server.url}/rpc", "--status-body", body,
        "--count", "requests.completed=result.completedCount", "--gauge", "requests.processing=result.processingCount",
        "--gauge", "requests.pending=result.pendingCount",
    ]  # fmt: skip
    with trace.start(*words) as process:
        trace.wait_for(lambda rows: bool(rows) and rows[-1]["Requests(completed)"] == "1")
        server.well = False
        failed = trace.wait_for(lambda rows: rows[-1]["Requests(completed)"] == "")
        server.completed, server.well = 33, True
        rows = trace.wait_for(lambda rows: rows[-1]["Requests(completed)"] == "33")
        stranger.kill()
        _, stderr = process.communicate(timeout=10)
    assert server.asked[0] == body.encode()
    assert list(rows[0])[4:7] == ["Requests(completed)", "Requests(processing)", "Requests(pending)"]
    assert (rows[-1]["Requests(processing)"], rows[-1]["Requests(pending)"]) == ("2", "9")
    assert failed[-1]["Requests(pending)"] == ""
    assert all(row["Threads"] == "5" for row in rows)
    assert stderr.count("503") == 1, stderr
    assert stderr.count("tells again") == 1


def test_a_prometheus_page(trace: Trace, server: Server, stranger: subprocess.Popen[str]) -> None:
    """With a token; it stands neither on the command line nor in what is said."""
    server.completed = 7
    secret = trace.directory / "secret"
    secret.write_text("Bearer hunter2\n")
    secret.chmod(0o600)
    words = [
        "--pid", str(stranger.pid), "--interval", "0.1", "--output", str(trace.file),
        "--authorization-file", str(secret), "--metrics-url", f"{server.url}/metrics",
        "--count", 'add=added{table="a"}', "--gauge", "queue=depth",
    ]  # fmt: skip
    with trace.start(*words) as process:
        rows = trace.wait_for(lambda rows: bool(rows) and rows[-1]["MethodCalls(add)"] == "7")
        process.terminate()
        said = "".join(process.communicate(timeout=10))
    assert server.authorization == "Bearer hunter2"
    assert "hunter2" not in said
    assert rows[-1]["Gauge(queue)"] == "4.5"
    assert list(rows[0])[-1] == "Gauge(queue)"


def test_a_file_of_performance_lines_that_comes_later(trace: Trace, stranger: subprocess.Popen[str]) -> None:
    log = trace.directory / "performance.log"
    words = ["--pid", str(stranger.pid), "--interval", "0.1", "--output", str(trace.file), "--lines", str(log)]
    with trace.start(*words) as process:
        trace.wait_for(lambda rows: len(rows) >= 3)
        with log.open("a") as file:
            _append(file, 1)
            trace.wait_for(lambda rows: rows[-1].get("MethodCalls(add)") == "1")
            _append(file, 2)
            rows = trace.wait_for(lambda rows: rows[-1].get("MethodCalls(add)") == "2")
        process.terminate()
        process.communicate(timeout=10)
    assert rows[0]["MethodCalls(add)"] == ""


def _append(file: TextIO, calls: int) -> None:
    print(json.dumps({"type": "performance", "method_calls": {"add": calls}}), file=file, flush=True)


def test_a_status_resource_that_nobody_serves(trace: Trace, stranger: subprocess.Popen[str]) -> None:
    words = ["--status-url", "http://127.0.0.1:1/", "--count", "done=result.done"]
    with trace.start("--pid", str(stranger.pid), "--interval", "0.1", "--output", str(trace.file), *words) as process:
        assert process.stderr is not None
        stderr = process.stderr
        said = until(lambda: stderr.readline() or None)
        trace.wait_for(lambda rows: len(rows) >= 3)
        process.terminate()
        process.communicate(timeout=10)
    assert "127.0.0.1:1" in said
    assert {row["MethodCalls(done)"] for row in trace.rows()} == {""}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "neither --pid nor a command"),
        (["--pid", "1", "--", "true"], "both --pid and a command"),
        (["--interval", "10ms", "--pid", "1"], "'10ms' is outside of 50ms to 30d"),
        (["--interval", "soon", "--pid", "1"], "'soon' is not a length of time"),
        (["--duration", "nan", "--pid", "1"], "'nan' is not a length of time"),
        (["--pid", "1", "--count", "done=x"], "--count and --gauge need --status-url or --metrics-url"),
        (["--pid", "1", "--status-url", "http://x/"], "tells nothing: name what to read with --count"),
        (["--pid", "1", "--status-url", "ftp://x/", "--count", "a=b"], "begins with http:// or https://"),
        (["--pid", "1", "--status-url", "http://", "--count", "a=b"], "has no host, or no usable port"),
        (["--pid", "1", "--status-url", "http://x", "--count", "a,b=c"], "The source of counters cannot be used"),
        (["--pid", "1", "--status-url", "http://x", "--metrics-url", "http://y"], "exclude each other"),
        (["--pid", "1", "--authorization-file", "x"], "--authorization-file needs --status-url or --metrics-url"),
        (["--pid", "1", "--status-body", "{}"], "--status-body needs --status-url"),
        (["--pid", "1", "--count", "done"], "'done' is not NAME=PATH"),
        (["--pid", "1", "--output", "-", "--json"], "would both use standard output"),
        (["--pid", "0"], "0 is not in the range"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_starts(trace: Trace, words: list[str], said: str) -> None:
    shown = trace.run(*words)
    assert shown.returncode == 2
    assert said in shown.stderr
    assert list(trace.directory.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "exit_code", "said"),
    [
        (["--", "no-such-program"], 127, "no-such-program cannot be started: there is no such program"),
        (["--", "/etc/passwd"], 126, "/etc/passwd cannot be started: Permission denied"),
        (["--pid", "999999999"], 1, "there is no process 999999999"),
        (
            ["--pid", "1", "--output", "/nowhere/t.csv"],
            1,
            "/nowhere/t.csv cannot be written: No such file or directory",
        ),
    ],
)
def test_what_cannot_be_traced_is_a_message(trace: Trace, words: list[str], exit_code: int, said: str) -> None:
    shown = trace.run(*words)
    assert (shown.returncode, shown.stdout) == (exit_code, "")
    assert said in shown.stderr
    assert "Traceback" not in shown.stderr
