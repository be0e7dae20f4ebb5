"""`flyball schemas`: lists the schemas of the wire, and writes or checks what is generated from them and the routes."""

import click

from schemas.publish import ROOT, TYPES, documents, json_schema
from supervisor.cli.options import as_json
from supervisor.cli.output import table
from supervisor.errors import FlyballError

STALE = 1


@click.command(epilog="Example: flyball schemas --json | jq '.\"flyball.directive\"'")
@click.option("--write", is_flag=True, help="Write the generated files into this checkout.")
@click.option("--check", is_flag=True, help="Name the generated files that are stale; exit code 1 if there are any.")
@as_json
def command(write: bool, check: bool, as_json: bool) -> int:
    """Print or write the schemas of the wire.

    Without an option it lists the types that travel between Flyball's programs; with --json it prints their schemas.
    """
    if not write and not check:
        _show(as_json)
        return 0
    source = ROOT / "schemas" / "workload.py"
    if not (ROOT / "sdk").is_dir():
        raise FlyballError(
            "the generated files are not here",
            why=f"{ROOT} is an installation, not a checkout of Flyball",
            hint="Run it in a checkout: ./flyball schemas --check",
        )
    wanted = generated(source.read_text())
    stale = [path for path, text in wanted.items() if not (ROOT / path).exists() or (ROOT / path).read_text() != text]
    if write:
        for path in stale:
            (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / path).write_text(wanted[path])
    _report(stale, "written" if write else "stale", as_json)
    return STALE if stale and not write else 0


def generated(workload_source: str) -> dict[str, str]:
    """Every generated file: those of the wire, and those of the API."""
    from supervisor.api.published import documents as documents_of_api

    return documents(workload_source) | documents_of_api()


def _show(as_json: bool) -> None:
    """Every type, or every schema."""
    if as_json:
        import msgspec

        schemas = {name: json_schema(name) for name in TYPES}
        click.echo(msgspec.json.format(msgspec.json.encode(schemas), indent=2))
    else:
        rows = [(name, kind.__name__, (kind.__doc__ or "").strip().splitlines()[0]) for name, kind in TYPES.items()]
        click.echo(table(("TYPE", "STRUCT", "WHAT IT IS"), rows))


def _report(paths: list[str], done: str, as_json: bool) -> None:
    """Which files were stale or written."""
    if as_json:
        import msgspec

        click.echo(msgspec.json.encode({done: paths}))
    elif paths:
        click.echo("\n".join(f"{done}: {path}" for path in paths))
        if done == "stale":
            click.echo("Write them with: ./flyball schemas --write")
    else:
        click.echo("Every generated file is up to date.")
