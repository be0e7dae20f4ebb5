"""`flyball run`: the main job."""

from pathlib import Path
from typing import Any

import click

from supervisor.cli.options import configured, greet_in_json, sources


@click.command(epilog="Example: flyball run --set api.port=8471")
@click.option("--dry-run", is_flag=True, help="Say everything and do nothing.")
@greet_in_json
@configured
def command(dry_run: bool, as_json: bool, config_file: Path | None, flags: dict[str, Any]) -> int:
    """Look after this host: sample, decide, and tell the workloads.

    Starts a bus of its own where none is configured. Ctrl-C or SIGTERM ends it and withdraws what it demanded; so does
    the terminal from which it was started, when that is closed. SIGHUP has it read its configuration file again: what
    is wrong with it is said and changes nothing, and what cannot change while it runs holds from the next start.
    """
    from supervisor.runtime.main import run

    return run(sources(config_file, {"dry_run": dry_run or None, **flags}), demo=False, as_json=as_json)
