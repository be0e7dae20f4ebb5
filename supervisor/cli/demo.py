"""`flyball demo`: the main job on simulated cards."""

from pathlib import Path
from typing import Any

import click

from supervisor.cli.options import configured, greet_in_json, sources


@click.command(epilog="Example: flyball demo")
@greet_in_json
@configured
def command(as_json: bool, config_file: Path | None, flags: dict[str, Any]) -> int:
    """Run on eight simulated cards with three workloads that obey, to look around without a GPU.

    Everything that it says is marked SIMULATED. It has a bus, a state directory and a host name of its own, beside
    those of a real supervisor; where none of those runs, the other commands speak to the demo.
    """
    from supervisor.runtime.main import run

    return run(sources(config_file, flags), demo=True, as_json=as_json)
