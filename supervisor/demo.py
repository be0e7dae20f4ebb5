"""Where the demo lives, apart from what is real, and when a command speaks to it."""

from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from supervisor.config import Config
from supervisor.identity import host_name, is_alive, own_identity
from supervisor.paths import demo_path, state_directory
from supervisor.runtime.lock import Holder


class Supervision(Struct, frozen=True):
    """The supervisor that a command speaks to: the configuration and environment in which it is found."""

    config: Config
    environ: Mapping[str, str]
    demo: bool = False


def at_hand(config: Config, environ: Mapping[str, str]) -> Supervision:
    """This machine's supervisor; the demo's where that one runs and the other does not.

    A bus that is configured is never passed over for a demo.

    :raises StateDirectoryError: there is no place for the state directory.
    """
    state = state_directory(environ)
    demo = demo_path(state)
    if config.bus.url or is_held(state) is not False or is_held(demo) is not True:
        return Supervision(config, environ)
    return Supervision(apart(config), {**environ, "FLYBALL_STATE_DIR": str(demo)}, demo=True)


def apart(config: Config) -> Config:
    """The configuration of a demo: its own bus, and a name that no real program listens for."""
    host = replace(config.host, name=f"{host_name(config.host.name)[:59]}-demo")
    return replace(config, host=host, bus=replace(config.bus, url="", password_file=""))


def is_held(state: Path) -> bool | None:
    """Whether the supervisor of the state directory `state` lives, by its lock; None where that cannot be told.

    Its lock names it, is emptied at a clean stop, and is left behind by a kill.
    """
    try:
        text = (state / "lock").read_bytes()
        holder = msgspec.json.decode(text, type=Holder) if text else None
    except FileNotFoundError:
        return False
    except (OSError, msgspec.DecodeError):
        return None
    return is_alive(holder.identity, own_identity(state)) if holder else False
