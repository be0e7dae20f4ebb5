"""Programs that join, and entries that nobody can read."""

import time
from pathlib import Path
from typing import Final

from schemas.envelope import Event
from schemas.event import Acknowledged, HandlerFailed, Joined, Left
from schemas.sample import Sample
from schemas.status import Status, WorkloadStatus
from supervisor.bus.keys import commands_key, dead_key, inbox_key, samples_key
from tests.daemon import Daemon
from tests.mocknvml.control import MockNvml
from tests.program import Program

ACKNOWLEDGED: Final = "flyball.directive.acknowledged"


def row(status: Status, name: str) -> WorkloadStatus | None:
    """A workload in the status."""
    return next((workload for workload in status.workloads if workload.name == name), None)


def test_a_workload_joins_counts_and_leaves(state: Path) -> None:
    """The status shows it joined with its pid, targets and counters, and left when it says so."""
    with Daemon(state) as daemon, Program(daemon.workload_environ, gpus=(0, 1)) as program:
        joined = daemon.event("flyball.workload.joined").event.decode(Joined)
        assert (joined.workload, joined.pid) == ("trainer", program.pid)
        status = daemon.status_when(lambda status: (one := row(status, "trainer")) and one.counts.get("steps", 0) > 5)
        shown = row(status, "trainer")
        assert shown is not None
        assert (shown.state, shown.pids) == ("joined", (program.pid,))
        assert {"gpu0", "gpu1", "workload.trainer"} <= set(shown.targets)
        daemon.sample(
            lambda sample: "trainer" in [one.workload for one in sample.processes if one.pid == program.pid],
            after=daemon.position(samples_key()),
        )
        assert program.end() == 0
        left = daemon.event("flyball.workload.left").event.decode(Left)
        assert (left.workload, left.pid) == ("trainer", program.pid)
        daemon.status_when(lambda status: (one := row(status, "trainer")) and one.state == "left")


def test_a_workload_that_is_killed_has_left(state: Path) -> None:
    """It cannot say goodbye; its process is gone from three samples."""
    with Daemon(state, "[sampling]\ninterval_s = 0.3\n") as daemon, Program(daemon.workload_environ) as program:
        daemon.event("flyball.workload.joined")
        daemon.sample(lambda sample: any(process.workload == "trainer" for process in sample.processes))
        program.kill()
        left = daemon.event("flyball.workload.left").event.decode(Left)
        assert (left.pid, left.reason) == (program.pid, "its process ended")


def test_a_workload_finds_the_daemon_again(state: Path, mock: MockNvml) -> None:
    """A clean stop lets it go at full speed; after a restart it obeys what stands then, though its card is cool."""
    mock.set(0, temperature=78)
    with Daemon(state, environ=mock.environment()) as daemon, Program(daemon.workload_environ) as program:
        throttled = daemon.event(ACKNOWLEDGED, lambda event: is_applied(event, 0.5))
        assert daemon.terminate() == 0
        freed_s = program.next_step()
        time.sleep(1)  # its own speed is what is measured
        assert program.pace(freed_s, time.monotonic()).share > 0.9
        mock.set(0, temperature=70)  # above the hysteresis
        daemon.start()
        again = daemon.event(ACKNOWLEDGED, lambda event: is_applied(event, 0.5), after=throttled.id)
        assert again.event.decode(Acknowledged).seq > throttled.event.decode(Acknowledged).seq
        status = daemon.status_when(lambda status: (one := row(status, "trainer")) and "gpu0" in one.applied)
        shown = row(status, "trainer")
        assert shown is not None
        assert (shown.state, shown.pids) == ("joined", (program.pid,))


def is_applied(event: Event, speed: float) -> bool:
    """Whether a program says that it goes at this speed by the card's directive."""
    told = event.decode(Acknowledged)
    return (told.target, told.stage, told.speed) == ("gpu0", "applied", speed)


def test_malformed_entries_are_put_aside_and_the_rest_goes_on(state: Path) -> None:
    """Garbage in samples, inbox and commands: each in the dead-letter stream with the error, and nothing stops."""
    with Daemon(state, "[sampling]\ninterval_s = 0.3\n") as daemon:
        daemon.event("flyball.directive.issued")  # from here on samples are read; what came before is of no use
        client = daemon.redis()
        streams = {
            "samples": samples_key(),
            "inbox": inbox_key(),
            "commands": commands_key(daemon.host),
        }
        types = {
            "samples": "flyball.host.sampled",
            "inbox": "flyball.workload.join",
            "commands": "flyball.command.requested",
        }
        written: set[tuple[str, str]] = set()
        for stream, key in streams.items():
            for data in (b'{"host": 1, "workload": 2}', b"\xff{"):
                fields = {"id": f"bad-{len(written)}", "type": types[stream], "source": f"{daemon.host}/x"}
                fields |= {"subject": "gpu0", "time": "2026-11-21T12:00:00.000Z", "text": "bad"}
                written.add((stream, client.xadd(key, {**fields, "data": data}).decode()))
            written.add((stream, client.xadd(key, {"nonsense": b"\xff\x00"}).decode()))
        waiting = set(written)
        after = "0-0"
        while waiting:
            entry = daemon.event("flyball.handler.failed", after=after)
            after = entry.id
            failed = entry.event.decode(HandlerFailed)
            assert (failed.stream, failed.entry) in written
            assert failed.error
            waiting.discard((failed.stream, failed.entry))
        dead = client.xrange(dead_key())
        assert {(fields[b"stream"].decode(), fields[b"entry"].decode()) for _, fields in dead} == written

        with Program(daemon.workload_environ):
            daemon.event("flyball.workload.joined")
        daemon.entry(
            samples_key(), lambda event: event.decode(Sample).host == daemon.host, after=daemon.position(samples_key())
        )
        assert daemon.command("throttle", "host", "--for", "1m").returncode == 0
        assert all(handler.state == "running" for handler in daemon.status().handlers)
        assert all(handler.restarts == 0 for handler in daemon.status().handlers)
