"""The options and arguments that several commands share, and the words they accept."""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from schemas.workload import TARGET_PATTERN
from supervisor.config import Config

if TYPE_CHECKING:
    from supervisor.configuration.layers import Sources

F = TypeVar("F", bound=Callable[..., Any])
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION: Final = re.compile(r"(?:\d+(?:\.\d+)?[smhd])+")


#: No override outlives a day; the operator's handler holds the same.
LONGEST_OVERRIDE_S: Final = 86_400.0


class Duration(click.ParamType[float]):
    """A length of time such as `90s`, `10m` or `1h30m`, in seconds, up to that of the longest override."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds."""
        text = str(value).strip().lower()
        parts = re.findall(r"[\d.]+[smhd]", text) if _DURATION.fullmatch(text) else []
        seconds = sum(float(part[:-1]) * _UNITS[part[-1]] for part in parts)
        if seconds <= 0:
            self.fail(f"{value!r} is not a duration; write it as 90s, 10m or 1h30m.", param, ctx)
        if seconds > LONGEST_OVERRIDE_S:
            self.fail(f"{value!r} is too long; the longest is {LONGEST_OVERRIDE_S / 3600:g}h.", param, ctx)
        return seconds


class Share(click.ParamType[float]):
    """A share of full speed, from 0 to 1."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number."""
        try:
            share = float(value)
        except ValueError:
            share = -1.0
        if not 0 <= share <= 1:  # so that NaN fails, too
            self.fail(f"{value!r} is not a share of full speed; write it as a number from 0 to 1.", param, ctx)
        return share


class TargetName(click.ParamType[str]):
    """`gpu0`…, `host` or `workload.<name>`."""

    name = "target"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The target as it stands in keys."""
        if not re.fullmatch(TARGET_PATTERN, str(value)):
            self.fail(f"{value!r} is not a target; targets are gpu0, gpu1 …, host and workload.NAME.", param, ctx)
        return str(value)


def _settings(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    for key, equals, _ in pairs:
        if not equals or not key:
            raise click.BadParameter(f"{key!r} is not KEY=VALUE; write it as api.port=8471.", ctx, param)
    return {key: value for key, _, value in pairs}


def configured(function: F) -> F:
    """`--config FILE` and `--set KEY=VALUE`, as the arguments `config_file` and `flags`."""
    file = click.option(
        "--config", "config_file", type=click.Path(path_type=Path), metavar="FILE",
        help="Read this configuration file (also: FLYBALL_CONFIG).",
    )  # fmt: skip
    flags = click.option(
        "--set", "flags", multiple=True, callback=_settings, metavar="KEY=VALUE",
        help="Set one key of the configuration, such as api.port=8471; may be given again.",
    )  # fmt: skip
    return file(flags(function))


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
greet_in_json = click.option("--json", "as_json", is_flag=True, help="Greet in one line of JSON.")
target = click.argument("target", type=TargetName())
reason = click.option("--reason", default="", metavar="TEXT", help="Why; it stands in the event and in the directive.")
force = click.option("--force", is_flag=True, help="Ask it even of a card that the supervisor has never heard of.")


def supervision(config_file: Path | None, flags: Mapping[str, Any]) -> tuple[Config, Mapping[str, str]]:
    """The configuration and environment of the supervisor to speak to; on standard error where that is the demo's.

    :raises ConfigurationError: with every problem. :raises StateDirectoryError: see `supervisor.demo.at_hand`.
    """
    from supervisor.demo import at_hand

    found = at_hand(configuration(config_file, flags), os.environ)
    if found.demo:
        click.echo(f"(demo) {found.config.host.name}, on simulated cards; no other supervisor runs here", err=True)
    return found.config, found.environ


def configuration(config_file: Path | None, flags: Mapping[str, Any]) -> Config:
    """The configuration of this process; the sections of handlers are left unread.

    :raises ConfigurationError: with every problem.
    """
    from supervisor.configuration.layers import load

    return load(environ=os.environ, sections=None, path=config_file, flags=flags)


def sources(config_file: Path | None, flags: Mapping[str, Any]) -> "Sources":
    """Where a supervisor reads its configuration, as often as it is asked to.

    :raises FlyballError: a handler is installed that cannot be used.
    """
    from supervisor.configuration.layers import Sources
    from supervisor.installed import handler_sections

    return Sources(environ=dict(os.environ), sections=handler_sections(), path=config_file, flags=flags)
