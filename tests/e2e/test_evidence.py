"""A process is looked at because a command asks for it: from outside, and from inside where it uses the SDK."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from schemas.command import Command
from schemas.envelope import Event
from schemas.event import EvidenceGathered, Joined
from supervisor.bus.keys import commands_key
from supervisor.clock import rfc3339
from tests.daemon import ROOT, Daemon
from tests.handlers.evidence.hoarder import SOCKETS, THREADS, Hoarder
from tests.sdk.leaking import line_of

GATHERED = "flyball.evidence.gathered"


def ask(daemon: Daemon, id: str, target: str, **arguments: Any) -> None:
    """As the watch for leaks does."""
    command = Command(
        id=id, time=rfc3339(time.time()), ttl_s=30.0, host=daemon.host, issuer="leak", action="evidence",
        target=target, arguments=arguments,
    )  # fmt: skip
    event = Event(
        id, "flyball.command.requested", f"{daemon.host}/leak", target, command.time, "", msgspec.json.encode(command)
    )
    fields = event.fields()
    daemon.redis().xadd(commands_key(daemon.host), dict(zip(fields[::2], fields[1::2], strict=True)))


def answers(daemon: Daemon, command: str, count: int) -> list[tuple[str, EvidenceGathered]]:
    """What was said of it, once there is so much."""
    found: list[tuple[str, EvidenceGathered]] = []
    after = "0-0"
    while len(found) < count:
        entry = daemon.event(GATHERED, lambda event: event.decode(EvidenceGathered).command == command, after=after)
        after = entry.id
        found.append((entry.event.text, entry.event.decode(EvidenceGathered)))
    return found


def test_a_program_with_the_sdk_is_seen_from_outside_and_inside(state: Path) -> None:
    with Daemon(state) as daemon:
        words = [sys.executable, "-m", "tests.programs.leaker", "leaker"]
        with subprocess.Popen(
            words, cwd=ROOT, env=daemon.workload_environ, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        ) as leaker:
            try:
                joined = daemon.event("flyball.workload.joined").event.decode(Joined)
                ask(
                    daemon, "c1", "workload.leaker", pid=joined.pid, start_time_s=joined.start_time_s, resource="rss",
                    workload="leaker",
                )  # fmt: skip
                (outside_text, outside), (inside_text, inside) = answers(daemon, "c1", 2)
            finally:
                leaker.kill()
        print(f"{outside_text}\n{inside_text}")
        assert (outside.pid, outside.workload, outside.cause) == (leaker.pid, "leaker", "c1")
        assert "remember" in outside.stacks or "Gap._run" in outside.stacks
        assert outside.anonymous_bytes
        assert outside.missing == ()
        assert inside.allocations[0].where.endswith(f"leaker.py:{line_of('# remembered here')}")
        assert "__main__.Session" in {one.type for one in inside.objects}
        assert f"(pid {leaker.pid}) kept in " in inside_text
        states = {handler.name: handler.state for handler in daemon.status().handlers}
        assert states["evidence"] == "running"
        assert not daemon.events("flyball.handler.failed")


def test_any_program_is_seen_from_outside(state: Path, tmp_path: Path) -> None:
    with Daemon(state) as daemon, Hoarder(tmp_path) as hoarder:
        ask(daemon, "c1", "host", pid=hoarder.pid, start_time_s=hoarder.start_time_s)
        ((text, found),) = answers(daemon, "c1", 1)
        print(f"{text}; it took {found.took_s * 1000:.0f} ms")
        assert found.threads["lance-bg-*"] == THREADS
        assert found.handles["socket tcp CLOSE_WAIT"] == SOCKETS // 2
        assert f"({THREADS} × lance-bg-*)" in text
        ask(daemon, "c2", "host", pid=hoarder.pid, start_time_s=hoarder.start_time_s - 60)
        ((_, refused),) = answers(daemon, "c2", 1)
        assert "another process has the pid" in refused.missing[0]
        ask(daemon, "c3", "host", pid=os.getpid(), start_time_s=1.0)
        ask(daemon, "c4", "host", pid=2**30, start_time_s=1.0)
        ((_, nobody),) = answers(daemon, "c4", 1)
        assert nobody.missing == (f"nothing was looked at: there is no pid {2**30}",)
