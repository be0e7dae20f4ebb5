"""The command `flyball`: finds the command that is asked for, and turns every error into one message and an exit code.

A command lives in a module of its own that exports `command`; only the one that is asked for is imported. Handlers
bring further commands by the entry point group `flyball.commands`, looked up when a word is not one of ours.
"""

import os
import sys
from typing import Any, Final, NoReturn

import click

from supervisor.errors import FlyballError

#: Each word with what it does; the module is `supervisor.cli.<word>`.
COMMANDS: Final = {
    "run": "Look after this host: sample, decide, and tell the workloads.",
    "demo": "The same on eight simulated cards, to look around without a GPU.",
    "status": "Show what this host looks like now.",
    "events": "Show what was decided or noticed.",
    "throttle": "Slow a target down for a while.",
    "pause": "Pause a target for a while.",
    "resume": "End an override, or lift what others demand for a while.",
    "check": "Examine Flyball itself; exit codes as Nagios reads them.",
    "sample": "Look at this machine once, without a supervisor.",
    "schemas": "Print or write the schemas of the wire.",
}
ENTRY_POINTS: Final = "flyball.commands"
#: What a shell reports for a program that SIGINT ended: 128 + 2.
_INTERRUPTED: Final = 130


class Commands(click.Group):
    """The table above, then what handlers bring."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Our own words, in the order in which people need them, then those that handlers bring."""
        return [*COMMANDS, *_brought_by_handlers()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the one that is asked for."""
        from importlib import import_module

        if cmd_name in COMMANDS:
            found: click.Command = import_module(f"supervisor.cli.{cmd_name}").command
            return found
        return _brought_by_a_handler(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the one that is asked for; a word that is none is answered with those that are like it."""
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as error:
            raise click.NoSuchCommand(error.command_name, possibilities=self.list_commands(ctx), ctx=ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the table without importing any of it, and of those that handlers bring what their help begins with."""
        with formatter.section("Commands"):
            formatter.write_dl([*COMMANDS.items(), *((word, _short_help(word)) for word in _brought_by_handlers())])


@click.command(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nExample: flyball status --json\nIn a checkout, ./flyball test runs every test.",
)
@click.version_option(package_name="flyball-supervisor", prog_name="flyball")
def flyball() -> None:
    """Keep GPU workloads inside their machine's limits."""


def main() -> NoReturn:
    """Run the command line and exit."""
    sys.exit(_run())


def _run() -> int:
    try:
        # not flyball(): that prints a line for Ctrl-C, and takes a closed pipe for a failure
        with flyball.make_context("flyball", sys.argv[1:]) as ctx:
            result: Any = flyball.invoke(ctx)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except FlyballError as error:
        click.echo(f"flyball: {error}", err=True)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    except BrokenPipeError:
        # whoever read us has seen enough; Python would complain once more when it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _brought_by_handlers() -> list[str]:
    from importlib.metadata import entry_points

    return sorted({entry.name for entry in entry_points(group=ENTRY_POINTS)} - COMMANDS.keys())


def _short_help(word: str) -> str:
    try:
        found = _brought_by_a_handler(word)
    except Exception as error:  # noqa: BLE001 - whatever it is that a stranger's module does, our help is shown
        return f"({error})"
    return "" if found is None else found.get_short_help_str(limit=100)


def _brought_by_a_handler(word: str) -> click.Command | None:
    from importlib.metadata import entry_points

    for entry in entry_points(group=ENTRY_POINTS, name=word):
        try:
            found: click.Command = entry.load()
        except ImportError as error:
            raise FlyballError(
                f"the command {word} cannot be loaded",
                why=str(error),
                hint=f"Reinstall what brings {entry.value}",
            ) from error
        return found
    return None


if __name__ == "__main__":
    main()
