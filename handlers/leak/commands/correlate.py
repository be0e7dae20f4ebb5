"""`flyball correlate`: what a recording of a program says about leaks, and what drives them."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from supervisor.command import FlyballError, as_json

if TYPE_CHECKING:
    from handlers.leak.commands.correlation.recording import Recording
    from handlers.leak.commands.correlation.report import Report


def _mapping(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """The last `=` divides, for names of columns may hold one."""
    pairs = [value.rpartition("=") for value in values]
    for (column, equals, role), value in zip(pairs, values, strict=True):
        if not (column and equals and role):
            raise click.BadParameter(f"{value!r} is not COLUMN=ROLE; write it as 'RSS (KiB)=rss'.", ctx, param)
    found = {column: role for column, _, role in pairs}
    if len(found) < len(pairs):
        raise click.BadParameter("a column is mapped twice.", ctx, param)
    return found


@click.command(epilog="\b\nExample: flyball correlate trace.csv --map Mem=rss:KiB --html report.html")
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE.csv[.gz]")
@click.option(
    "--map", "mapping", multiple=True, callback=_mapping, metavar="COLUMN=ROLE",
    help="Read a column, by name or number, as time, threads, rss, vms, handles, vram, calls, gauge or ignore, such "
    "as Mem=rss:KiB; may be given again.",
)  # fmt: skip
@click.option(
    "--html", type=click.Path(path_type=Path, dir_okay=False), metavar="OUT.html", help="Write a page with plots."
)
@click.option("--png", type=click.Path(path_type=Path, dir_okay=False), metavar="OUT.png", help="Write the main plot.")
@click.option(
    "--max-lag", "max_lag_s", type=click.FloatRange(0, 86_400), default=30.0, show_default=True, metavar="SECONDS",
    help="How far one column may come before another.",
)  # fmt: skip
@as_json
def command(
    file: Path, mapping: dict[str, str], html: Path | None, png: Path | None, max_lag_s: float, as_json: bool
) -> None:
    """Find out what drives the memory and threads of a recorded program.

    FILE is a table with a line a sample, as `flyball trace`, a monitoring script or a spreadsheet writes it. What
    each column is, is guessed from its name; sizes are in MB of 2**20 bytes, times in seconds.
    """
    import msgspec

    from handlers.leak.commands.correlation.page import page
    from handlers.leak.commands.correlation.report import analysed

    if html or png:
        from handlers.leak.commands.correlation.drawing import need_matplotlib

        need_matplotlib()
        _refuse_to_overwrite(file, html, png)
    recording, report = analysed(file, mapping, max_lag_s)
    files = _drawn(recording, report, html, png)
    for path, content in files.items():
        _write(path, content)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(report), indent=2))
    else:
        click.echo(page(recording, report, f"Written: {', '.join(map(str, files))}" if files else ""))


def _drawn(recording: "Recording", report: "Report", html: Path | None, png: Path | None) -> dict[Path, bytes]:
    """What is to be written where."""
    files: dict[Path, bytes] = {}
    if html:
        from handlers.leak.commands.correlation.document import document

        files[html] = document(recording, report).encode()
    if png:
        from handlers.leak.commands.correlation.drawing import png as picture
        from handlers.leak.commands.correlation.timeline import timeline

        files[png] = picture(lambda: timeline(recording, report, titled=True))
    return files


def _write(path: Path, content: bytes) -> None:
    """All of it or nothing; what is no file, such as a pipe, is written as it stands."""
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(content)
            return
        target = path.resolve()
        part = target.with_name(f".{target.name}.part")
        try:
            part.write_bytes(content)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise FlyballError(f"{path} cannot be written", why=error.strerror or str(error)) from error


def _refuse_to_overwrite(file: Path, *targets: Path | None) -> None:
    if any(target is not None and target.exists() and file.exists() and target.samefile(file) for target in targets):
        raise FlyballError(f"{file} is the recording", hint="Name another file for what is drawn")
    if None not in targets and len({target and target.resolve() for target in targets}) < len(targets):
        raise FlyballError("--html and --png name the same file", hint="Name two")
