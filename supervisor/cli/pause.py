"""`flyball pause`: an operator pauses a target."""

from pathlib import Path
from typing import Any

import click

from supervisor.cli.options import Duration, as_json, configured, force, reason, target


@click.command(epilog="Example: flyball pause workload.trainer --for 10m")
@target
@click.option("--for", "for_s", type=Duration(), default="10m", show_default=True, help="How long; it ends by itself.")
@force
@reason
@as_json
@configured
def command(
    target: str, for_s: float, force: bool, reason: str, as_json: bool, config_file: Path | None, flags: dict[str, Any]
) -> int:
    """Pause TARGET for a while: gpu0, gpu1 …, host or workload.NAME.

    Waits for the supervisor's answer: exits 1 if it refuses, 3 if it does not answer.
    """
    from supervisor.cli.override import request

    arguments = {"speed": 0.0, "for_s": for_s, "force": force, "reason": reason}
    return request("pause", target, arguments, as_json=as_json, config_file=config_file, flags=flags)
