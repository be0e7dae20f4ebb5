"""The main job, from a configuration to an exit code."""

import asyncio
import logging
import os
import sys

from supervisor.configuration.kept import Kept
from supervisor.configuration.layers import Sources
from supervisor.configuration.stack import Stack
from supervisor.demo import apart
from supervisor.errors import FlyballError
from supervisor.identity import own_identity
from supervisor.paths import demo_directory, demo_path, prepared_state_directory, state_directory
from supervisor.runtime.daemon import Daemon
from supervisor.runtime.lock import StateLock


def run(sources: Sources, *, demo: bool = False, as_json: bool = False) -> int:
    """Look after this host until SIGTERM or SIGINT; returns the exit code. `as_json`: greet in JSON.

    A demo never speaks where real programs listen: it has a state directory, a bus and a host name of its own.

    :raises FlyballError: what keeps it from starting, or from going on.
    """
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format=f"%(asctime)s {'SIMULATED ' if demo else ''}%(levelname)s %(message)s",
    )
    state = state_directory(os.environ)
    stack = Stack.read(sources, Kept(demo_path(state) if demo else state))
    state = prepared_state_directory(os.environ)
    if demo:
        state = demo_directory(state)
    config = apart(stack.config) if demo else stack.config
    identity = own_identity(state, config.host.name)
    with StateLock(state, identity):
        daemon = Daemon(stack, state=state, identity=identity, demo=demo, as_json=as_json)
        try:
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                runner.run(daemon.run())
        except BaseExceptionGroup as group:
            raise _first_of_ours(group) from group
    return 0


def _loop_factory() -> "type[asyncio.AbstractEventLoop] | None":
    try:
        import uvloop
    except ImportError:  # not on Windows
        return None
    loop: type[asyncio.AbstractEventLoop] = uvloop.Loop
    return loop


def _first_of_ours(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that explains the end; what is no error of ours is a bug and keeps its traceback."""
    ours = group.subgroup(FlyballError)
    error: BaseException = ours or group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
