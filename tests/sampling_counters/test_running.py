"""Counters through the whole daemon: a program that tells by JSON-RPC, dies, and comes back."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from schemas.sample import Counted, Sample
from tests.daemon import Daemon, short_directory

INDEXER: Final = Path(__file__).parent.parent / "programs" / "indexer.py"
CONFIG = """
sampling.interval_s = 0.3

[[workload]]
name = "search"
match.pidfile = "{place}/search.pid"
[[workload.counters]]
kind = "json"
url = "http://me:hunter2@127.0.0.1:{port}/rpc"
body = '{{"jsonrpc":"2.0","id":1,"method":"getIndexStatus","params":{{}}}}'
counts = {{"requests.completed" = "result.completedCount"}}
gauges = {{"requests.pending" = "result.pendingCount"}}
every_s = 0.2
[[workload.counters]]
kind = "lines"
file = "{place}/worker.jsonl"
"""


@pytest.fixture
def state() -> Iterator[Path]:
    """A place for a state directory."""
    with short_directory() as directory:
        yield directory


@contextmanager
def indexing(port: int, place: Path, completed: int = 0) -> Iterator[int]:
    """The program, from when it listens until it is killed; yields its pid."""
    words = [sys.executable, str(INDEXER), str(port), str(place / "search.pid"), str(completed)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as program:
        try:
            assert program.stdout is not None
            assert program.stdout.readline().startswith(b"listens")
            yield program.pid
        finally:
            program.kill()


def counted(sample: Sample, kind: str) -> Counted:
    return next(one for one in sample.counted if one.source.startswith(kind))


def completed(sample: Sample) -> float:
    return next((one.counts.get("requests.completed", 0.0) for one in sample.counted), 0.0)


@pytest.mark.timeout(180)  # figures must grow too old, which takes 10 s
def test_a_program_is_heard_lost_and_heard_again(state: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = tmp_path / "worker.jsonl"
    with Daemon(state, CONFIG.format(place=tmp_path, port=port)) as daemon:
        at, _ = daemon.sample(lambda sample: "refused" in counted(sample, "json").reason)
        at, _ = daemon.sample(lambda sample: "No such file or directory" in counted(sample, "lines").reason, after=at)
        with indexing(port, tmp_path, 100) as pid:
            at, sample = daemon.sample(lambda sample: completed(sample) > 103, after=at)
            one = counted(sample, "json")
            assert (one.workload, one.gauges, one.reason) == ("search", {"requests.pending": 5.0}, "")
            assert one.source == f"json http://***@127.0.0.1:{port}/rpc"
            assert one.age_s is not None
            assert one.age_s < 2
            at, sample = daemon.sample(
                lambda sample: any(one.pid == pid and one.workload == "search" for one in sample.processes), after=at
            )
            log.write_bytes(b'{"type": "performance", "method_calls": {"add_sections": 7}}\n')
            at, sample = daemon.sample(lambda sample: counted(sample, "lines").counts, after=at)
            assert counted(sample, "lines").counts == {"add_sections": 7.0}
            assert counted(sample, "lines").reason == ""
        at, sample = daemon.sample(lambda sample: counted(sample, "json").reason, after=at)
        last = completed(sample)
        assert last > 103  # not yet too old
        at, sample = daemon.sample(lambda sample: not counted(sample, "json").counts, after=at)
        one = counted(sample, "json")
        assert one.age_s is not None
        assert one.age_s > 10
        assert "connection refused; is the program running, and does it listen there?" in one.reason
        with indexing(port, tmp_path):
            at, sample = daemon.sample(lambda sample: counted(sample, "json").counts, after=at)
            assert 0 < completed(sample) < 50  # the program's own count, begun anew
            daemon.sample(lambda sample: not counted(sample, "json").reason, after=at)
            assert daemon.errors.count("WARNING counters: json") == 2  # before the program came, and when it was gone
        assert daemon.errors.count("can be read again") == 3  # the program twice, the log once
        assert "hunter2" not in daemon.errors
