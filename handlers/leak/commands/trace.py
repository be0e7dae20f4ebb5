"""`flyball trace`: samples one program with its counters, writes the rows, and says at the end whether it leaks."""

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from supervisor.command import as_json

if TYPE_CHECKING:
    from supervisor.command import CounterSection

_LEAST_INTERVAL_S: Final = 0.05
_LONGEST_S: Final = 30 * 86_400.0
_UNITS: Final = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_SPAN: Final = re.compile(r"(?P<number>\d+(?:\.\d+)?|\.\d+)(?P<unit>ms|[smhd]?)", re.ASCII)


class Span(click.ParamType[float]):
    """A length of time in seconds: `90`, `90s`, `0.5`, `50ms`, `10m`, `2h`."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds."""
        found = _SPAN.fullmatch(str(value).strip().lower())
        if found is None:
            self.fail(f"{value!r} is not a length of time; write it as 90, 90s, 50ms or 10m.", param, ctx)
        seconds = float(found["number"]) * _UNITS[found["unit"]]
        if not _LEAST_INTERVAL_S <= seconds <= _LONGEST_S:
            self.fail(f"{value!r} is outside of 50ms to 30d.", param, ctx)
        return seconds


def _pairs(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    for (name, _, where), value in zip(pairs, values, strict=True):
        if not name or not where:
            raise click.BadParameter(
                f"{value!r} is not NAME=PATH; write it as completed=result.completedCount.", ctx, param
            )
    return {name: where for name, _, where in pairs}


@click.command(
    context_settings={"allow_interspersed_args": False},  # so that -- may be left out
    epilog="\b\nExample: flyball trace --interval 0.5 -- python serve.py\n"
    "         flyball trace --pid 4711 --status-url http://127.0.0.1:8080/status --count done=result.completedCount",
)
@click.option("--pid", type=click.IntRange(min=1), metavar="PID", help="Trace this process.")
@click.option("--interval", type=Span(), default="1", show_default=True, help="Time between two looks; 50ms at least.")
@click.option("--duration", type=Span(), help="Stop after this time; otherwise when the process ends, or at Ctrl-C.")
@click.option(
    "--output", "-o", type=click.Path(dir_okay=False, path_type=Path, allow_dash=True), metavar="FILE",
    help="CSV to write; - is standard output.  [default: trace-YYYYMMDD-HHMMSS.csv]",
)  # fmt: skip
@click.option("--status-url", metavar="URL", help="Ask this JSON resource for counters.")
@click.option("--status-body", metavar="JSON", default="", help="What is POSTed to it, such as a JSON-RPC request.")
@click.option("--metrics-url", metavar="URL", help="Ask this Prometheus page for counters.")
@click.option(
    "--count", "counts", multiple=True, callback=_pairs, metavar="NAME=PATH",
    help="A cumulative count: its path in the JSON (result.completedCount), or the metric; may be given again.",
)  # fmt: skip
@click.option(
    "--gauge", "gauges", multiple=True, callback=_pairs, metavar="NAME=PATH", help="A level, in the same way."
)
@click.option(
    "--authorization-file", default="", metavar="FILE", help="What stands in the header Authorization, from this file."
)
@click.option(
    "--lines", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Follow the performance lines (JSON) that a program appends to this file.",
)  # fmt: skip
@click.option("--quiet", is_flag=True, help="Show no progress.")
@as_json
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND …]")
def command(
    pid: int | None,
    interval: float,
    duration: float | None,
    output: Path | None,
    status_url: str | None,
    status_body: str,
    metrics_url: str | None,
    counts: dict[str, str],
    gauges: dict[str, str],
    authorization_file: str,
    lines: Path | None,
    quiet: bool,
    as_json: bool,
    command: tuple[str, ...],
) -> int:
    """Trace a program: memory, threads, handles, and what drives them.

    Give --pid PID, or -- and a COMMAND. What the command prints passes through, except for its performance lines on
    standard error, which are counted: {"type": "performance", "method_calls": {"add": 3}}. What it leaves in the
    background loses its standard error. Ctrl-C is the command's; a second one within 2 s ends it, as the end of
    --duration does. Figures are the sums of the process and its children; pages that they share count in each.

    The exit code is the command's, as with time(1); 128 + N where signal N ended it; with --pid it is 0. It is 1 where
    the rows could not all be written.
    """
    if (pid is None) == (not command):
        wrong = "both --pid and a command" if command else "neither --pid nor a command"
        raise click.UsageError(f"There is {wrong}; give one, as in: flyball trace -- python serve.py")
    if str(output) == "-" and as_json:
        raise click.UsageError("--json and --output - would both use standard output; name a file.")
    sections = [
        *_asked(status_url, status_body, metrics_url, counts, gauges, authorization_file, interval),
        *([_section(interval, kind="lines", file=str(lines))] if lines is not None else []),
    ]
    return _traced(
        pid, command, interval, duration, _path(output), sections, (counts, gauges), quiet=quiet, as_json=as_json
    )


def _asked(
    status_url: str | None,
    status_body: str,
    metrics_url: str | None,
    counts: dict[str, str],
    gauges: dict[str, str],
    authorization_file: str,
    interval_s: float,
) -> "list[CounterSection]":
    """The resource to ask for `counts` and `gauges`, if any."""
    if status_url is not None and metrics_url is not None:
        raise click.UsageError("--status-url and --metrics-url exclude each other.")
    if status_body and status_url is None:
        raise click.UsageError("--status-body needs --status-url.")
    url = status_url or metrics_url
    if url is None:
        if counts or gauges or authorization_file:
            what = "--count and --gauge need" if counts or gauges else "--authorization-file needs"
            raise click.UsageError(f"{what} --status-url or --metrics-url to be asked.")
        return []
    if not counts and not gauges:
        raise click.UsageError(
            "A URL alone tells nothing: name what to read with --count NAME=PATH or --gauge NAME=PATH."
        )
    if not url.startswith(("http://", "https://")):
        raise click.UsageError(f"{url!r} is no address that can be asked; it begins with http:// or https://.")
    kind = "prometheus" if status_url is None else "json"
    settings = {"kind": kind, "url": url, "body": status_body, "authorization_file": authorization_file}
    return [_section(interval_s, **settings, counts=counts, gauges=gauges)]


def _section(interval_s: float, **settings: object) -> "CounterSection":
    """The settings of a source, checked as those of the configuration are."""
    import msgspec

    from supervisor.command import CounterSection

    try:
        section = msgspec.convert({**settings, "every_s": min(max(interval_s, 0.2), 5.0)}, CounterSection)
    except msgspec.ValidationError as error:
        raise click.UsageError(f"The source of counters cannot be used: {error}.") from error
    if problems := section.problems():
        raise click.UsageError(f"The source of counters cannot be used: {'; '.join(problems)}.")
    return section


def _path(output: Path | None) -> Path | None:
    """None is standard output."""
    if output is None:
        return Path(time.strftime("trace-%Y%m%d-%H%M%S.csv"))
    return None if str(output) == "-" else output


def _traced(
    pid: int | None,
    command: tuple[str, ...],
    interval_s: float,
    duration_s: float | None,
    path: Path | None,
    sections: "list[CounterSection]",
    names: tuple[dict[str, str], dict[str, str]],
    *,
    quiet: bool,
    as_json: bool,
) -> int:
    import asyncio
    import logging
    import sys

    import msgspec

    from handlers.leak.commands.tracing.csvfile import TraceFile, counted_column, gauge_column
    from handlers.leak.commands.tracing.progress import Progress
    from handlers.leak.commands.tracing.session import Plan, trace
    from handlers.leak.commands.tracing.summary import summary, text
    from supervisor.command import FlyballError, SystemClock, counter_source

    if not sys.platform.startswith("linux"):
        raise FlyballError(
            "this system has no /proc", why="a trace reads it", hint="flyball correlate reads a CSV from anywhere"
        )
    logging.getLogger("supervisor").addHandler(logging.NullHandler())  # what is wrong is said on standard error
    sources = tuple(counter_source(section, SystemClock()) for section in sections)
    file = TraceFile(path, [*map(counted_column, names[0]), *map(gauge_column, names[1])])
    progress = Progress(quiet=quiet)
    plan = Plan(pid=pid, command=command, interval_s=interval_s, duration_s=duration_s, sources=sources)
    try:
        result = asyncio.run(trace(plan, file, progress))
    except BaseException:
        if not file.rows:
            file.discard()
        raise
    finally:
        progress.clear()
        file.finish()
    if not result.seen.looks:
        file.discard()
    found = summary(result, file, interval_s)
    if as_json:
        click.echo(msgspec.json.encode(found))
    else:
        # standard output is the command's, or the rows'
        click.echo("\n".join(text(found, file.shown)), err=bool(command) or path is None)
    return result.exit_code or int(bool(file.trouble) and not file.deserted)
