"""`flyball run`: the main job."""

from pathlib import Path
from typing import Any

import click

from supervisor.cli.options import configuration, configured, greet_in_json


@click.command(epilog="Example: flyball run --set api.port=8471")
@click.option("--dry-run", is_flag=True, help="Say everything and do nothing.")
@greet_in_json
@configured
def command(dry_run: bool, as_json: bool, config_file: Path | None, flags: dict[str, Any]) -> int:
    """Look after this host: sample, decide, and tell the workloads.

    Starts a bus of its own where none is configured. Ctrl-C or SIGTERM ends it and withdraws what it demanded.
    """
    from supervisor.installed import handler_sections
    from supervisor.runtime.main import run

    config = configuration(config_file, {"dry_run": dry_run or None, **flags}, handler_sections())
    return run(config, demo=False, as_json=as_json)
