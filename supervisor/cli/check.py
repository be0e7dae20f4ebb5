"""`flyball check`: examines Flyball on this host, for people and for monitoring systems that speak Nagios."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import click
import msgspec
from msgspec import Struct

from schemas.status import SCHEMA_VERSION, Status
from supervisor.bus.keys import lease_key
from supervisor.cli.connection import connected
from supervisor.cli.latest import latest
from supervisor.cli.options import as_json, configured, supervision
from supervisor.cli.output import painted, state_colour, table
from supervisor.cli.pci import DEVICES, nvidia_cards
from supervisor.config import Config
from supervisor.errors import BusError, ConfigurationError, StateDirectoryError
from supervisor.identity import host_name

Level = Literal["OK", "WARNING", "CRITICAL", "UNKNOWN"]
#: Exit codes of a Nagios plugin: https://nagios-plugins.org/doc/guidelines.html#AEN78
EXIT_CODES: Final[dict[Level, int]] = {"OK": 0, "WARNING": 1, "CRITICAL": 2, "UNKNOWN": 3}
#: From the mildest to the worst; what nobody knows is worse than a warning.
_SEVERITY: Final[tuple[Level, ...]] = ("OK", "WARNING", "UNKNOWN", "CRITICAL")
#: A machine without a GPU is not ill; every other reason keeps a card from being looked after, and so does a missing
#: library where the PCI bus shows a card.
_NO_GPU_HERE: Final = frozenset({"nvml_library_not_found", "no_gpu"})
#: A target is BLIND after 3 intervals; so is a supervisor that has no newer sample.
_FRESH_INTERVALS: Final = 3
_AILING: Final[dict[str, Level]] = {"BLIND": "CRITICAL", "UNAVAILABLE": "UNKNOWN", "CRITICAL": "WARNING"}
#: Of targets in the same state so many are named in the first line.
_NAMED: Final = 3


class Finding(Struct, frozen=True):
    """One thing that was looked at."""

    name: str
    level: Level
    text: str


class Ailing(Finding, frozen=True):
    """A target that is not well; those in the same `state` are one phrase in the first line."""

    target: str
    state: str


@click.command(epilog="Example: flyball check || echo 'exit code' $?")
@as_json
@configured
def command(as_json: bool, config_file: Path | None, flags: Mapping[str, Any]) -> int:
    """Examine Flyball itself: bus, lease, sample, handlers, GPUs.

    Exits 0 OK, 1 WARNING, 2 CRITICAL or 3 UNKNOWN, as Nagios reads it; what cannot be seen is UNKNOWN, never OK.
    """
    findings: list[Finding]
    try:
        config, environ = supervision(config_file, flags)
        host = host_name(config.host.name)
        findings = list(examine(config, environ))
    except (ConfigurationError, StateDirectoryError) as error:
        host, findings = host_name(), [Finding("configuration", "CRITICAL", str(error))]
    worst = max((finding.level for finding in findings), key=_SEVERITY.index)
    if as_json:
        document = {"schema_version": SCHEMA_VERSION, "host": host, "level": worst, "findings": findings}
        click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2))
    else:
        click.echo(_page(host, worst, findings))
    return EXIT_CODES[worst]


def examine(config: Config, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Everything that is looked at, in the order in which one thing rests on another.

    :raises ConfigurationError: the configuration names files that cannot be used.
    """
    try:
        yield from _bus(config, environ)
        found = latest(config, environ)
    except BusError as error:
        yield Finding("bus", "CRITICAL", str(error))
        yield Finding("supervisor", "UNKNOWN", "the bus does not tell")
        return
    if found.status is None or found.state != "known":
        yield Finding("supervisor", "UNKNOWN", found.trouble)
        return
    yield _sample(found.status, found.age_s)
    yield from _handlers(found.status)
    yield examine_gpus(found.status)
    yield from _targets(found.status)
    yield from _problems(found.status)


def _bus(config: Config, environ: Mapping[str, str]) -> Iterator[Finding]:
    with connected(config.bus, environ) as connection:
        connection.ask("PING")
        yield Finding("bus", "OK", f"{connection.where} answers")
        expires_ms = connection.ask("HGET", lease_key(host_name(config.host.name), config.bus.shard), "expires_ms")
        seconds, microseconds = connection.ask("TIME")  # the lease runs by the server's clock
    left_s = int(expires_ms or 0) / 1000 - int(seconds) - int(microseconds) / 1e6
    if left_s > 0:
        yield Finding("lease", "OK", f"held, and ends in {left_s:.0f} s unless it is renewed")
    else:
        yield Finding("lease", "CRITICAL", "no supervisor holds the lease of this host; start one with `flyball run`")


def _sample(status: Status, reported_age_s: float | None) -> Finding:
    if status.sample_age_s is None or status.sample_interval_s is None or reported_age_s is None:
        return Finding("sample", "UNKNOWN", "there has been none yet")
    age_s = status.sample_age_s
    limit_s = _FRESH_INTERVALS * status.sample_interval_s
    fresh = age_s <= limit_s
    text = f"{age_s:.1f} s old when it was reported, {reported_age_s:.1f} s ago"
    return Finding(
        "sample", "OK" if fresh else "CRITICAL", text if fresh else f"{text}; expected {limit_s:g} s at most"
    )


def _handlers(status: Status) -> Iterator[Finding]:
    if not status.handlers:
        yield Finding("handlers", "UNKNOWN", "the supervisor names none")
    for one in status.handlers:
        healthy = one.state.startswith("running")  # also `running in process`, while the bus is away
        text = one.state + (f", last error: {one.last_error}" if one.last_error and not healthy else "")
        yield Finding(f"handler {one.name}", "OK" if healthy else "CRITICAL", text)


def examine_gpus(status: Status, devices: Path = DEVICES) -> Finding:
    """Whether cards are looked after, where there are any; `devices` is what the PCI bus tells."""
    backend = status.gpu_backend
    if backend.state == "ok":
        return Finding("gpu backend", "OK", f"{len(status.gpus)} cards" + (", SIMULATED" if status.simulated else ""))
    text = ": ".join(part for part in (backend.state, backend.reason, backend.hint) if part)
    if backend.reason == "nvml_library_not_found" and (cards := nvidia_cards(devices)):
        there = f"{len(cards)} NVIDIA {'card is' if len(cards) == 1 else 'cards are'} in this machine"
        return Finding("gpu backend", "CRITICAL", f"{there} ({', '.join(cards)}), not looked after: {text}")
    if backend.reason in _NO_GPU_HERE:
        return Finding("gpu backend", "OK", text)
    return Finding("gpu backend", "UNKNOWN" if backend.reason == "starting" else "CRITICAL", text)


def _targets(status: Status) -> Iterator[Finding]:
    for one in status.targets:
        name = f"target {one.target}"
        match one.state:
            case "BLIND" | "UNAVAILABLE" | "CRITICAL" as state:
                yield Ailing(name, _AILING[state], _reason(state, one.reason), target=one.target, state=state)
            case _:
                yield Finding(name, "OK", f"{one.state or 'no state of its own'}, speed {one.speed:.0%}")


def _problems(status: Status) -> Iterator[Finding]:
    """What the supervisor says is wrong; a fault that pauses its target is worse than a warning."""
    fatal = {fault.problem for faults in status.faults.values() for fault in faults if fault.fatal}
    for problem in status.problems:
        yield Finding("problem", "CRITICAL" if problem in fatal else "WARNING", problem)


def _reason(state: str, reason: str) -> str:
    """The reason, with the state that it is for said once."""
    bare = reason.removeprefix("SIMULATED: ")
    return reason if bare.startswith((f"{state}: ", f"{state} since ")) else f"{state}: {reason}"


def _guilty(findings: list[Finding]) -> Iterator[str]:
    """A phrase for each; many targets in one state are counted and the first of them named."""
    ailing: dict[str, list[Ailing]] = {}
    for finding in findings:
        if isinstance(finding, Ailing):
            ailing.setdefault(finding.state, []).append(finding)
        else:
            yield f"{finding.name}: {finding.text}"
    for state, several in ailing.items():
        if len(several) == 1:
            yield f"{several[0].name}: {several[0].text}"
        else:
            named = " ".join(one.target for one in several[:_NAMED])
            yield f"{len(several)} targets {state}: {named}" + (" …" if len(several) > _NAMED else "")


def _page(host: str, worst: Level, findings: list[Finding]) -> str:
    """The first line is all that Nagios shows, so it names what is worst."""
    guilty = _guilty([finding for finding in findings if finding.level == worst])
    summary = f"{len(findings)} checks on {host}" if worst == "OK" else "; ".join(guilty).replace("\n", " ")
    rows = ((finding.level, finding.name, finding.text) for finding in findings)
    return f"FLYBALL {painted(worst, state_colour(worst))} - {summary}\n" + table(("LEVEL", "WHAT", "FOUND"), rows)
