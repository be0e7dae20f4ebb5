"""The whole daemon starts a declared program anew, and does nothing that anybody may have asked for."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from schemas.command import Command
from schemas.event import WorkloadRestarted
from supervisor.bus.keys import commands_key
from supervisor.clock import rfc3339
from supervisor.config import BusSection
from tests.busservers import start_bus_server
from tests.daemon import Daemon, short_directory
from tests.handlers.samples import event

_CONFIG = """
sampling.interval_s = 0.2
[[workload]]
name = "search"
match.pidfile = "{pidfile}"
restart = ["sh", "-c", "kill $(cat {pidfile}); sleep 300 >/dev/null 2>&1 & echo $! > {pidfile}"]
may = ["restart"]
"""


@contextmanager
def _program(place: Path) -> Iterator[Path]:
    """A program with a pidfile; whoever is named there at the end is ended."""
    pidfile = place / "pid"
    first = subprocess.Popen(["sleep", "300"])
    pidfile.write_text(f"{first.pid}\n")
    try:
        yield pidfile
    finally:
        with suppress(ProcessLookupError):
            os.kill(int(pidfile.read_text()), signal.SIGKILL)
        first.kill()
        first.wait()


def _ask(daemon: Daemon) -> WorkloadRestarted:
    command = Command(
        id="c1", time=rfc3339(time.time()), ttl_s=30.0, host=daemon.host, issuer="test", action="restart",
        target="workload.search",
    )  # fmt: skip
    fields = event("flyball.command.requested", command, id="c1", source="test").fields()
    daemon.redis().xadd(commands_key(daemon.host), dict(zip(fields[::2], fields[1::2], strict=True)))
    return daemon.event("flyball.workload.restarted").event.decode(WorkloadRestarted)


def test_a_declared_program_is_started_anew(tmp_path: Path) -> None:
    with _program(tmp_path) as pidfile, short_directory() as state:
        before = int(pidfile.read_text())
        with Daemon(state, _CONFIG.format(pidfile=pidfile)) as daemon:
            daemon.sample(lambda sample: before in [one.pid for one in sample.processes if one.workload == "search"])
            told = _ask(daemon)
    assert (told.outcome, told.pids_before, told.pids_after) == ("restarted", (before,), (int(pidfile.read_text()),))


@pytest.mark.parametrize(
    ("environ", "why"),
    [({"FLYBALL_DRY_RUN": "true"}, "this is a dry run"), ({"FLYBALL_BUS__URL": ""}, "asks for no password")],
)
def test_nothing_is_done_in_a_dry_run_or_on_a_bus_for_everybody(
    tmp_path: Path, environ: dict[str, str], why: str
) -> None:
    with _program(tmp_path) as pidfile, short_directory() as state, start_bus_server("embedded") as server:
        before = pidfile.read_text()
        if "FLYBALL_BUS__URL" in environ:
            environ = {"FLYBALL_BUS__URL": server.url}
        with Daemon(state, _CONFIG.format(pidfile=pidfile), environ=environ) as daemon:
            told = _ask(daemon)
        assert (told.outcome, pidfile.read_text()) == ("refused", before)
        assert why in told.reason


@pytest.mark.parametrize(
    ("bus", "guarded"),
    [
        (BusSection(), True),
        (BusSection(url="redis://box:6379"), False),
        (BusSection(url="redis://flyball@box"), False),
        (BusSection(url="redis://flyball:secret@box"), True),
        (BusSection(url="rediss://box", password_file="/etc/p"), True),
    ],
)
def test_a_bus_is_guarded_by_its_password_or_by_being_our_own(bus: BusSection, guarded: bool) -> None:
    assert bus.is_guarded is guarded
