"""`flyball run` as a process of its own, for benchmarks that look at it from outside."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import redis

from supervisor.bus.keys import samples_key

FLYBALL: Final = Path(sys.executable).with_name("flyball")
_WITHIN_S: Final = 30.0
_LOOK_EVERY_S: Final = 0.01


def environment(state: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a daemon needs to live in the directory `state` alone, on a port of its own."""
    return {**os.environ, "FLYBALL_STATE_DIR": str(state), "FLYBALL_API__PORT": "0", **(more or {})}


@contextmanager
def daemon(state: Path, more: Mapping[str, str] | None = None, command: Sequence[Path] = (FLYBALL,)) -> Iterator[int]:
    """The pid of a daemon with `more` in its environment, from its start; it is ended in good order.

    What it prints goes to `daemon.log` in `state`.
    """
    state.mkdir(mode=0o700, exist_ok=True)
    with Path(state, "daemon.log").open("ab") as log:
        process = subprocess.Popen(
            [*command, "run"], env=environment(state, more), stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def first_sample_s(state: Path, since_s: float) -> float:
    """When, in Unix time by the server's word, the first sample after `since_s` arrived; waits for it.

    :raises TimeoutError: it does not come; what the daemon said stands in `daemon.log`.
    """
    deadline_s = time.monotonic() + _WITHIN_S
    while time.monotonic() < deadline_s:
        if Path(state, "bus.sock").exists():
            client: Any = redis.Redis(unix_socket_path=str(state / "bus.sock"))
            try:
                if entries := client.xrange(samples_key(), f"{int(since_s * 1000)}", "+", count=1):
                    return int(entries[0][0].partition(b"-")[0]) / 1000
            except redis.RedisError:
                pass  # it starts, or loads what it had
            finally:
                client.close()
        time.sleep(_LOOK_EVERY_S)
    raise TimeoutError(Path(state, "daemon.log").read_text(errors="replace"))
