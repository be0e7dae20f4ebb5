"""Every resource of the API asked with curl, then schemathesis for minutes over the daemon with a mock GPU.

`python tests/shows/api.py [EXAMPLES [SEED …]]` says what came back, and ends with 1 if anything was not as it must be.
"""

import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from tests.api import curls
from tests.api.client import Client
from tests.api.fuzz import fuzz
from tests.daemon import Daemon, short_directory
from tests.mocknvml.build import build_library
from tests.mocknvml.control import MockNvml

EXAMPLES: Final = 100
SEEDS: Final = (1, 2, 3)
_SHOWN: Final = 90


def curl_everything(daemon: Daemon) -> None:
    """The lines of docs/api.md; fails as an assertion does."""
    api = Client(daemon)
    for line in curls.lines():
        status, body = curls.run(line, api.url, daemon.environ)
        first = next((row for row in body.splitlines() if row), "")
        print(f"{line.command}\n  {status} {first[:_SHOWN]}{'…' if len(first) > _SHOWN else ''}")
        assert status in (200, 201), body


def fuzz_everything(daemon: Daemon, examples: int, seeds: Sequence[int]) -> None:
    """Run schemathesis with each seed; fails as an assertion does."""
    api = Client(daemon)
    for seed in seeds:
        began_s = time.monotonic()
        ran = fuzz(api.url, api.token, examples, seed=seed, within_s=3_600)
        said = next((row.strip() for row in ran.stdout.splitlines() if " generated, " in row), "nothing was tried")
        print(f"schemathesis, seed {seed}, {time.monotonic() - began_s:.0f} s: {said}")
        assert ran.returncode == 0, ran.stdout
        assert api.get("/livez").status == 200


def main(arguments: list[str]) -> int:
    """Both, each on a daemon of its own: schemathesis leaves nothing as it was."""
    examples, *seeds = [int(argument) for argument in arguments] or [EXAMPLES]
    shows: dict[str, Callable[[Daemon], None]] = {
        "curl": curl_everything,
        "fuzz": partial(fuzz_everything, examples=examples, seeds=seeds or SEEDS),
    }
    with short_directory() as state, MockNvml(state.parent / "nvml", library=build_library()) as mock:
        for name, show in shows.items():
            with Daemon(Path(f"{state}-{name}"), environ=mock.environment()) as daemon:
                daemon.event("flyball.directive.issued", lambda event: event.subject == "gpu0")
                show(daemon)
    print("nothing was otherwise than it must be")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
