"""Ties restarts to the runtime: commands and samples in; an argument list run, and an event of what came of it, out.

A command is begun only once it is known to be acknowledged, so that no crash makes it run twice: after a tick, by a
sample that came with a later read.
"""

import asyncio
from collections.abc import Sequence
from typing import ClassVar, Final

import msgspec

from handlers.restart import effects, policy
from handlers.restart.policy import Known, Moment, Outcome, Restarts
from handlers.restart.settings import Settings
from schemas.command import Command
from schemas.envelope import Event
from schemas.event import WorkloadRestarted
from schemas.sample import Sample
from supervisor.handler import Context, Decisions, Declared, Draft, Handler, Stream, read_snapshot, sample_of

_VERSION: Final = 1
_COMMAND: Final = "flyball.command.requested"
_RESTARTED: Final = "flyball.workload.restarted"
_SAID: Final = {
    "restarted": "{} was restarted", "failed": "the restart of {} failed", "refused": "{} was not restarted",
}  # fmt: skip


class Restarter(Handler):
    """Starts a declared workload anew by its own argument list, where its `may` allows it."""

    name: ClassVar[str] = "restart"
    streams: ClassVar[tuple[Stream, ...]] = ("commands", "samples", "events")
    types: ClassVar[frozenset[str]] = frozenset({_COMMAND, _RESTARTED, "flyball.host.sampled"})
    settings = Settings

    def __init__(self, settings: Settings, declared: Sequence[Declared]) -> None:
        self._settings = settings
        self._known = {one.name: Known(may=one.may, restart=one.restart) for one in declared}
        self._state = Restarts()
        #: whether something under way may be of an earlier life
        self._inherited = False
        #: workload → its processes in the latest full sample; None before there is one
        self._pids: dict[str, tuple[int, ...]] | None = None
        #: commands that were accepted and not begun → whether there was a tick since
        self._accepted: dict[str, bool] = {}
        self._running: dict[str, asyncio.Task[str]] = {}

    async def handle(self, event: Event, context: Context) -> Decisions | None:
        """Take a command for our host, look what a sample shows of the workloads, or hear what was said ourselves.

        :raises MalformedEntry: when it is none of them.
        """
        if context.stream == "commands":
            return self._command(event.decode(Command), context)
        if context.stream == "events":
            if event.source.partition("/")[0] == context.host:
                policy.told(self._state, event.decode(WorkloadRestarted).cause)
            return None
        sample = sample_of(event)
        ours = sample.host == context.host and sample.boot_id == context.boot_id
        if not ours or sample.scope != "full" or "processes" in sample.unread:
            return None
        self._pids = _by_workload(sample)
        for restart in self._state.under_way.values():
            if restart.pids_before is None:
                restart.pids_before = self._pids.get(restart.workload, ())
        if context.replaying:
            return None
        outcomes = self._look(context.wall_s)
        if context.entry:  # without one the bus is away, and what was accepted may come again
            self._begin(context.wall_s)
        return _decisions(outcomes, context)

    def tick(self, context: Context) -> Decisions | None:
        """Say what came of argument lists that have ended, and let what was accepted begin."""
        outcomes: list[Outcome] = []
        for restart in list(self._state.under_way.values()):
            task = self._running.get(restart.command)
            if restart.command in self._accepted:
                self._accepted[restart.command] = True
            elif task is not None and task.done():
                del self._running[restart.command]
                trouble = policy.NO_ANSWER if task.cancelled() else task.result()
                outcome = policy.ended(self._state, restart, trouble, context.wall_s)
                outcomes += [outcome] if outcome else []
        return _decisions(outcomes, context)

    def restated(self, context: Context) -> Decisions | None:
        """All that was said before is heard: what an earlier life left under way is followed to its end."""
        if self._inherited:
            self._inherited = False
            policy.resume(self._state, {*self._accepted, *self._running}, context.wall_s)
        return None

    def snapshot(self) -> bytes:
        """What is under way, and the budgets."""
        return msgspec.msgpack.encode(self._state)

    def restore(self, snapshot: bytes) -> None:
        """Take it up.

        :raises ValueError: when it is of another version or damaged.
        """
        self._state = read_snapshot(snapshot, Restarts, _VERSION)
        self._inherited = True

    def reconfigure(self, settings: Settings) -> bool:
        """Other budgets hold for the next command."""
        self._settings = settings
        return True

    # -- inside ----------------------------------------------------------------------------------------------------

    def _command(self, command: Command, context: Context) -> Decisions | None:
        if command.host != context.host or command.action != policy.ACTION:
            return None
        pids = None if self._pids is None else self._pids.get(command.target.removeprefix("workload."), ())
        moment = Moment(now_s=context.wall_s, pids=pids, dry_run=context.dry_run, trusted=context.trusted)
        outcome = policy.command(self._state, command, self._known, self._settings, moment)
        if context.replaying:
            self._inherited = True
        elif any(one.command == command.id and one.phase == "accepted" for one in self._state.under_way.values()):
            self._accepted.setdefault(command.id, False)
        return _decisions([outcome] if outcome else [], context)

    def _look(self, now_s: float) -> list[Outcome]:
        """What came of those whose argument list has ended."""
        outcomes: list[Outcome] = []
        for restart in list(self._state.under_way.values()):
            if restart.phase == "looking" and not self._inherited and self._pids is not None:
                pids = self._pids.get(restart.workload, ())
                outcome = policy.look(self._state, restart, pids, now_s, self._settings)
                outcomes += [outcome] if outcome else []
        return outcomes

    def _begin(self, now_s: float) -> None:
        for restart in self._state.under_way.values():
            if self._accepted.get(restart.command):
                del self._accepted[restart.command]
                policy.begin(self._state, restart, (self._pids or {}).get(restart.workload, ()), now_s)
                run = effects.run(self._known[restart.workload].restart, self._settings.timeout_s)
                self._running[restart.command] = asyncio.create_task(run, name=f"restart of {restart.workload}")


def _by_workload(sample: Sample) -> dict[str, tuple[int, ...]]:
    pids: dict[str, tuple[int, ...]] = {}
    for process in sample.processes:
        if process.workload and process.vms_bytes != 0:  # one that has ended and was not asked for yet has none
            pids[process.workload] = (*pids.get(process.workload, ()), process.pid)
    return pids


def _decisions(outcomes: Sequence[Outcome], context: Context) -> Decisions | None:
    if not outcomes:
        return None
    return Decisions(events=[_draft(one, context) for one in outcomes])


def _draft(outcome: Outcome, context: Context) -> Draft:
    restart = outcome.restart
    took_s = round(max(0.0, context.wall_s - restart.began_s), 3) if restart.began_s else None
    told = WorkloadRestarted(
        workload=restart.workload, outcome=outcome.outcome, reason=outcome.reason, cause=restart.command,
        pids_before=restart.pids_before or (), pids_after=outcome.pids_after, took_s=took_s, dry_run=context.dry_run,
    )  # fmt: skip
    text = f"{_SAID[outcome.outcome].format(restart.workload)}: {outcome.reason}"
    why = f" (asked for because {restart.reason})" if restart.reason else ""
    return Draft(_RESTARTED, restart.workload, text + why, told)
