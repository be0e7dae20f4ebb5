"""The three programs of `flyball demo`: real processes that obey through the SDK."""

import asyncio
import os
import sys
from asyncio.subprocess import Process
from typing import Final

#: Each program with the simulated cards that it claims.
PROGRAMS: Final = {"trainer": "0,1,2,3", "server": "4,5", "batch": "6,7"}
END_WITHIN_S: Final = 1.0


async def run_programs(url: str, host: str, stopping: asyncio.Event) -> None:
    """Run them on the bus at `url` until `stopping` is set or this is cancelled."""
    environment = {**os.environ, "FLYBALL_URL": url, "FLYBALL_HOST": host}
    programs: list[Process] = []
    try:
        for name, gpus in PROGRAMS.items():
            command = (sys.executable, "-m", "flyball.example", name, "--gpus", gpus)
            programs.append(
                await asyncio.create_subprocess_exec(
                    *command, env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=sys.stderr
                )
            )
        await stopping.wait()
    finally:
        await asyncio.gather(*(_end(program) for program in programs))


async def _end(program: Process) -> None:
    if program.returncode is not None:
        return
    program.terminate()
    try:
        async with asyncio.timeout(END_WITHIN_S):
            await program.wait()
    except TimeoutError:
        program.kill()
        await program.wait()
