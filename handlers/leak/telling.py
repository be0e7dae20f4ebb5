"""Collects what follows from one input: events, demands, and requests for evidence and restarts."""

from typing import Final

from handlers.leak.report import report
from handlers.leak.standing import Leak, Said, Standing, asks
from handlers.leak.units import rfc3339
from handlers.leak.wording import Wall, sentence
from schemas.command import Command
from schemas.demand import Demand
from schemas.envelope import event_id
from schemas.leak import Exhaustion
from schemas.workload import checked_name
from supervisor.handler import Context, Decisions, Draft, Withdrawal

ISSUER: Final = "leak"
#: How long a request may wait to be carried out.
COMMAND_TTL_S: Final = 30.0


class Telling:
    """What follows from one input."""

    def __init__(self, context: Context, cause: str, critical_s: float) -> None:
        """`cause` is the id of the input."""
        self.context = context
        self.demands: list[Demand | Withdrawal] = []
        self._cause = cause
        self._critical_s = critical_s
        self._events: list[Draft] = []
        self._commands: list[Command] = []

    def say(self, said: Said, leak: Leak, known: Exhaustion | None, wall: Wall, why: str = "") -> None:
        """An event; `why` it is cleared, where it is not steady."""
        told = report(said, leak, known, wall, critical_s=self._critical_s, cause=self._cause)
        text = sentence(said, leak, known, wall, why)
        self._events.append(Draft(f"flyball.leak.{said}", leak.who.workload or leak.who.leak, text, told))

    def ask_evidence(self, leak: Leak, standing: Standing, now_s: float) -> None:
        """Have somebody look into the process; the answer bears the command's id, which is the same in every replay."""
        id = self._id(f"{leak.id}/{leak.said_s}/evidence/{leak.stage}")
        if not leak.who.pid or not asks(standing, leak, id, now_s):
            return
        arguments: dict[str, object] = {
            "pid": leak.who.pid, "start_time_s": leak.who.start_time_s, "resource": leak.resource,
            "workload": leak.who.workload,
        }  # fmt: skip
        self._commands.append(self._command(id, "evidence", _target(leak.who.workload), arguments))

    def ask_restart(self, workload: str, leaks: list[str], moment: str) -> None:
        """Have a workload started anew."""
        id = self._id(f"{workload}/{'+'.join(leaks)}/restart")
        reason = f"it leaks; {moment}"
        self._commands.append(self._command(id, "restart", f"workload.{workload}", {"reason": reason}))

    def decisions(self) -> Decisions | None:
        """All of it."""
        if not (self._events or self.demands or self._commands):
            return None
        return Decisions(events=self._events, demands=self.demands, commands=self._commands)

    def _id(self, what: str) -> str:
        return event_id(f"{self.context.host}/{ISSUER}", f"{self.context.boot_id}/{what}", 0)

    def _command(self, id: str, action: str, target: str, arguments: dict[str, object]) -> Command:
        return Command(
            id=id, time=rfc3339(self.context.wall_s), ttl_s=COMMAND_TTL_S, host=self.context.host, issuer=ISSUER,
            action=action, target=target, arguments=arguments, cause=self._cause,
        )  # fmt: skip


def _target(workload: str) -> str:
    """What begins with `@` is a reservation's name, and no workload's."""
    try:
        return f"workload.{checked_name(workload)}"
    except ValueError:
        return "host"
