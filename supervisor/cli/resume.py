"""`flyball resume`: an operator ends an override, or lifts what the ladder demands."""

from pathlib import Path
from typing import Any

import click

from supervisor.cli.options import Duration, Share, as_json, configured, reason, target

_USUAL_S = 600.0


@click.command(epilog="Example: flyball resume gpu0")
@target
@click.option("--for", "for_s", type=Duration(), help="Lift what others demand, for this long.  [with --force: 10m]")
@click.option("--speed", type=Share(), help="Lift it to this share of full speed.  [1]")
@click.option("--force", is_flag=True, help="Lift it even where the target is BLIND or too hot; this is recorded.")
@reason
@as_json
@configured
def command(
    target: str,
    for_s: float | None,
    speed: float | None,
    force: bool,
    reason: str,
    as_json: bool,
    config_file: Path | None,
    flags: dict[str, Any],
) -> int:
    """Let TARGET run again: gpu0, gpu1 …, host or workload.NAME.

    Ends the override that stands there. With --for, --speed or --force it also lifts what others demand, for a while;
    without --force that is refused where the target is BLIND or in a thermal emergency. A card's fault stands again
    afterwards; --force says that an XID has been dealt with. Waits for the supervisor's answer: exits 1 if it refuses,
    3 if it does not answer.
    """
    from supervisor.cli.override import request

    lifts = force or for_s is not None or speed is not None
    wish = {"speed": 1.0 if speed is None else speed, "for_s": for_s or _USUAL_S} if lifts else {}
    arguments = {**wish, "force": force, "reason": reason}
    return request("resume", target, arguments, as_json=as_json, config_file=config_file, flags=flags)
