"""The HTTP API of `flyball run` over mock cards, asked at a fixed rate, beside an empty aiohttp handler.

Client and server are processes of their own, on cores of their own where there are two. The rounds of the daemon and of
the empty handler alternate. Then the same with 1,000 clients connected that listen to events, and what a reservation
costs beside a bare function call on the bus (`ledger`).
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final

from bench import ledger, report
from bench.report import Report, at_most, percentile
from bench.running import daemon
from supervisor.sampling.assemble import raise_descriptor_limit
from tests.mocknvml.build import build_library
from tests.mocknvml.control import MockNvml

#: Requests a second, and scrapes.
RATE: Final = 500
SCRAPES: Final = 20
GPUS: Final = 8
LISTENERS: Final = 1_000
STATUS: Final = "/api/gpu/status"
_ROOT: Final = Path(__file__).parents[1]
_WITHIN_S: Final = 30.0
_LOOK_EVERY_S: Final = 0.02

#: Seconds of every request, by round.
Rounds = list[list[float]]


@contextmanager
def served(directory: Path) -> Iterator[tuple[int, Path]]:
    """The port of a daemon with mock cards, and its state directory."""
    library = build_library(directory / "library")
    with MockNvml(directory / "nvml", library=library, gpus=GPUS) as mock:
        state = directory / "s"
        with daemon(state, mock.environment()):
            yield _port(state), state


@contextmanager
def empty() -> Iterator[int]:
    """The port of a server with a handler that does nothing."""
    command = [sys.executable, "-m", "bench.emptyserver"]
    with subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None, "it is a pipe"
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()


@contextmanager
def listeners(port: int, count: int) -> Iterator[None]:
    """Clients that ask for events and wait; comes back once each has begun to get its answer."""
    with ExitStack() as stack:
        for _ in range(count):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=_WITHIN_S))
            client.sendall(f"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
            if not client.recv(4096).startswith(b"HTTP/1.1 200 "):
                raise ConnectionError("/api/events refuses a listener")
        yield


def asked(port: int, path: str, seconds: float, core: int | None, rate: int = RATE) -> list[float]:
    """The seconds of each request of one round, from a process on `core`."""
    command = [sys.executable, "-m", "bench.openloop", str(port), path, str(rate), str(seconds)]
    if core is not None:
        command.append(str(core))
    done = subprocess.run(command, cwd=_ROOT, stdout=subprocess.PIPE, check=True)
    answer: list[float] = json.loads(done.stdout)
    return answer


def reservations(port: int, token: str, count: int) -> list[float]:
    """The seconds of a reservation made and given back, one after the other on one connection."""
    client = HTTPConnection("127.0.0.1", port, timeout=_WITHIN_S)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    took = []
    for turn in range(count):
        bodies = (
            ("allocate", {"allocation_id": f"bench{turn}", "size_mb": 64, "owner": "bench", "ttl_s": 60}),
            ("deallocate", {"allocation_id": f"bench{turn}"}),
        )
        begun_s = time.perf_counter()
        for path, body in bodies:
            client.request("POST", f"/api/gpu/memory/{path}", json.dumps(body), headers)
            with client.getresponse() as answer:
                said = answer.read()
                if answer.status >= 300:
                    raise RuntimeError(f"{path}: {answer.status} {said[:300]!r}")
        took.append(time.perf_counter() - begun_s)
    client.close()
    return took


def measure(
    directory: Path, *, rounds: int, seconds: float, count: int = LISTENERS, core: int | None = None
) -> dict[str, Rounds]:
    """`ours` and the `empty` handler, ours `before` and `beside` the listeners, and what is `scraped` or `reserved`.

    The client runs on `core`.
    """
    spent: dict[str, Rounds] = {name: [] for name in ("ours", "empty", "before", "beside", "scraped", "reserved")}
    with served(directory) as (port, state), empty() as floor:
        for _ in range(rounds):
            spent["empty"].append(asked(floor, "/", seconds, core))
            spent["ours"].append(asked(port, STATUS, seconds, core))
        for _ in range(max(2, rounds // 3)):
            spent["before"].append(asked(port, STATUS, seconds, core))
            with listeners(port, count):
                spent["beside"].append(asked(port, STATUS, seconds, core))
        spent["scraped"].append(asked(port, "/metrics", 2 * seconds, core, SCRAPES))
        token = (state / "token").read_text().strip()
        spent["reserved"].append(reservations(port, token, int(100 * seconds)))
    return spent


def add_rows(rows: Report, spent: Mapping[str, Rounds]) -> None:
    """The figures; each is the median over the rounds, so that one bad moment of the machine does not decide."""
    for figure, share in (("p50", 0.5), ("p99", 0.99)):
        of = {name: _over_rounds(each, share) for name, each in spent.items()}
        median = figure == "p50"
        rows.add(
            f"GET {STATUS}, {RATE} a second (floor: an empty aiohttp handler)", figure, "µs",
            ours=of["ours"], floor=of["empty"], goal=at_most(1.5 if median else 2, "floor"),
        )  # fmt: skip
        rows.add(
            f"the same beside {LISTENERS:,} who listen to events (floor: without them)", figure, "µs",
            ours=of["beside"], floor=of["before"], goal=at_most(1.2 if median else 1.5, "floor"),
        )  # fmt: skip
        rows.add(
            f"GET /metrics, {GPUS} cards", figure, "µs", ours=of["scraped"], goal=at_most(5_000) if median else None
        )
        rows.add("POST allocate + deallocate, one client", figure, "µs", ours=of["reserved"])


def _over_rounds(rounds: Sequence[Sequence[float]], share: float) -> float:
    """In microseconds."""
    return 1e6 * percentile([percentile(each, share) for each in rounds], 0.5)


def _port(state: Path) -> int:
    """Where the daemon of a state directory serves, once it has looked at its cards.

    :raises TimeoutError: it does not; what it said stands in `daemon.log`.
    """
    deadline_s = time.monotonic() + _WITHIN_S
    while time.monotonic() < deadline_s:
        try:
            status: Any = json.loads((state / "status.json").read_bytes())
        except (FileNotFoundError, ValueError):
            status = {}
        if status.get("gpus") and status["api"]["url"]:
            return int(status["api"]["url"].rpartition(":")[2])
        time.sleep(_LOOK_EVERY_S)
    raise TimeoutError(Path(state, "daemon.log").read_text(errors="replace"))


def client_apart() -> int | None:
    """Leave the last core to the client, for this process and what it starts from now on; None where there is one."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    *others, last = sorted(os.sched_getaffinity(0))
    if not others:
        return None
    os.sched_setaffinity(0, others)
    return last


def main() -> None:
    """Measure and print."""
    options = report.options("the HTTP API, beside an empty handler, and beside 1,000 who listen to events")
    rows = Report("api", options)
    raise_descriptor_limit()
    core = client_apart()
    with tempfile.TemporaryDirectory(prefix="fb-") as directory:
        spent = measure(
            Path(directory), rounds=3 if options.quick else 11, seconds=1 if options.quick else 2, core=core
        )
    add_rows(rows, spent)
    ledger.add_rows(rows, ledger.spent(quick=options.quick))
    rows.finish()


if __name__ == "__main__":
    main()
