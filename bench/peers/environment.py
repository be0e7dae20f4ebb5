"""Finds the interpreter of `.venv-bench` and talks with a peer's program: a JSON line in, a JSON line out."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

_ROOT: Final = Path(__file__).parents[2]
HOW_TO: Final = "python3 -m venv .venv-bench && .venv-bench/bin/pip install --require-hashes -r requirements/bench.lock"
#: An answer may hold the latencies of a whole round.
_LINE_MOST: Final = 16 << 20


def program(name: str) -> Path | None:
    """A program of `.venv-bench`, such as `python`; None, and a line on standard error, where it is not there."""
    path = _ROOT / ".venv-bench" / "bin" / name
    if path.exists():
        return path
    print(f"peer missing: {name} of .venv-bench; make it with\n  {HOW_TO}", file=sys.stderr)
    return None


class Peer:
    """A program that does one thing for each line that it is given."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def ask(self, request: object) -> Any:
        """Its answer.

        :raises EOFError: it ended instead.
        """
        assert self._process.stdin is not None and self._process.stdout is not None, "both are pipes"
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        line = await self._process.stdout.readline()
        if not line:
            raise EOFError("the peer ended; what it said stands above")
        return json.loads(line)


@asynccontextmanager
async def peer(
    script: str, *arguments: str, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Peer | None]:
    """The program `bench/peers/<script>.py`, while it runs; None where its environment is missing."""
    python = program("python")
    if python is None:
        yield None
        return
    process = await asyncio.create_subprocess_exec(
        python, _ROOT / "bench" / "peers" / f"{script}.py", *arguments, env={**os.environ, **(environment or {})},
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=_LINE_MOST,
    )  # fmt: skip
    try:
        yield Peer(process)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
