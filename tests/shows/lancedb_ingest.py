"""A real ingestion into LanceDB, to be traced: adds sections in a loop, searches now and then, and counts what it does.

It needs the package lancedb, which Flyball does not, so in an environment of its own:

    python3 -m venv /tmp/lance && /tmp/lance/bin/pip install lancedb
    flyball trace --duration 90 -- /tmp/lance/bin/python tests/shows/lancedb_ingest.py --seconds 90
    flyball correlate trace-….csv

With `--leak` each call keeps a thread that waits for ever, as the server of the thread study did. With
`--compact-every 100` the table is compacted after so many calls, with `--cache-mib 8` its caches are bounded.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from datetime import timedelta

DIMENSIONS = 128
SECTIONS_A_CALL = 20
SEARCH_EVERY = 5


def main() -> None:
    """Ingest for so many seconds, and tell on standard error what was done."""
    words = argparse.ArgumentParser(description=main.__doc__)
    words.add_argument("--seconds", type=float, default=60.0)
    words.add_argument("--calls-a-second", type=float, default=8.0)
    words.add_argument("--leak", action="store_true", help="keep a thread of each call")
    words.add_argument("--compact-every", type=int, default=0, metavar="CALLS")
    words.add_argument("--cache-mib", type=int, default=0)
    asked = words.parse_args()
    os.environ.setdefault("LANCEDB_DISABLE_TELEMETRY", "1")
    try:
        import lancedb  # type: ignore[import-not-found]  # not among our dependencies
    except ImportError:
        sys.exit("This show needs lancedb: python3 -m venv /tmp/lance && /tmp/lance/bin/pip install lancedb")
    calls: Counter[str] = Counter()
    chance = random.Random(7)
    never = threading.Event()
    with tempfile.TemporaryDirectory(prefix="lancedb-") as directory:
        bound = asked.cache_mib * 2**20
        session = lancedb.Session(bound, bound) if bound else None
        table = lancedb.connect(directory, session=session).create_table("sections", data=_sections(chance, 1))
        begin, period, busy = time.monotonic(), 0.0, 1.0
        while (elapsed := time.monotonic() - begin) < asked.seconds:
            table.add(_sections(chance, SECTIONS_A_CALL))
            calls["add_sections"] += 1
            if asked.leak:
                threading.Thread(target=never.wait, daemon=True).start()
            if calls["add_sections"] % SEARCH_EVERY == 0:
                table.search(_vector(chance)).limit(5).to_list()
                calls["search"] += 1
            if asked.compact_every and calls["add_sections"] % asked.compact_every == 0:
                table.optimize(cleanup_older_than=timedelta())
                calls["optimize"] += 1
            _tell(calls)
            # at a pace that changes each 10 s, so that calls can be told from time
            busy = chance.uniform(0.3, 1.7) if elapsed // 10 != period else busy
            period = elapsed // 10
            time.sleep(1 / (busy * asked.calls_a_second))
    print(f"{calls['add_sections']} calls of add, {calls['search']} searches")


def _sections(chance: random.Random, count: int) -> list[dict[str, object]]:
    return [
        {"id": chance.getrandbits(48), "text": f"section {chance.random()} " * 20, "vector": _vector(chance)}
        for _ in range(count)
    ]


def _vector(chance: random.Random) -> list[float]:
    return [chance.random() for _ in range(DIMENSIONS)]


def _tell(calls: Counter[str]) -> None:
    line = {
        "type": "performance",
        "threads": threading.active_count(),
        "method_calls": dict(calls),
        "requests": {"completed": calls.total(), "processing": 0, "pending": 0},
    }
    print(json.dumps(line), file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
